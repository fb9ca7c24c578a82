"""A push: what is published and what never is, one commit or none, and every way in which it can fail."""

import json
import shutil

import pytest
from hub_clients import REPO
from hub_repositories import WRITER, File

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.hub.files import require_no_token, travelling_code
from hf_vanilla_transformer.model.manifest import write_manifest

PLANTED = "hf_" + "P" * 34
CODE = {path.name for path in travelling_code()}
ALLOWED = {"README.md", "config.json", "generation_config.json", "manifest.json", "model.safetensors", *CODE}
TOKENIZER = {"tokenizer.json", "tokenizer_config.json"}


def test_exactly_the_allow_list_is_published_and_no_token_in_any_byte(pushing, folder):
    """A folder as training leaves it: state, arguments with a token in them, logs, temporary files."""
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", ".tmp123", ".env", "events.tf"):
        (folder / name).write_text(f"token {PLANTED}", encoding="utf-8")
    for name in ("trainer_state.json", "training_args.json", "metrics.jsonl", "notes.md", "model.safetensors.tmp"):
        (folder / name).write_text(f'{{"hub_token": "{PLANTED}"}}', encoding="utf-8")
    (folder / "run.yaml").write_text(f"training: {{hub_token: {PLANTED}, max_steps: 5}}", encoding="utf-8")
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "optimizer.pt").write_text(PLANTED, encoding="utf-8")
    (folder / "illustration.html").write_text("<p>page</p>", encoding="utf-8")
    write_manifest(folder)

    answer = pushing.push(folder)

    assert (answer.code, answer.err) == (
        0,
        "The card has no scores: run `vanilla-transformer evaluate` to add them.\n",
    )
    assert pushing.files == ALLOWED | TOKENIZER | {"illustration.html"}
    sent = pushing.hub.everything_sent()
    assert PLANTED.encode() not in sent
    assert WRITER.encode() not in sent
    assert b"max_steps: 5" in pushing.hub.repositories[REPO].files["README.md"].content


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("secret", [PLANTED, WRITER])
def test_a_token_in_a_file_that_would_be_published_stops_the_push(pushing, folder, name, secret):
    config = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps({**config, "note": secret}), encoding="utf-8")

    answer = pushing.push(folder)

    assert answer.code == 1
    assert f"{name} holds what looks like an access token, so nothing is published." in answer.err
    assert secret not in answer.err
    assert not pushing.hub.requests


def test_a_token_is_found_wherever_it_stands_in_a_large_file(tmp_path):
    """Files are read a megabyte at a time."""
    for place in ((1 << 20) - 20, (1 << 20) - 1, 1 << 20, 3 << 20):
        (tmp_path / "file").write_bytes(b" " * place + PLANTED.encode())
        with pytest.raises(ValueError, match="file holds what looks like an access token"):
            require_no_token(tmp_path, [])
    (tmp_path / "file").write_bytes(b" " * (4 << 20))
    require_no_token(tmp_path, ["a secret of another kind"])


def test_pushing_again_makes_no_commit_and_a_change_makes_one(pushing, folder):
    assert pushing.push(folder).code == 0
    uploads = sum(request.startswith("PUT") for request in pushing.hub.requests)
    again = pushing.push(folder)
    assert len(pushing.hub.repositories[REPO].commits) == 2
    assert again.out.startswith("Nothing has changed since the last push: it is at ")
    assert sum(request.startswith("PUT") for request in pushing.hub.requests) == uploads == 1

    assert pushing.push(folder, "--license", "cc-by-4.0").code == 0
    before, after = (commit[1] for commit in pushing.hub.repositories[REPO].commits[-2:])
    assert {name for name in after if after[name] != before[name]} == {"README.md", "manifest.json"}


def test_the_manifest_seals_the_published_files_alone(pushing, folder):
    pushing.push(folder)
    manifest = json.loads(pushing.hub.repositories[REPO].files["manifest.json"].content)
    assert set(manifest["files"]) == pushing.files - {"README.md", "manifest.json"}


def test_what_an_earlier_push_wrote_and_this_one_does_not_is_deleted_and_nothing_else(pushing, folder):
    (folder / "illustration.html").write_text("<p>page</p>", encoding="utf-8")
    pushing.push(folder)
    pushing.hub.repositories[REPO].add({**pushing.hub.repositories[REPO].files, "LICENSE": File(4, b"mine")})
    (folder / "illustration.html").unlink()
    assert pushing.push(folder).code == 0
    assert pushing.files == ALLOWED | TOKENIZER | {"LICENSE"}


def test_a_new_repository_is_private_if_asked_for(pushing, folder):
    pushing.push(folder, "--private")
    assert pushing.hub.repositories[REPO].private


def test_a_name_alone_is_the_owners(pushing, folder):
    assert pushing.session.run("push", "--model", folder, "--repo_id", "fr-en", HF_TOKEN=WRITER).code == 0
    assert b"# someone/fr-en\n" in pushing.hub.repositories[REPO].files["README.md"].content


# The card that somebody changed


def test_a_card_changed_on_the_hub_is_not_overwritten_unasked(pushing, folder):
    pushing.push(folder)
    edited = File(6, b"edited")
    pushing.hub.repositories[REPO].add({**pushing.hub.repositories[REPO].files, "README.md": edited})

    refused = pushing.push(folder)
    assert refused.code == 1
    assert "was changed since. Choose what to do with it: `--card keep` or `--card replace`." in refused.err

    kept = pushing.push(folder, "--card", "keep")
    assert kept.code == 0
    assert "The card was kept as it is" in kept.err
    assert pushing.hub.repositories[REPO].files["README.md"] == edited

    assert pushing.push(folder, "--card", "replace").code == 0
    assert pushing.hub.repositories[REPO].files["README.md"] != edited
    assert pushing.push(folder).out.startswith("Nothing has changed")


# Folders that are not pushed


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "is pushed, but"),
        (lambda folder: (folder / "config.json").unlink(), "A model folder needs config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "okenizer"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"cut"), "are damaged"),
        (lambda folder: (folder / "score_ledger.json").write_text("{}"), "must be a score ledger"),
    ],
)
def test_a_folder_that_is_not_sound_is_not_pushed(pushing, folder, damage, message):
    damage(folder)
    answer = pushing.push(folder)
    assert answer.code == 1
    assert message in answer.err
    assert not pushing.hub.repositories


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repo_id", "a/b/c"], "a/b/c"),
        (["--license", "My Own"], "license must be the Hub's name of a licence"),
        (["--source_lang", "French"], "source_lang must be a language code"),
        (["--datasets", "./corpus"], "datasets must be a name on the Hub"),
        (["--limits", "BLEU 30 at best"], "A score needs its signature"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_made(pushing, folder, arguments, message):
    answer = pushing.session.run("push", "--model", folder, "--repo_id", REPO, *arguments, HF_TOKEN=WRITER)
    assert answer.code == 1
    assert message in answer.err
    assert not pushing.hub.requests


@pytest.mark.parametrize("option", [["--private"], ["--revision", "draft"], ["--card", "replace"]])
def test_what_is_for_a_push_alone_is_no_option_of_a_dry_run(option, folder, tmp_path, capsys):
    command = ["push", "--model", str(folder), "--repo_id", REPO, "--dry_run", str(tmp_path / "out"), *option]
    assert main(command) == 2
    assert f"{option[0]} is for a push, and --dry_run pushes nothing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
