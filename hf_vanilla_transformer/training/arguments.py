"""The settings of a training run, in five groups: model, tokenizer, data, decoding, training.

A recipe's sections are these groups, and every field is also an option of the command line. This module is light, so
that `train --help` answers at once; the Trainer's own settings are in `trainer_arguments`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from ..model.configuration_vanilla_transformer import VanillaTransformerConfig
from ..model.setting_ranges import check_ranges


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A dataclass field with its line of help."""
    return field(default=default, metadata={"help": help, **metadata})


def check_finite(settings: Mapping[str, Any]) -> None:
    """Refuse NaN and infinity in any setting, in a list too.

    Raises:
        ValueError: the message names the setting.
    """
    for name, value in settings.items():
        for number in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"`{name}` must be a finite number, got {number}.")


# Settled by the tokenizer, or not a hyperparameter.
_NOT_OPTIONS = {"vocab_size", "decoder_vocab_size", "is_encoder_decoder", "is_decoder", "use_cache"}


def _config_fields() -> list[tuple[str, Any, Any]]:
    """Every hyperparameter of the config as an option, None unless given: defaults are written once, there."""
    own = VanillaTransformerConfig.__annotations__
    names = [name for name in own if name not in _NOT_OPTIONS and not name.endswith("_token_id")]
    return [(name, _plain_type(own[name]), option(None, f"`{name}` of the model's config")) for name in names]


def _plain_type(annotation: Any) -> Any:
    """What the command line parses: the config's unions narrow to their widest plain type, always optional."""
    text = str(annotation)
    for kind in (float, int, bool):
        if annotation is kind or kind.__name__ in text.replace("|", " ").split():
            return kind | None
    return str | None


ModelArguments = make_dataclass(
    "ModelArguments",
    [
        ("init_from", str | None, option(None, "start from this saved model and its tokenizer, not from scratch")),
        *_config_fields(),
    ],
)
CHANGEABLE = {"dropout", "attention_dropout", "activation_dropout", "label_smoothing"}
"""Model settings that may change when training goes on from a saved model; the others are its shape."""

ModelArguments.__doc__ = "Which model to train: `init_from`, or the fields of `VanillaTransformerConfig`."


@dataclass
class TokenizerArguments:
    """The subword vocabulary, shared by both languages (section 5.1)."""

    tokenizer: str | None = option(None, "use this saved tokenizer (folder or Hub name) instead of learning one")
    vocab_size: int = option(37000, "tokens of the vocabulary to learn, special tokens included")
    tokenizer_algorithm: str = option("bpe", "how to learn it: bpe or unigram")


@dataclass
class DataArguments:
    """Parallel text: files, or a `datasets` name or folder, or the built-in corpus."""

    train_source: str | None = option(None, "training text, source side, one sentence a line; or a two-column file")
    train_target: str | None = option(None, "training text, target side")
    validation_source: str | None = option(None, "validation text, source side")
    validation_target: str | None = option(None, "validation text, target side")
    dataset_name: str | None = option(None, "a `datasets` name or folder, or builtin-fr-en")
    dataset_config_name: str | None = option(None, "configuration of that dataset")
    train_split: str = option("train", "its split to train on")
    validation_split: str = option("validation", "its split to validate on")
    source_lang: str | None = option(None, "language code of the source, e.g. en; else by the names of files")
    target_lang: str | None = option(None, "language code of the target, e.g. de; likewise")
    source_column: str | None = option(None, "column of the source, where the data has columns")
    target_column: str | None = option(None, "column of the target, where the data has columns")
    streaming: bool = option(False, "read the training text on and on without storing it; needs max_steps")
    pool_size: int = option(100_000, "pairs of a stream that are shuffled and cut into batches together")
    drop_empty: bool = option(True, "leave out pairs with an empty side")
    max_length: int | None = option(250, "leave out pairs with a side of more tokens; 0 keeps all")
    max_length_ratio: float | None = option(None, "leave out pairs with one side this many times longer in tokens")
    drop_duplicates: bool = option(True, "leave out repetitions of a pair")
    drop_identical: bool = option(True, "leave out pairs whose sides are equal")

    def __post_init__(self) -> None:
        check_finite(vars(self))
        for name, least in (("max_length", 0), ("max_length_ratio", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"`{name}` must be at least {least}, got {value}.")


@dataclass
class DecodingArguments:
    """What is written into the model's generation config (section 6.1)."""

    num_beams: int | None = option(None, "beam size; 4 from scratch")
    max_extra_tokens: int | None = option(None, "most tokens beyond those of the source; 50 from scratch")
    gnmt_length_penalty: float | None = option(
        None, "score = log-probability / ((5 + tokens) / 6) ** this (Wu et al. 2016); 0.6 from scratch"
    )
    length_penalty: float | None = option(
        None, "in its place: score = log-probability / tokens ** this, as `transformers` has it"
    )

    def __post_init__(self) -> None:
        check_ranges((vars(self), {}, {}), frozenset(vars(self)))
        if self.length_penalty is not None and self.gnmt_length_penalty is not None:
            raise ValueError(
                f"A length penalty is of one kind, but length_penalty {self.length_penalty} and gnmt_length_penalty "
                f"{self.gnmt_length_penalty} were given. Leave one of them out."
            )


TRAINING_HELP = {
    "max_tokens": "padded tokens of a batch, on each side and on each device (section 5.1)",
    "warmup_steps": "steps of growing rate (section 5.3)",
    "learning_rate": "highest rate; unset, the paper's formula gives it: (d_model * warmup_steps)^-0.5",
    "lr_scheduler_type": "inverse_sqrt is the paper's schedule; else one of transformers'",
    "precision": "auto (bf16 where it is the faster one here), bf16 or fp32",
    "num_train_epochs": "passes over the training text",
    "max_steps": "optimizer steps, in place of epochs",
    "gradient_accumulation_steps": "batches of one optimizer step",
    "eval_strategy": "when to validate: no, steps or epoch",
    "save_strategy": "when to write a checkpoint: no, steps or epoch",
    "save_total_limit": "checkpoints to keep, the best one included",
    "predict_with_generate": "validate by BLEU and chrF of decoded text",
    "metric_for_best_model": "bleu, chrf or loss",
    "logging_steps": "steps between log lines",
    "report_to": "where else to log, e.g. tensorboard",
    "resume_changed": "resume although text, model or settings changed since: it becomes another run",
    "seed": "of the weights, the dropout and the order of the text",
}
"""The settings of `trainer_arguments` that most runs touch; `train --help_all` lists them all."""


GROUPS = {
    "model": ModelArguments,
    "tokenizer": TokenizerArguments,
    "data": DataArguments,
    "decoding": DecodingArguments,
}
"""Sections of a recipe beside `training`, which holds `trainer_arguments.TranslationTrainingArguments`."""
