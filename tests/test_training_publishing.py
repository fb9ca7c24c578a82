"""Runs that push: ours by the allow-list and with our card; what the stock trainer's pushes are good for."""

import json
from pathlib import Path

import pytest
import torch
from fresh_process import WITHOUT_PACKAGE
from hub_clients import REPO, Answer, Client
from hub_repositories import WRITER, File, Repository
from training_runs import make_trainer

from hf_vanilla_transformer import Translator
from hf_vanilla_transformer.hub.files import travelling_code
from hf_vanilla_transformer.training import publishing

DRIVER = str(Path(__file__).parent / "support" / "hub_trainers.py")
CODE = {path.name for path in travelling_code()}
ALLOWED = {"README.md", "config.json", "generation_config.json", "manifest.json", "model.safetensors", *CODE}


@pytest.fixture
def hub(pushing):
    return pushing.hub


@pytest.fixture
def train(pushing, tmp_path, tiny_model_folder):
    """A run in the client's process: its folder, and what it answered."""

    def run_driver(kind: str, strategy: str, token: str = "-", fails: bool = False) -> tuple[Path, Answer]:
        run = tmp_path / "run"
        arguments = [DRIVER, kind, tiny_model_folder, run, REPO, strategy, token]
        answer = pushing.session.run(*arguments, HF_TOKEN=WRITER if token == "-" else None)
        assert answer.code == int(fails), answer.err[-3000:]
        return run, answer

    return run_driver


@pytest.mark.slow
def test_a_run_of_ours_publishes_by_the_allow_list_while_it_goes_on_and_at_its_end(hub, train):
    """The token is given as an argument, which the stock trainer pickles into what it pushes."""
    run, _ = train("ours", "every_save", token=WRITER)

    commits = hub.repositories["someone/fr-en"].commits
    assert len(commits) >= 3  # the empty one, a checkpoint or two, the end
    for _, files in commits[1:]:
        assert set(files) - {".gitattributes"} == ALLOWED | {"tokenizer.json", "tokenizer_config.json"}
    assert WRITER.encode() not in hub.everything_sent()
    assert all(WRITER.encode() not in path.read_bytes() for path in run.rglob("*") if path.is_file())
    card = commits[-1][1]["README.md"].content.decode()
    assert "# someone/fr-en" in card
    assert "- Steps: 2" in card
    manifest = json.loads(commits[-1][1]["manifest.json"].content)
    assert manifest["training"]["seconds"] > 0
    assert manifest["training"]["hardware"]


@pytest.mark.slow
def test_a_run_does_not_overwrite_a_card_that_somebody_wrote(hub, train):
    repository = hub.repositories["someone/fr-en"] = Repository(private=False)
    repository.add({"README.md": File(4, b"mine")})
    train("ours", "end")
    assert repository.files["README.md"].content == b"mine"
    assert "model.safetensors" in repository.files


def test_copying_what_is_pushed_draws_no_random_number_of_the_run(tiny_model_folder, tmp_path, monkeypatch):
    trainer = make_trainer(tiny_model_folder, tmp_path)

    def prepare(*_):
        torch.rand(1)
        raise ValueError("and no more is needed here")

    monkeypatch.setattr(publishing, "prepare", prepare)
    trainer.hub_model_id = "someone/fr-en"
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="and no more"):
        trainer.push_to_hub()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_a_push_that_fails_while_training_goes_on_ends_nothing(hub, train):
    hub.plan("/commit/", 403)
    _, answer = train("ours", "every_save")
    assert "was not pushed: The access token may not write to someone/fr-en" in answer.err
    assert "Training continues." in answer.err
    assert "- Steps: 2" in hub.repositories["someone/fr-en"].files["README.md"].content.decode()


LOAD = """
import sys
from transformers import pipeline
print(pipeline("translate", model="someone/fr-en", trust_remote_code=True)("merci")[0]["translation_text"])
"""


@pytest.mark.slow
def test_what_the_stock_trainer_pushes_translates_for_strangers(pushing, hub, train, tmp_path, processes_with_torch):
    """From the model's side no more can be done: its pickled arguments and a card of its own go with it."""
    run, _ = train("stock", "end")

    assert set(hub.repositories["someone/fr-en"].files) >= CODE
    done = Client(processes_with_torch, hub, tmp_path / "stranger").python(WITHOUT_PACKAGE + LOAD)
    assert done.returncode == 0, done.stderr[-3000:]
    expected = Translator.from_pretrained(run, device="cpu").translate(["merci"])[0].text
    assert done.stdout.split("\n")[-2] == expected

    after = pushing.push(run, "--card", "replace")
    assert after.code == 0, after.err
    assert f"{REPO} holds training_args.bin, which may hold an access token" in after.err


@pytest.mark.slow
def test_a_push_that_fails_at_the_end_says_where_the_model_is(hub, train):
    hub.plan("/commit/", 403, times=9)
    run, answer = train("ours", "end", fails=True)
    assert f"HOW TO GO ON The model is in {run}: vanilla-transformer push --model {run}" in answer.err
    assert (run / "model.safetensors").exists()


def test_a_repository_that_cannot_be_made_is_one_sentence_before_training(tiny_model_folder, tmp_path):
    """Here there is no network."""
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE keeps the network off"):
        make_trainer(tiny_model_folder, tmp_path, push_to_hub=True, hub_model_id="someone/fr-en")


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_states_of_training_are_not_for_the_hub(tiny_model_folder, tmp_path, strategy):
    with pytest.raises(ValueError, match=f"hub_strategy {strategy} would push it"):
        make_trainer(tiny_model_folder, tmp_path, push_to_hub=True, hub_strategy=strategy)


def test_the_trainer_writes_no_card_of_its_own(tiny_model_folder, tmp_path):
    """Its draft would name scores without their signatures."""
    trainer = make_trainer(tiny_model_folder, tmp_path)
    trainer.create_model_card()
    assert not (tmp_path / "README.md").exists()
