"""`doctor --seal`: the one way by which a folder that was changed on purpose is sealed again."""

import json
from pathlib import Path

import pytest

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.model.manifest import MANIFEST_NAME, read_manifest, write_manifest
from hf_vanilla_transformer.translation import load_model_and_tokenizer


def doctor(folder: Path, *options: str) -> int:
    return main(["doctor", "--model", str(folder), "--text", "merci", *options])


def edit(folder: Path, name: str = "generation_config.json", **changes: object) -> None:
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps({**content, **changes}), encoding="utf-8")


def test_a_folder_without_manifest_is_sealed(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "README.md").write_text("my model")
    assert doctor(folder, "--seal") == 0
    assert f"Sealed: {folder / MANIFEST_NAME}." in capsys.readouterr().err
    names = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    sealed = set(read_manifest(folder)["files"])
    assert names == {name for name in sealed if not name.endswith(".py")}
    load_model_and_tokenizer(folder)
    edit(folder)
    with pytest.raises(ValueError, match="generation_config"):
        load_model_and_tokenizer(folder)


def test_a_change_is_sealed_if_it_is_accepted(folder: Path, capsys: pytest.CaptureFixture[str]):
    write_manifest(folder, {"step": 7})
    edit(folder, num_beams=2)
    edit(folder, "tokenizer_config.json", mine=True)

    assert doctor(folder, "--seal", "--accept", "generation_config.json") == 1
    refusal = capsys.readouterr().err
    assert "tokenizer_config.json has" in refusal
    assert refusal.strip().endswith("--accept tokenizer_config.json")
    accepted = ("--accept", "generation_config.json", "--accept", "tokenizer_config.json")
    assert doctor(folder, "--seal", *accepted) == 0

    manifest = read_manifest(folder)
    assert manifest["step"] == 7
    assert manifest["accepted"] == ["generation_config.json", "tokenizer_config.json"]
    assert load_model_and_tokenizer(folder)[0].generation_config.num_beams == 2


def test_what_was_added_and_removed_can_be_accepted_too(folder: Path):
    write_manifest(folder)
    (folder / "tokenizer_config.json").unlink()
    (folder / "special_tokens_map.json").write_text("{}")
    assert doctor(folder) == 1
    assert doctor(folder, "--seal", "--accept", "tokenizer_config.json", "--accept", "special_tokens_map.json") == 0
    assert "special_tokens_map.json" in read_manifest(folder)["files"]
    load_model_and_tokenizer(folder)


def test_a_damaged_manifest_is_replaced_if_that_is_accepted(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / MANIFEST_NAME).write_text('{"format": 1, "files": ')
    assert doctor(folder, "--seal") == 1
    assert "manifest.json is damaged" in capsys.readouterr().err
    assert doctor(folder, "--seal", "--accept", MANIFEST_NAME) == 0
    load_model_and_tokenizer(folder)


@pytest.mark.parametrize("options", [(), ("--accept", "model.safetensors")])
def test_weights_that_do_not_load_are_never_sealed(
    options: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
):
    if options:
        write_manifest(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    before = (folder / MANIFEST_NAME).read_bytes() if options else None

    assert doctor(folder, "--seal", *options) == 1
    assert "Not sealed: its files are not whole." in capsys.readouterr().err
    assert ((folder / MANIFEST_NAME).read_bytes() if options else None) == before


def test_a_sealed_folder_is_sealed_again_to_no_effect(folder: Path):
    write_manifest(folder, {"step": 7})
    before = read_manifest(folder)
    assert doctor(folder, "--seal") == 0
    assert read_manifest(folder) == before


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (["--accept", "config.json"], "--accept is for --seal", 2),
        (
            ["--seal", "--accept", "config.json"],
            "Only a file that differs from the manifest can be accepted, but config",
            1,
        ),
        (["--seal", "--accept", "nothing"], "but nothing does not differ. Leave out --accept nothing", 1),
    ],
)
def test_wrong_usage_is_told(options: list[str], message: str, code: int, folder: Path, capsys: pytest.CaptureFixture):
    assert doctor(folder, *options) == code
    assert message in capsys.readouterr().err
    assert not (folder / MANIFEST_NAME).exists()


def test_a_name_on_the_hub_is_not_sealed(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--model", "org/name", "--seal"]) == 1
    assert "Only a local folder can be sealed, but org/name is not one" in capsys.readouterr().err


def test_the_report_says_what_was_accepted(folder: Path, capsys: pytest.CaptureFixture[str]):
    write_manifest(folder)
    edit(folder)
    assert doctor(folder, "--seal", "--accept", "generation_config.json", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    manifest = next(check for check in report["checks"] if check["check"] == "manifest")
    assert manifest["outcome"] == "note"
    assert manifest["remedy"] == "accepted"
