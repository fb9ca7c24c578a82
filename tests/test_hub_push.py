"""A push: what is published and what never is, one commit or none, and every way in which it can fail."""

import json
import shutil
from pathlib import Path

import pytest
from hub_clients import Session
from hub_repositories import READER, WRITER, File
from hub_server import TestHub

from hf_vanilla_transformer import VanillaTransformerForConditionalGeneration
from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.hub.files import travelling_code

REPO = "someone/fr-en"
PLANTED = "hf_" + "P" * 34
CODE = {path.name for path in travelling_code()}
ALLOWED = {"README.md", "config.json", "generation_config.json", "manifest.json", "model.safetensors", *CODE}
TOKENIZER = {"tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    hub = TestHub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def session(hub, tmp_path_factory):
    session = Session(hub, tmp_path_factory.mktemp("client"))
    yield session
    session.close()


@pytest.fixture
def fresh(hub, session):
    """The Hub without repositories, faults or memories; the session with its own token."""
    hub.repositories.clear()
    hub.faults.clear()
    hub.requests.clear()
    hub.bodies.clear()
    for path in (hub.folder / "lfs").iterdir():
        path.unlink()
    return hub


@pytest.fixture
def folder(tiny_model_folder, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def push(session, folder, *more, token=WRITER):
    return session.run("push", "--model", folder, "--repo_id", REPO, *more, HF_TOKEN=token)


def files_of(hub) -> set[str]:
    return set(hub.repositories[REPO].files) - {".gitattributes"}


def test_exactly_the_allow_list_is_published_and_no_token_in_any_byte(fresh, session, folder):
    """A folder as training leaves it: state, arguments with a token in them, logs, temporary files."""
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", ".tmp123", ".env", "events.tf"):
        (folder / name).write_text(f"token {PLANTED}", encoding="utf-8")
    for name in ("trainer_state.json", "training_args.json", "metrics.jsonl", "notes.md", "model.safetensors.tmp"):
        (folder / name).write_text(f'{{"hub_token": "{PLANTED}"}}', encoding="utf-8")
    (folder / "run.yaml").write_text(f"training: {{hub_token: {PLANTED}, max_steps: 5}}", encoding="utf-8")
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "optimizer.pt").write_text(PLANTED, encoding="utf-8")
    (folder / "illustration.html").write_text("<p>page</p>", encoding="utf-8")

    answer = push(session, folder)

    assert (answer.code, answer.err) == (0, "The card has no scores: `vanilla-transformer evaluate` makes them.\n")
    assert files_of(fresh) == ALLOWED | TOKENIZER | {"illustration.html"}
    sent = fresh.everything_sent()
    assert PLANTED.encode() not in sent
    assert WRITER.encode() not in sent
    assert b"max_steps: 5" in fresh.repositories[REPO].files["README.md"].content


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("secret", [PLANTED, WRITER])
def test_a_token_in_a_file_that_would_be_published_stops_the_push(fresh, session, folder, name, secret):
    config = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps({**config, "note": secret}), encoding="utf-8")

    answer = push(session, folder)

    assert answer.code == 1
    assert f"{name} holds what looks like an access token, so nothing is published." in answer.err
    assert secret not in answer.err
    assert not fresh.requests


def test_pushing_again_makes_no_commit_and_a_change_makes_one(fresh, session, folder):
    assert push(session, folder).code == 0
    uploads = sum(request.startswith("PUT") for request in fresh.requests)
    again = push(session, folder)
    assert len(fresh.repositories[REPO].commits) == 2
    assert again.out.startswith("Nothing has changed since the last push: all is at ")
    assert sum(request.startswith("PUT") for request in fresh.requests) == uploads == 1

    assert push(session, folder, "--license", "cc-by-4.0").code == 0
    before, after = (commit[1] for commit in fresh.repositories[REPO].commits[-2:])
    assert {name for name in after if after[name] != before[name]} == {"README.md", "manifest.json"}


def test_the_manifest_seals_the_published_files_alone(fresh, session, folder):
    push(session, folder)
    manifest = json.loads(fresh.repositories[REPO].files["manifest.json"].content)
    assert set(manifest["files"]) == files_of(fresh) - {"README.md", "manifest.json"}


def test_what_an_earlier_push_wrote_and_this_one_does_not_is_deleted_and_nothing_else(fresh, session, folder):
    (folder / "illustration.html").write_text("<p>page</p>", encoding="utf-8")
    push(session, folder)
    fresh.repositories[REPO].add({**fresh.repositories[REPO].files, "LICENSE": File(4, b"mine")})
    (folder / "illustration.html").unlink()
    assert push(session, folder).code == 0
    assert files_of(fresh) == ALLOWED | TOKENIZER | {"LICENSE"}


def test_a_new_repository_is_private_if_asked_for(fresh, session, folder):
    push(session, folder, "--private")
    assert fresh.repositories[REPO].private


def test_a_name_alone_is_the_owners(fresh, session, folder):
    assert session.run("push", "--model", folder, "--repo_id", "fr-en", HF_TOKEN=WRITER).code == 0
    assert b"# someone/fr-en\n" in fresh.repositories[REPO].files["README.md"].content


# The card that somebody changed


def test_a_card_changed_on_the_hub_is_not_overwritten_unasked(fresh, session, folder):
    push(session, folder)
    edited = File(6, b"edited")
    fresh.repositories[REPO].add({**fresh.repositories[REPO].files, "README.md": edited})

    refused = push(session, folder)
    assert refused.code == 1
    assert "was changed since. Say what shall become of it: `--card keep` or `--card replace`." in refused.err

    kept = push(session, folder, "--card", "keep")
    assert kept.code == 0
    assert "The card was kept as it is" in kept.err
    assert fresh.repositories[REPO].files["README.md"] == edited

    assert push(session, folder, "--card", "replace").code == 0
    assert fresh.repositories[REPO].files["README.md"] != edited
    assert push(session, folder).out.startswith("Nothing has changed")


# Faults


def test_a_server_that_dies_before_the_commit_loses_nothing_and_the_same_command_goes_on(fresh, session, folder):
    push(session, folder)
    before = dict(fresh.repositories[REPO].files)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    config = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    (folder / "generation_config.json").write_text(json.dumps({**config, "num_beams": 2}), encoding="utf-8")
    fresh.plan("POST .*/commit/", "die")

    died = push(session, folder)

    assert died.code == 1
    assert "The same command goes on where it ended." in died.err
    assert fresh.repositories[REPO].files == before
    fresh.start()
    assert push(session, folder).code == 0
    assert len(fresh.repositories[REPO].commits) == 3
    assert b'"num_beams": 2' in fresh.repositories[REPO].files["generation_config.json"].content


@pytest.mark.slow
def test_it_goes_on_by_xet_too(folder, tmp_path):
    hub = TestHub(tmp_path / "hub", xet=True)
    session = Session(hub, tmp_path / "client")
    try:
        hub.plan("POST .*/commit/", "die")
        assert push(session, folder).code == 1
        assert set(hub.repositories[REPO].files) == {".gitattributes"}
        hub.start()
        assert push(session, folder).code == 0
        assert files_of(hub) == ALLOWED | TOKENIZER
    finally:
        session.close()
        hub.stop()


def test_without_a_network_it_says_so(folder, capsys):
    assert main(["push", "--model", str(folder), "--repo_id", REPO]) == 1
    assert "someone/fr-en is on the Hub, but HF_HUB_OFFLINE keeps the network off." in capsys.readouterr().err


def test_weights_uploaded_before_a_failed_commit_are_not_uploaded_again(fresh, session, folder):
    fresh.plan("POST .*/commit/", 503, times=4)
    assert push(session, folder).code == 1
    assert set(fresh.repositories[REPO].files) == {".gitattributes"}
    assert push(session, folder).code == 0
    assert sum(request.startswith("PUT") for request in fresh.requests) == 1


STEPS = ("repos/create", "/revision/main", "/preupload/", "objects/batch", "PUT /lfs-upload", "lfs-verify", "/commit/")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", [500, "lose"])
def test_two_failures_then_success_is_a_push(fresh, session, folder, step, fault):
    fresh.plan(step, fault, times=2)
    answer = push(session, folder)
    assert answer.code == 0, answer.err
    assert files_of(fresh) == ALLOWED | TOKENIZER
    assert len(fresh.repositories[REPO].commits) == 2  # also where the commit was made and its answer lost


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
def test_a_refusal_is_one_sentence_and_changes_nothing(fresh, session, folder, status, step, message):
    fresh.plan(step, status, times=9)
    answer = push(session, folder)
    assert answer.code == 1
    error = answer.err.splitlines()[-1]
    assert error.startswith(f"vanilla-transformer push: error: {message}")
    assert all(len(repository.commits) == 1 for repository in fresh.repositories.values())


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, "The Hub does not know the access token"),
        ("hf_unknown", "The Hub does not know the access token"),
        (READER, "The access token may not write to someone/fr-en (403: Forbidden"),
    ],
)
def test_a_token_that_may_not_write_is_told_so(fresh, session, folder, token, message):
    answer = push(session, folder, token=token)
    assert answer.code == 1
    assert message in answer.err
    assert not fresh.repositories


def test_somebody_elses_commit_during_the_push_is_not_overwritten(fresh, session, folder):
    push(session, folder)
    repository = fresh.repositories[REPO]
    original = fresh.fault_of

    def interfere(request):
        if "/preupload/" in request:
            repository.add({**repository.files, "README.md": File(6, b"theirs")})
        return original(request)

    fresh.fault_of = interfere
    try:
        answer = push(session, folder, "--license", "mit")
    finally:
        fresh.fault_of = original
    assert answer.code == 1
    assert "was changed by somebody else during the push" in answer.err
    assert repository.files["README.md"].content == b"theirs"


def test_a_branch_that_does_not_exist_is_named(fresh, session, folder):
    answer = push(session, folder, "--revision", "nowhere")
    assert answer.code == 1
    assert "someone/fr-en has no branch or commit nowhere." in answer.err


def test_a_revision_of_a_model_that_does_not_exist_is_named(fresh, session, folder):
    push(session, folder)
    answer = session.run("verify", "--model", REPO, "--revision", "v9")
    assert answer.code == 1
    assert "someone/fr-en has no branch or commit v9." in answer.err


def test_a_model_that_a_stranger_may_not_see_needs_a_token(fresh, session, folder):
    push(session, folder, "--private")
    answer = session.run("verify", "--model", REPO, HF_TOKEN=None)
    assert answer.code == 1
    assert "someone/fr-en needs an access token, or is not there (401" in answer.err


def test_shards_are_pushed_whole_and_give_way_to_one_file(fresh, session, folder, tmp_path):
    sharded = Path(shutil.copytree(folder, tmp_path / "sharded"))
    model = VanillaTransformerForConditionalGeneration.from_pretrained(folder)
    (sharded / "model.safetensors").unlink()
    model.save_pretrained(sharded, max_shard_size="20KB")
    shards = {path.name for path in sharded.glob("model-*")}
    assert len(shards) > 1

    assert push(session, sharded).code == 0
    assert files_of(fresh) >= shards | {"model.safetensors.index.json"}
    assert push(session, folder).code == 0
    assert files_of(fresh) == ALLOWED | TOKENIZER


def test_a_repository_that_ignores_files_is_told_of(fresh, session, folder):
    push(session, folder)
    fresh.repositories[REPO].add({".gitignore": File(9, b"README.md")})
    answer = push(session, folder)
    assert answer.code == 1
    assert "someone/fr-en lacks README.md although they were pushed. Look for a .gitignore" in answer.err


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
def test_a_folder_that_is_not_sound_is_not_pushed(fresh, session, folder, damage, message):
    damage(folder)
    answer = push(session, folder)
    assert answer.code == 1
    assert message in answer.err
    assert not fresh.repositories


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
def test_wrong_arguments_are_refused_before_anything_is_made(fresh, session, folder, arguments, message):
    answer = session.run("push", "--model", folder, "--repo_id", REPO, *arguments, HF_TOKEN=WRITER)
    assert answer.code == 1
    assert message in answer.err
    assert not fresh.requests
