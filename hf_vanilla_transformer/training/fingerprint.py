"""What a run's numbers depend on: its text, model and settings. A run that resumes must have the same."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets

from ..manifest_vanilla_transformer import read_manifest

# settings that change the numbers of a run; saving, evaluating, logging and the cut of a step's batch do not
_TRAINING = (
    *(
        "learning_rate",
        "lr_scheduler_type",
        "lr_scheduler_kwargs",
        "warmup_steps",
        "optim",
        "optim_args",
        "adam_beta1",
    ),
    *("adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm", "label_smoothing_factor", "seed", "data_seed"),
    *("max_tokens", "bf16", "fp16", "activation_checkpointing", "gradient_checkpointing"),
)
TEXT = "training text"
_INDEPENDENT_OF_LENGTH = ("inverse_sqrt", "constant", "constant_with_warmup")
_NOT_SHAPE = ("transformers_version", "architectures", "auto_map", "dtype", "_name_or_path", "use_cache")


def run_fingerprint(trainer: Any) -> dict[str, Any]:
    """What must be equal for a run to go on as if it had not been stopped, by the name of each setting."""
    args = trainer.args
    settings = {name: getattr(args, name) for name in _TRAINING if hasattr(args, name)}
    settings["batches of a step"] = args.gradient_accumulation_steps * args.world_size
    if args.lr_scheduler_type not in _INDEPENDENT_OF_LENGTH:
        settings["max_steps"] = trainer.state.max_steps
    model = trainer.accelerator.unwrap_model(trainer.model).config.to_diff_dict()
    settings |= {name: value for name, value in model.items() if name not in _NOT_SHAPE}
    plain = json.loads(json.dumps(settings, default=str))
    return {TEXT: data_fingerprint(trainer.train_dataset), **plain}


def data_fingerprint(dataset: Any) -> str | None:
    """SHA-256 of the token ids of all pairs, in their order; None for a stream, which cannot be read ahead."""
    if not isinstance(dataset, datasets.Dataset):
        return None
    known = getattr(dataset, "_sha256_of_pairs", None)
    if known is None:
        digest = hashlib.sha256()
        for rows in dataset.select_columns(["input_ids", "labels"]).with_format("arrow").iter(10_000):
            for column in rows.columns:
                for chunk in column.chunks:
                    digest.update(chunk.value_lengths().to_numpy(zero_copy_only=False).tobytes())
                    digest.update(chunk.flatten().to_numpy(zero_copy_only=False).tobytes())
        known = dataset._sha256_of_pairs = digest.hexdigest()
    return known


def require_same_run(checkpoint: Path, fingerprint: Mapping[str, Any]) -> None:
    """Refuse to resume what has become another run.

    Args:
        checkpoint: a folder with a manifest.
        fingerprint: of the run that wants to go on.

    Raises:
        ValueError: text, model or settings differ; names them.
    """
    saved = (read_manifest(checkpoint) or {}).get("fingerprint") or {}
    changed = [
        name if name == TEXT else f"{name} (was {saved.get(name)}, is {fingerprint.get(name)})"
        for name in sorted(saved.keys() | fingerprint.keys())
        if saved.get(name) != fingerprint.get(name)
    ]
    if changed:
        raise ValueError(
            f"A resumed run must be the run that was stopped, but since {checkpoint} these changed: "
            f"{', '.join(changed)}. Change them back, or go on as another run with `--resume_changed`."
        )
