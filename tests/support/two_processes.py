"""What two processes do together, started by `test_training_processes.py` under `accelerate launch`.

Arguments: a model folder for its tokenizer, and a folder to leave `results.pt` in.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from training_runs import AtStep, RecordingTrainer, make_corpus, make_trainer, steps_of, weights_of

from hf_vanilla_transformer.training.interruption import Interrupted

SHARED_STEPS: dict[str, Any] = {
    "model": {"dropout": 0.0},
    "max_steps": 12,
    "warmup_steps": 4,
    "learning_rate": 2e-3,
}
"""Settings under which the number of processes must not matter: two epochs and a part of the third."""


def record_of(trainer: RecordingTrainer) -> dict[str, Any]:
    """What a run did, on this process."""
    weights = {name: weight.clone() for name, weight in weights_of(trainer).items()}
    return {"steps": steps_of(trainer), "weights": weights, "gradients": trainer.first_gradients}


def train_shared(model_folder: Path, folder: Path) -> dict[str, Any]:
    """Two processes in place of two accumulated batches."""
    trainer = make_trainer(model_folder, folder / "shared", gradient_accumulation_steps=1, **SHARED_STEPS)
    trainer.train()
    return record_of(trainer)


def translate(model_folder: Path, folder: Path) -> list[str]:
    """An odd number of sentences, each once."""
    trainer = make_trainer(model_folder, folder / "translate")
    corpus, _ = make_corpus(model_folder, pairs=7)
    return trainer.translate_shared(corpus["source"], num_beams=2)


def stop_and_resume(model_folder: Path, folder: Path, step: int) -> dict[str, Any]:
    """A whole run, and one that only the second process was asked to stop."""
    whole = make_trainer(model_folder, folder / "whole")
    whole.train()
    run = folder / f"stopped{step}"
    stopped = make_trainer(model_folder, run)
    if stopped.accelerator.process_index == 1:
        stopped.add_callback(AtStep(step, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    try:
        stopped.train()
        stopped_at = None
    except Interrupted:
        stopped_at = stopped.state.global_step
    resumed = make_trainer(model_folder, run)
    resumed.train(resume_from_checkpoint=True)
    return {
        "whole": record_of(whole),
        "resumed": record_of(resumed),
        "stopped_at": gather_object([stopped_at]),
        "same_batches": gather_object([stopped.batches + resumed.batches == whole.batches]),
        "batches": gather_object([whole.batches]),
    }


def main(model_folder: Path, folder: Path) -> None:
    """All of it, in one pair of processes: starting them is what takes time."""
    torch.set_num_threads(1)
    results = {
        "shared": train_shared(model_folder, folder),
        "translations": translate(model_folder, folder),
        "within an epoch": stop_and_resume(model_folder, folder, step=2),
        "after an epoch": stop_and_resume(model_folder, folder, step=5),
    }
    if os.environ.get("RANK", "0") == "0":
        torch.save(results, folder / "results.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
