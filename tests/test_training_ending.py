"""A run resumed from the checkpoint of its last step trains nothing and leaves the same model."""

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from test_training_streaming import stream_trainer
from training_runs import AtStep, RecordingTrainer, make_trainer
from transformers import EarlyStoppingCallback

from hf_vanilla_transformer.training.checkpoints import checkpoints_of, newest_complete_checkpoint, read_state
from hf_vanilla_transformer.training.interruption import Interrupted


def finish(trainer: RecordingTrainer, **resume: bool) -> None:
    """Train and leave the final model."""
    trainer.train(resume_from_checkpoint=resume.get("resume"))
    trainer.save_model()


def stop_in_step(trainer: RecordingTrainer, step: int) -> None:
    trainer.add_callback(AtStep(step, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    with pytest.raises(Interrupted):
        trainer.train()


def weights_in(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


LENGTHS: dict[str, dict[str, Any]] = {
    "steps": {"max_steps": 0},
    "epochs": {"max_steps": -1, "num_train_epochs": 2},
    "a part of an epoch": {"max_steps": -1, "num_train_epochs": 1.5},
}


KILLED, STOPPED, BEFORE = "killed after its last checkpoint", "stopped in its last step", "stopped before"
CASES = (
    ("corpus", "steps", KILLED),
    ("corpus", "a part of an epoch", STOPPED),
    ("stream", "steps", STOPPED),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            ("corpus", "steps", STOPPED),
            ("corpus", "steps", BEFORE),
            ("corpus", "epochs", KILLED),
            ("corpus", "epochs", STOPPED),
            ("corpus", "a part of an epoch", KILLED),
            ("stream", "steps", KILLED),
            ("stream", "steps", BEFORE),
        )
    ),
)


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize(("text", "length", "how"), CASES)
def test_a_run_that_goes_on_ends_where_the_whole_one_does(
    seed: int, text: str, length: str, how: str, tiny_model_folder: Path, tmp_path: Path
):
    chance = random.Random(f"{seed} {text} {length} {how}")
    settings = {
        "gradient_accumulation_steps": chance.choice((1, 2, 3)),
        "seed": chance.randrange(1000),
        **({"max_steps": chance.randrange(3, 12)} if length == "steps" else LENGTHS[length]),
        **({"save_strategy": "steps", "save_steps": chance.randrange(1, 6)}),
    }
    make = stream_trainer if text == "stream" else make_trainer
    whole = make(tiny_model_folder, tmp_path / "whole", **settings)
    finish(whole)
    last = whole.state.global_step

    run = tmp_path / "run"
    cut = make(tiny_model_folder, run, **settings)
    if how == KILLED:
        cut.train()
    else:
        stop_in_step(cut, last if how == STOPPED else last - 1)
    before = newest_complete_checkpoint(run)
    assert before is not None
    resumed = make(tiny_model_folder, run, **settings)
    finish(resumed, resume=True)

    assert resumed.state.global_step == last
    assert cut.batches + resumed.batches == whole.batches or before.name != f"checkpoint-{last}"
    assert weights_in(run) == weights_in(tmp_path / "whole")
    assert checkpoints_of(run)[-1].name == checkpoints_of(tmp_path / "whole")[-1].name
    if resumed.batches == []:
        lines = (run / "metrics.jsonl").read_text().split("\n")
        assert not any(json.loads(line).get("train_loss") == 0.0 for line in lines if line)


EVALUATED: dict[str, Any] = {
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "steps",
    "save_steps": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
    "greater_is_better": True,
    "max_steps": 7,
}


@pytest.mark.slow
def test_the_best_model_is_the_final_one_after_a_stop_too(tiny_model_folder: Path, tmp_path: Path):
    """Here the one of the greatest loss, so that it is not the last."""
    whole = make_trainer(tiny_model_folder, tmp_path / "whole", **EVALUATED)
    finish(whole)
    assert whole.state.best_global_step < 5
    for step in (None, 5, 7):
        run = tmp_path / str(step)
        cut = make_trainer(tiny_model_folder, run, **EVALUATED)
        if step is None:
            cut.train()
        else:
            stop_in_step(cut, step)
        finish(make_trainer(tiny_model_folder, run, **EVALUATED), resume=True)
        assert weights_in(run) == weights_in(tmp_path / "whole"), step


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1))
def test_early_stopping_ends_a_resumed_run_where_it_ended_the_whole(
    seed: int, tiny_model_folder: Path, tmp_path: Path
):
    """Its count of evaluations goes on; once it has ended the run, nothing more is trained."""
    chance = random.Random(seed)
    settings = {**EVALUATED, "max_steps": 40, "load_best_model_at_end": chance.random() < 0.5}

    def make(run: Path, **changes: Any) -> RecordingTrainer:
        trainer = make_trainer(tiny_model_folder, run, **{**settings, **changes})
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=2))
        return trainer

    whole = make(tmp_path / "whole")
    finish(whole)
    last = whole.state.global_step
    assert 4 < last < 40
    for step in (None, last, last - chance.choice((1, 2))):
        run = tmp_path / str(step)
        cut = make(run)
        if step is None:
            cut.train()
        else:
            stop_in_step(cut, step)
        resumed = make(run)
        finish(resumed, resume=True)
        assert resumed.state.global_step == last, step
        assert weights_in(run) == weights_in(tmp_path / "whole"), step
    longer = make(tmp_path / "whole", max_steps=last + 1, resume_changed=True)
    longer.train(resume_from_checkpoint=True)
    assert longer.state.global_step == last + 1


def test_a_stop_leaves_a_checkpoint_where_only_the_best_is_kept(tiny_model_folder: Path, tmp_path: Path):
    """Also where the step is evaluated and is not the best."""
    settings = {**EVALUATED, "save_strategy": "best"}
    trainer = make_trainer(tiny_model_folder, tmp_path, **settings)
    stop_in_step(trainer, 6)
    state = read_state(tmp_path / "checkpoint-6")
    assert state is not None
    assert state["best_global_step"] != 6
