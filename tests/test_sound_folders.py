"""Every loader refuses a sealed folder that is not what was sealed, whatever the change and the class of the model."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_folders import save_model_folder
from mutations import ADDED, mutate
from originals import marian_folder
from safetensors.torch import save_file
from transformers import AutoModelForSeq2SeqLM, pipeline

from hf_vanilla_transformer import Translator, average_checkpoints, from_marian
from hf_vanilla_transformer.hub import write_publication
from hf_vanilla_transformer.model import sound_folders
from hf_vanilla_transformer.model.manifest import MANIFEST_NAME, write_manifest
from hf_vanilla_transformer.model.pipeline import ModelRefusedError
from hf_vanilla_transformer.model.sound_folders import FolderChangedError, read_whole
from hf_vanilla_transformer.tokenization import load_tokenizer
from hf_vanilla_transformer.translation import load_model_and_tokenizer

REFUSALS = (ValueError, FileNotFoundError, ModelRefusedError)
LOADERS: dict[str, Callable[[Path], Any]] = {
    "from_pretrained": AutoModelForSeq2SeqLM.from_pretrained,
    "Translator": Translator.from_pretrained,
    "load_model_and_tokenizer": load_model_and_tokenizer,
    "load_tokenizer": load_tokenizer,
    "pipeline": lambda folder: pipeline("translate", model=str(folder), device="cpu"),
}


@pytest.fixture(scope="module")
def sealed(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path, sentences: tuple[str, ...]
) -> dict[str, Path]:
    """A model of ours and a Marian one, each with a manifest, and another of ours."""
    root = tmp_path_factory.mktemp("sealed")
    folders = {
        "ours": Path(shutil.copytree(tiny_model_folder, root / "ours")),
        "marian": marian_folder(root / "marian"),
        "other": save_model_folder(root / "other", [*sentences * 2, "another text"] * 2, d_model=20),
    }
    for folder in folders.values():
        write_manifest(folder)
    return folders


def copy_of(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model", dirs_exist_ok=True))


@pytest.mark.parametrize("kind", ["ours", "marian"])
def test_whatever_was_changed_no_loader_takes_it(kind: str, sealed: dict[str, Path], tmp_path: Path):
    of_models = [
        name for name in LOADERS if name != "load_tokenizer" and (kind, name) != ("marian", "from_pretrained")
    ]
    loaders = [LOADERS[name] for name in of_models]
    for seed in range(120):
        folder = copy_of(sealed[kind], tmp_path)
        done = mutate(folder, seed, sealed["other"])
        with pytest.raises(REFUSALS) as refusal:  # noqa: PT012 - names the case that was taken
            loaders[seed % len(loaders)](folder)
            pytest.fail(f"{done}: loaded")
        assert "Traceback" not in str(refusal.value), done
        shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["ours", "marian"])
def test_a_tokenizer_loads_alone_if_no_file_of_its_own_was_changed(kind: str, sealed: dict[str, Path], tmp_path: Path):
    """As that of a run whose model is being written."""
    text = "le petit chat dort 12"
    ids = load_tokenizer(sealed[kind])(text)["input_ids"]
    for seed in range(40):
        folder = copy_of(sealed[kind], tmp_path)
        done = mutate(folder, seed, sealed["other"])
        try:
            assert load_tokenizer(folder)(text)["input_ids"] == ids, done
            assert not any(name in done for name in ("tokenizer", "spm", "vocab")), done
        except REFUSALS:
            pass
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("kind", ["ours", "marian"])
def test_a_sealed_folder_loads(kind: str, name: str, sealed: dict[str, Path]):
    LOADERS[name](sealed[kind])


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors"])
def test_a_change_is_named_with_the_way_through(name: str, folder: Path):
    write_manifest(folder)
    (folder / name).write_bytes((folder / name).read_bytes().replace(b"t", b"d", 1))

    with pytest.raises(
        ValueError, match=rf"{name} is not what was saved, according to its manifest\.json\. Copy the folder"
    ) as e:
        load_model_and_tokenizer(folder)
    assert str(e.value).endswith(f"vanilla-transformer doctor --model {folder} --seal --accept {name}")


def test_a_config_of_another_type_does_not_skip_the_check(sealed: dict[str, Path], tmp_path: Path):
    folder = copy_of(sealed["ours"], tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "marian"}))
    with pytest.raises(ValueError, match=r"config\.json has .* bytes instead of"):
        Translator.from_pretrained(folder)


def test_converters_refuse_what_they_would_seal_anew(sealed: dict[str, Path], tmp_path: Path):
    folder = copy_of(sealed["marian"], tmp_path)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 128  # the sign of the last number
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match=r"model\.safetensors is not what was saved"):
        from_marian(folder)


def test_neither_push_nor_average_seals_a_foreign_tokenizer(sealed: dict[str, Path], tmp_path: Path):
    folder = copy_of(sealed["ours"], tmp_path)
    shutil.copyfile(sealed["other"] / "tokenizer.json", folder / "tokenizer.json")

    with pytest.raises(ValueError, match=r"but tokenizer\.json "):
        write_publication(folder, "me/model", tmp_path / "published")
    with pytest.raises(ValueError, match=r"but tokenizer\.json "):
        average_checkpoints([sealed["ours"], folder], tmp_path / "mean")
    assert not (tmp_path / "published").exists()
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize("name", ADDED)
def test_a_file_that_a_loader_would_read_cannot_be_added(name: str, sealed: dict[str, Path], tmp_path: Path):
    folder = copy_of(sealed["ours"], tmp_path)
    (folder / name).write_text(ADDED[name])
    with pytest.raises(ValueError, match=rf"{name} was added"):
        load_model_and_tokenizer(folder)


def test_a_tokenizer_may_join_a_model_that_was_sealed_without_one(folder: Path):
    names = ["config.json", "generation_config.json", "model.safetensors"]
    write_manifest(folder, names=names)
    load_model_and_tokenizer(folder)


@pytest.mark.parametrize("name", ["README.md", "score_ledger.json", "run.yaml", "metrics.jsonl"])
def test_texts_and_scores_may_change(name: str, folder: Path):
    (folder / name).write_text("one")
    write_manifest(folder)
    (folder / name).write_text("another")
    load_model_and_tokenizer(folder)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "{}",
        '{"format": 1}',
        '{"files": {}}',
        '{"format": 2, "files": {}}',
        '{"format": 1, "files": {"a": 1}}',
    ],
)
def test_a_damaged_manifest_is_refused(manifest: str, folder: Path):
    (folder / MANIFEST_NAME).write_text(manifest)
    with pytest.raises(ValueError, match=r"manifest\.json (is damaged|must be of format 1)"):
        load_model_and_tokenizer(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors"])
def test_a_manifest_that_lists_less_than_it_did_is_damaged(name: str, folder: Path):
    write_manifest(folder)
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    del manifest["files"][name]
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"is damaged: it does not list what it listed"):
        load_model_and_tokenizer(folder)


def test_a_manifest_of_an_earlier_version_is_read(folder: Path):
    write_manifest(folder)
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    del manifest["list"]
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    load_model_and_tokenizer(folder)


def test_a_manifest_of_another_kind_is_none(folder: Path):
    (folder / MANIFEST_NAME).write_text('{"name": "a web page", "icons": []}')
    load_model_and_tokenizer(folder)


def test_that_nothing_is_sealed_is_said_once(folder: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="hf_vanilla_transformer"):
        for _ in range(2):
            load_model_and_tokenizer(folder)
            AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert caplog.text.count("has no manifest.json: nobody can tell whether its files are those that were saved") == 1


def test_refusals_come_through_the_pipeline_as_one_sentence(folder: Path):
    write_manifest(folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(ModelRefusedError, match=r"model\.safetensors is not what was saved") as refusal:
        pipeline("translate", model=str(folder))
    assert "\n" not in str(refusal.value)


# Folders that are replaced while they are read


def put_another(folder: Path, other: Path) -> None:
    """As a save does: file by file."""
    for path in sorted(other.iterdir()):
        shutil.copyfile(path, folder / f"{path.name}.tmp")
        (folder / f"{path.name}.tmp").replace(folder / path.name)


def test_a_folder_that_is_replaced_while_it_is_read_is_read_again(
    sealed: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = copy_of(sealed["ours"], tmp_path)
    monkeypatch.setattr(sound_folders, "PAUSE", 0)
    replacements = iter([sealed["other"]])
    load = load_tokenizer

    def load_late(*args: Any, **kwargs: Any) -> Any:
        for other in replacements:
            put_another(folder, other)
        return load(*args, **kwargs)

    monkeypatch.setattr("hf_vanilla_transformer.translation.loading.load_tokenizer", load_late)
    model, tokenizer = load_model_and_tokenizer(folder)

    assert model.config.d_model == 20
    assert len(tokenizer) == model.config.vocab_size


def test_a_folder_that_never_rests_is_refused(sealed: dict[str, Path], tmp_path: Path, monkeypatch: Any):
    folder = copy_of(sealed["ours"], tmp_path)
    monkeypatch.setattr(sound_folders, "PAUSE", 0)
    others = iter([sealed["other"], sealed["ours"]])
    with pytest.raises(FolderChangedError, match="was written to while it was read"):
        read_whole(folder, lambda: put_another(folder, next(others)))


def test_swapped_folders_are_noticed(sealed: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As a deployment does that keeps a link to the newest model."""
    link = tmp_path / "newest"
    link.symlink_to(sealed["ours"])
    monkeypatch.setattr(sound_folders, "PAUSE", 0)
    others = iter([sealed["other"]])

    def read() -> int:
        width = AutoModelForSeq2SeqLM.from_pretrained(link).config.d_model
        for other in others:
            link.unlink()
            link.symlink_to(other)
        return width

    assert read_whole(link, read) == 20


def test_a_model_is_not_averaged_while_it_changes(sealed: dict[str, Path], tmp_path: Path, monkeypatch: Any):
    folder = copy_of(sealed["ours"], tmp_path)

    def change_and_save(*args: Any, **kwargs: Any) -> None:
        put_another(folder, sealed["other"])
        save_file(*args, **kwargs)

    monkeypatch.setattr("hf_vanilla_transformer.training.averaging.save_file", change_and_save)
    with pytest.raises(FolderChangedError):
        average_checkpoints([folder], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


# Tokenizers on which Rust panics


@pytest.mark.parametrize(
    "damage",
    [
        {"post_processor": {"special_tokens": {}}},  # panics when text is encoded
        {"model": {"merges": [["a", "b"], ["ab", "zz"]], "continuing_subword_prefix": "####"}},  # when it is read
    ],
)
def test_a_panic_of_the_tokenizers_library_is_one_sentence(
    damage: dict[str, Any], folder: Path, capfd: pytest.CaptureFixture[str]
):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for part, changes in damage.items():
        content[part].update(changes)
    path.write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(ValueError, match=r"must be readable by AutoTokenizer, but it says") as error:
        load_tokenizer(folder)
    assert "\n" not in str(error.value)
    assert "panicked" not in capfd.readouterr().err
