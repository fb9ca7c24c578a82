"""Runs that push: ours by the allow-list and with our card; what the stock trainer's pushes are good for."""

import json
from pathlib import Path

import pytest
import torch
from hub_clients import WITHOUT_PACKAGE, python
from hub_repositories import WRITER, File, Repository
from hub_server import TestHub
from training_runs import make_trainer

from hf_vanilla_transformer import Translator
from hf_vanilla_transformer.hub.files import travelling_code
from hf_vanilla_transformer.training import publishing

DRIVER = str(Path(__file__).parent / "support" / "hub_trainers.py")
CODE = {path.name for path in travelling_code()}
ALLOWED = {"README.md", "config.json", "generation_config.json", "manifest.json", "model.safetensors", *CODE}


@pytest.fixture
def hub(tmp_path):
    hub = TestHub(tmp_path / "hub")
    yield hub
    hub.stop()


def train(hub, tmp_path, model_folder, kind, strategy, token="-"):
    run = tmp_path / "run"
    arguments = [DRIVER, kind, str(model_folder), str(run), "someone/run", strategy, token]
    done = python(hub, tmp_path / "home", arguments, token=None if token != "-" else WRITER)
    assert done.returncode == 0, done.stderr[-3000:]
    return run, done


@pytest.mark.slow
def test_a_run_of_ours_publishes_by_the_allow_list_while_it_goes_on_and_at_its_end(hub, tmp_path, tiny_model_folder):
    """The token is given as an argument, which the stock trainer pickles into what it pushes."""
    run, _ = train(hub, tmp_path, tiny_model_folder, "ours", "every_save", token=WRITER)

    commits = hub.repositories["someone/run"].commits
    assert len(commits) >= 3  # the empty one, a checkpoint or two, the end
    for _, files in commits[1:]:
        assert set(files) - {".gitattributes"} == ALLOWED | {"tokenizer.json", "tokenizer_config.json"}
    assert WRITER.encode() not in hub.everything_sent()
    assert all(WRITER.encode() not in path.read_bytes() for path in run.rglob("*") if path.is_file())
    card = commits[-1][1]["README.md"].content.decode()
    assert "# someone/run" in card
    assert "- Steps: 2" in card
    manifest = json.loads(commits[-1][1]["manifest.json"].content)
    assert manifest["training"]["seconds"] > 0
    assert manifest["training"]["hardware"]


@pytest.mark.slow
def test_a_run_does_not_overwrite_a_card_that_somebody_wrote(hub, tmp_path, tiny_model_folder):
    repository = hub.repositories["someone/run"] = Repository(private=False)
    repository.add({"README.md": File(4, b"mine")})
    train(hub, tmp_path, tiny_model_folder, "ours", "end")
    assert repository.files["README.md"].content == b"mine"
    assert "model.safetensors" in repository.files


def test_copying_what_is_pushed_draws_no_random_number_of_the_run(tiny_model_folder, tmp_path, monkeypatch):
    trainer = make_trainer(tiny_model_folder, tmp_path)

    def prepare(*_):
        torch.rand(1)
        raise ValueError("and no more is needed here")

    monkeypatch.setattr(publishing, "prepare", prepare)
    trainer.hub_model_id = "someone/run"
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="and no more"):
        trainer.push_to_hub()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_a_push_that_fails_while_training_goes_on_ends_nothing(hub, tmp_path, tiny_model_folder):
    hub.plan("/commit/", 403)
    _, done = train(hub, tmp_path, tiny_model_folder, "ours", "every_save")
    assert "was not pushed: The access token may not write to someone/run" in done.stderr
    assert "Training continues." in done.stderr
    assert "- Steps: 2" in hub.repositories["someone/run"].files["README.md"].content.decode()


LOAD = """
import sys
from transformers import pipeline
print(pipeline("translate", model="someone/run", trust_remote_code=True)("merci")[0]["translation_text"])
"""


@pytest.mark.slow
def test_what_the_stock_trainer_pushes_translates_for_strangers(hub, tmp_path, tiny_model_folder):
    """From the model's side no more can be done: its pickled arguments and a card of its own go with it."""
    run, _ = train(hub, tmp_path, tiny_model_folder, "stock", "end")

    assert set(hub.repositories["someone/run"].files) >= CODE
    done = python(hub, tmp_path / "stranger", ["-c", WITHOUT_PACKAGE + LOAD], token=None)
    assert done.returncode == 0, done.stderr[-3000:]
    expected = Translator.from_pretrained(run, device="cpu").translate(["merci"])[0].text
    assert done.stdout.split("\n")[-2] == expected

    push = [
        "-m",
        "hf_vanilla_transformer",
        "push",
        "--model",
        str(run),
        "--repo_id",
        "someone/run",
        "--card",
        "replace",
    ]
    after = python(hub, tmp_path / "home", push)
    assert after.returncode == 0, after.stderr
    assert "someone/run holds training_args.bin, which may hold an access token" in after.stderr


@pytest.mark.slow
def test_a_push_that_fails_at_the_end_says_where_the_model_is(hub, tmp_path, tiny_model_folder):
    hub.plan("/commit/", 403, times=9)
    run = tmp_path / "run"
    arguments = [DRIVER, "ours", str(tiny_model_folder), str(run), "someone/run", "end", "-"]
    done = python(hub, tmp_path / "home", arguments)
    assert done.returncode == 1
    assert f"HOW TO GO ON The model is in {run}: vanilla-transformer push --model {run}" in done.stderr
    assert (run / "model.safetensors").exists()


def test_a_repository_that_cannot_be_made_is_one_sentence_before_training(tiny_model_folder, tmp_path):
    """Here there is no network."""
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE keeps the network off"):
        make_trainer(tiny_model_folder, tmp_path, push_to_hub=True, hub_model_id="someone/run")


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_states_of_training_are_not_for_the_hub(tiny_model_folder, tmp_path, strategy):
    with pytest.raises(ValueError, match=f"hub_strategy {strategy} would push it"):
        make_trainer(tiny_model_folder, tmp_path, push_to_hub=True, hub_strategy=strategy)


def test_the_trainer_writes_no_card_of_its_own(tiny_model_folder, tmp_path):
    """Its draft would name scores without their signatures."""
    trainer = make_trainer(tiny_model_folder, tmp_path)
    trainer.create_model_card()
    assert not (tmp_path / "README.md").exists()
