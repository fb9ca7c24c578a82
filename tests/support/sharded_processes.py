"""What two processes do that share out the weights (FSDP2), started by `test_training_processes.py`.

Arguments: a model folder for its tokenizer, and a folder to leave `results.pt` in.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import training_runs
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from training_runs import AtStep, RecordingTrainer, make_corpus, make_trainer, steps_of
from two_processes import SHARED_STEPS

from hf_vanilla_transformer.training.interruption import Interrupted


class ShardedTrainer(RecordingTrainer):
    """Lets accelerate do on processors what it does on GPUs: it asks only whether there are several of these."""

    def create_accelerator_and_postprocess(self) -> None:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        super().create_accelerator_and_postprocess()


def whole_weights(trainer: RecordingTrainer) -> dict[str, torch.Tensor]:
    """All weights on every process."""
    state = get_model_state_dict(trainer.model, options=StateDictOptions(full_state_dict=True))
    return {name: tensor.clone() for name, tensor in state.items()}


def own_share(trainer: RecordingTrainer) -> float:
    """How much of the weights this process holds."""
    parameters = list(trainer.model.parameters())
    return sum(p.to_local().numel() for p in parameters) / sum(p.numel() for p in parameters)


def main(model_folder: Path, folder: Path) -> None:
    """Train, evaluate by decoding, stop, resume, save."""
    torch.set_num_threads(1)
    training_runs.RecordingTrainer = ShardedTrainer
    shared: dict[str, Any] = {"gradient_accumulation_steps": 1, **SHARED_STEPS}
    whole = make_trainer(model_folder, folder / "whole", **shared)
    whole.train()
    corpus, _ = make_corpus(model_folder, pairs=7)
    stopped = make_trainer(model_folder, folder / "stopped", **shared)
    if stopped.accelerator.process_index == 1:
        stopped.add_callback(AtStep(7, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    with contextlib.suppress(Interrupted):
        stopped.train()
    resumed = make_trainer(model_folder, folder / "stopped", **shared)
    resumed.train(resume_from_checkpoint=True)
    resumed.save_model()
    results = {
        "type": str(whole.accelerator.distributed_type),
        "share": own_share(whole),
        "steps": steps_of(whole),
        "weights": whole_weights(whole),
        "translations": whole.translate_shared(corpus["source"], num_beams=2),
        "loss": whole.evaluate()["eval_loss"],
        "resumed steps": steps_of(resumed),
        "resumed weights": whole_weights(resumed),
    }
    if os.environ.get("RANK", "0") == "0":
        torch.save(results, folder / "results.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
