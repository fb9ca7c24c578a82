"""The fingerprint of a run: text, model and settings that its results depend on. A resumed run must have the same."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import datasets

from ..data.stream_batching import StreamingBatches
from ..model.manifest import read_manifest

# settings that change the results of a run; saving, evaluation, logging and splitting a step's batch do not
_OPTIMIZER = ("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "optim", "optim_args")
_ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm")
_STEP = ("max_tokens", "label_smoothing_factor", "seed", "data_seed", "bf16", "fp16")
_MEMORY = ("activation_checkpointing", "gradient_checkpointing")
_TRAINING = (*_OPTIMIZER, *_ADAM, *_STEP, *_MEMORY)
TEXT = "training text"
_INDEPENDENT_OF_LENGTH = ("inverse_sqrt", "constant", "constant_with_warmup")
_SHAPE = (
    *("vocab_size", "decoder_vocab_size", "d_model", "head_dim", "value_head_dim", "positional_encoding"),
    *(f"{side}_{size}" for side in ("encoder", "decoder") for size in ("layers", "ffn_dim", "attention_heads")),
    *("normalize_before", "attention_bias", "logits_bias", "tie_word_embeddings", "share_encoder_decoder_embeddings"),
)
_NOT_SHAPE = (
    "transformers_version",
    "architectures",
    "auto_map",
    "custom_pipelines",
    "dtype",
    "use_cache",
    "trained_source_length",
)
_KNOWN_DATASETS: WeakKeyDictionary[datasets.Dataset, str] = WeakKeyDictionary()
"""Cached fingerprints, since every checkpoint needs them; a `Dataset` never changes."""


def run_fingerprint(trainer: Any) -> dict[str, Any]:
    """Everything that must be equal for a run to continue as if it had not been stopped, by setting name."""
    args = trainer.args
    settings = {name: getattr(args, name) for name in _TRAINING if hasattr(args, name)}
    if isinstance(trainer.train_dataset, StreamingBatches):
        settings |= {"pool_size": trainer.train_dataset.pool_size, **asdict(trainer.train_dataset.filters)}
    settings["batches of a step"] = args.gradient_accumulation_steps * args.world_size
    if args.lr_scheduler_type not in _INDEPENDENT_OF_LENGTH:
        settings["max_steps"] = trainer.state.max_steps
    model = trainer.accelerator.unwrap_model(trainer.model).config.to_diff_dict()
    settings |= {name: value for name, value in model.items() if name not in _NOT_SHAPE and not name.startswith("_")}
    plain = json.loads(json.dumps(settings, default=str))
    return {TEXT: data_fingerprint(trainer.train_dataset), **plain}


def data_fingerprint(dataset: datasets.Dataset | StreamingBatches) -> str:
    """SHA-256 of the token ids of all pairs, in order; for a stream, of the text of its first 1,000 pairs."""
    if isinstance(dataset, StreamingBatches):
        return hashlib.sha256(json.dumps(list(islice(dataset.corpus, 1000))).encode()).hexdigest()
    if dataset not in _KNOWN_DATASETS:
        digest = hashlib.sha256()
        for rows in dataset.select_columns(["input_ids", "labels"]).with_format("arrow").iter(10_000):
            for column in rows.columns:
                for chunk in column.chunks:
                    digest.update(chunk.value_lengths().to_numpy(zero_copy_only=False).tobytes())
                    digest.update(chunk.flatten().to_numpy(zero_copy_only=False).tobytes())
        _KNOWN_DATASETS[dataset] = digest.hexdigest()
    return _KNOWN_DATASETS[dataset]


def require_same_model(checkpoint: Path, config: Any) -> None:
    """Refuse to resume with weights of another shape, whatever else may have changed.

    Args:
        checkpoint: a model folder.
        config: config of the model to resume with.

    Raises:
        ValueError: the shapes differ; the message names them.
    """
    if not (checkpoint / "config.json").is_file():  # sharded state alone
        return
    saved = type(config).from_pretrained(checkpoint)
    shapes = ((name, getattr(saved, name, None), getattr(config, name, None)) for name in _SHAPE)
    changed = [f"{name} (was {before}, is {now})" for name, before, now in shapes if before != now]
    if changed:
        raise ValueError(
            f"A resumed run continues with the model of its checkpoint, but since {checkpoint} these changed: "
            f"{', '.join(changed)}. Change them back, or start another run."
        )


def require_same_run(checkpoint: Path, fingerprint: Mapping[str, Any]) -> None:
    """Refuse to resume a run whose text, model or settings have changed.

    Args:
        checkpoint: a folder with a manifest.
        fingerprint: fingerprint of the run to resume.

    Raises:
        ValueError: text, model or settings differ; the message names them.
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
            f"{', '.join(changed)}. Change them back, or resume as a different run with `--resume_changed`."
        )
