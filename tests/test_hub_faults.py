"""Every way in which a push can fail: one sentence, nothing half published, and the same command goes on."""

import json
import shutil
from pathlib import Path

import pytest
from hub_clients import REPO, Pushing, Session
from hub_repositories import READER, File
from hub_server import TestHub

from hf_vanilla_transformer import VanillaTransformerForConditionalGeneration
from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.hub.files import travelling_code

CODE = {path.name for path in travelling_code()}
ALLOWED = {"README.md", "config.json", "generation_config.json", "manifest.json", "model.safetensors", *CODE}
TOKENIZER = {"tokenizer.json", "tokenizer_config.json"}


def test_a_server_that_dies_before_the_commit_loses_nothing_and_the_same_command_goes_on(pushing, folder):
    pushing.push(folder)
    before = dict(pushing.hub.repositories[REPO].files)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    config = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    (folder / "generation_config.json").write_text(json.dumps({**config, "num_beams": 2}), encoding="utf-8")
    pushing.hub.plan("POST .*/commit/", "die")

    died = pushing.push(folder)

    assert died.code == 1
    assert "The same command goes on where it ended." in died.err
    assert pushing.hub.repositories[REPO].files == before
    pushing.hub.start()
    assert pushing.push(folder).code == 0
    assert len(pushing.hub.repositories[REPO].commits) == 3
    assert b'"num_beams": 2' in pushing.hub.repositories[REPO].files["generation_config.json"].content


@pytest.mark.slow
def test_it_goes_on_by_xet_too(folder, tmp_path):
    pushing = Pushing(hub := TestHub(tmp_path / "hub", xet=True), Session(hub, tmp_path / "client"))
    try:
        hub.plan("POST .*/commit/", "die")
        assert pushing.push(folder).code == 1
        assert not pushing.files
        hub.start()
        assert pushing.push(folder).code == 0
        assert pushing.files == ALLOWED | TOKENIZER
    finally:
        pushing.session.close()
        hub.stop()


def test_without_a_network_it_says_so(folder, capsys):
    assert main(["push", "--model", str(folder), "--repo_id", REPO]) == 1
    assert "someone/fr-en is on the Hub, but HF_HUB_OFFLINE keeps the network off." in capsys.readouterr().err


def test_weights_uploaded_before_a_failed_commit_are_not_uploaded_again(pushing, folder):
    pushing.hub.plan("POST .*/commit/", 503, times=4)
    assert pushing.push(folder).code == 1
    assert set(pushing.hub.repositories[REPO].files) == {".gitattributes"}
    assert pushing.push(folder).code == 0
    assert sum(request.startswith("PUT") for request in pushing.hub.requests) == 1


STEPS = ("repos/create", "/revision/main", "/preupload/", "objects/batch", "PUT /lfs-upload", "lfs-verify", "/commit/")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", [500, "lose"])
def test_two_failures_then_success_is_a_push(pushing, folder, step, fault):
    pushing.hub.plan(step, fault, times=2)
    answer = pushing.push(folder)
    assert answer.code == 0, answer.err
    assert pushing.files == ALLOWED | TOKENIZER
    assert len(pushing.hub.repositories[REPO].commits) == 2  # also where the commit was made and its answer lost


@pytest.mark.parametrize(
    ("status", "step", "message"),
    [
        (
            401,
            "repos/create",
            "The Hub does not know the access token (401: planned 401). Log in",
        ),
        (403, "/commit/", "The access token may not write to someone/fr-en (403: planned 403)."),
        (412, "/commit/", "someone/fr-en was changed by somebody else during the push, so nothing was published."),
        (400, "/commit/", "The Hub refuses this (400: planned 400)."),
        (500, "/commit/", "The Hub fails (500: planned 500). The same command later goes on"),
    ],
)
def test_a_refusal_is_one_sentence_and_changes_nothing(pushing, folder, status, step, message):
    pushing.hub.plan(step, status, times=9)
    answer = pushing.push(folder)
    assert answer.code == 1
    error = answer.err.splitlines()[-1]
    assert error.startswith(f"vanilla-transformer push: error: {message}")
    assert all(len(repository.commits) == 1 for repository in pushing.hub.repositories.values())


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, "The Hub does not know the access token"),
        ("hf_unknown", "The Hub does not know the access token"),
        (READER, "The access token may not write to someone/fr-en (403: Forbidden"),
    ],
)
def test_a_token_that_may_not_write_is_told_so(pushing, folder, token, message):
    answer = pushing.push(folder, token=token)
    assert answer.code == 1
    assert message in answer.err
    assert not pushing.hub.repositories


def test_somebody_elses_commit_during_the_push_is_not_overwritten(pushing, folder):
    pushing.push(folder)
    repository = pushing.hub.repositories[REPO]
    original = pushing.hub.fault_of

    def interfere(request):
        if "/preupload/" in request:
            repository.add({**repository.files, "README.md": File(6, b"theirs")})
        return original(request)

    pushing.hub.fault_of = interfere
    try:
        answer = pushing.push(folder, "--license", "mit")
    finally:
        pushing.hub.fault_of = original
    assert answer.code == 1
    assert "was changed by somebody else during the push" in answer.err
    assert repository.files["README.md"].content == b"theirs"


def test_a_branch_that_does_not_exist_is_named(pushing, folder):
    answer = pushing.push(folder, "--revision", "nowhere")
    assert answer.code == 1
    assert "someone/fr-en has no branch or commit nowhere." in answer.err


def test_a_revision_of_a_model_that_does_not_exist_is_named(pushing, folder):
    pushing.push(folder)
    answer = pushing.session.run("verify", "--model", REPO, "--revision", "v9")
    assert answer.code == 1
    assert "someone/fr-en has no branch or commit v9." in answer.err


def test_a_model_that_a_stranger_may_not_see_needs_a_token(pushing, folder):
    pushing.push(folder, "--private")
    answer = pushing.session.run("verify", "--model", REPO, HF_TOKEN=None)
    assert answer.code == 1
    assert "someone/fr-en needs an access token, or is not there (401" in answer.err


def test_shards_are_pushed_whole_and_give_way_to_one_file(pushing, folder, tmp_path):
    sharded = Path(shutil.copytree(folder, tmp_path / "sharded"))
    model = VanillaTransformerForConditionalGeneration.from_pretrained(folder)
    (sharded / "model.safetensors").unlink()
    model.save_pretrained(sharded, max_shard_size="20KB")
    shards = {path.name for path in sharded.glob("model-*")}
    assert len(shards) > 1

    assert pushing.push(sharded).code == 0
    assert pushing.files >= shards | {"model.safetensors.index.json"}
    assert pushing.push(folder).code == 0
    assert pushing.files == ALLOWED | TOKENIZER


def test_a_repository_that_ignores_files_is_told_of(pushing, folder):
    pushing.push(folder)
    pushing.hub.repositories[REPO].add({".gitignore": File(9, b"README.md")})
    answer = pushing.push(folder)
    assert answer.code == 1
    assert "someone/fr-en lacks README.md although they were pushed. Look for a .gitignore" in answer.err
