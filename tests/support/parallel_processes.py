"""What two processes do that share out one model by its plans, started by `test_ecosystem.py`."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tiny import pad_batch, sentences
from transformers import AutoModelForSeq2SeqLM
from transformers.distributed.configuration_utils import DistributedConfig

import hf_vanilla_transformer  # noqa: F401 - registers the model

SETTINGS: list[dict[str, Any]] = [{"num_beams": 1}, {"num_beams": 3}]


def inputs() -> dict[str, torch.Tensor]:
    """A padded batch with labels."""
    ids, mask = pad_batch(sentences([4, 9, 6]))
    labels, labels_mask = pad_batch(sentences([5, 3, 7], seed=1))
    return {"input_ids": ids, "attention_mask": mask, "labels": labels.masked_fill(labels_mask == 0, -100)}


def generate(model: Any, settings: dict[str, Any]) -> torch.Tensor:
    """A few tokens."""
    source = {name: tensor for name, tensor in inputs().items() if name != "labels"}
    return model.generate(**source, max_new_tokens=8, **settings)


def record_of(folder: Path, **sizes: int) -> dict[str, Any]:
    """What a model that is shared out gives."""
    model = AutoModelForSeq2SeqLM.from_pretrained(
        folder / "model", distributed_config=DistributedConfig(**sizes)
    ).eval()
    loss = model(**inputs()).loss  # FSDP2 wants a whole model's forward before its encoder's alone
    loss.backward()
    generated = [generate(model, settings) for settings in SETTINGS]
    weight = model.model.encoder.layers[0].fc1.weight
    loss = loss.full_tensor() if hasattr(loss, "full_tensor") else loss
    return {
        "loss": loss.detach(),
        "gradient": weight.grad.full_tensor(),
        "local shape": list(weight.to_local().shape),
        "generated": generated,
    }


def main(rank: int, folder: str) -> None:
    """Both plans, in one pair of processes: starting them is what takes time."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        results = {
            "tensor parallel": record_of(Path(folder), tp_size=2),
            "fully sharded": record_of(Path(folder), fsdp_size=2),
        }
        if rank == 0:
            torch.save(results, f"{folder}/results.pt")
    finally:
        dist.destroy_process_group()
