"""The settings of a training run, in five groups: model, tokenizer, data, decoding, training.

A recipe's sections are these groups, and every field is also an option of the command line. This module imports
neither torch nor `transformers`, so that `train --help` answers at once; the Trainer's own settings are in
`trainer_arguments`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from ..model.setting_ranges import check_ranges
from .model_fields import ModelField, model_fields


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
_NOT_OPTIONS = {
    *("vocab_size", "decoder_vocab_size", "is_encoder_decoder", "is_decoder", "use_cache"),
    "trained_source_length",
}


def _config_fields() -> list[tuple[str, Any, Any]]:
    """Every hyperparameter of the config as an option, None unless given: defaults are written once, there."""
    own = [each for each in model_fields() if each.name not in _NOT_OPTIONS]
    return [(each.name, _plain_type(each), _unset(each)) for each in own if not each.name.endswith("_token_id")]


def _unset(of_config: ModelField) -> Any:
    about = {"help": of_config.help, "default": of_config.default, **_choices(of_config.choices)}
    return field(default=None, metadata=about)


def _plain_type(of_config: ModelField) -> Any:
    """What the command line parses: the config's unions narrow to their widest plain type, always optional."""
    words = of_config.annotation.replace("|", " ").split()
    return next((kind for kind in (float, int, bool) if kind.__name__ in words), str) | None


def _choices(choices: tuple[str, ...]) -> dict[str, list[str]]:
    return {"choices": list(choices)} if choices else {}


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
    tokenizer_algorithm: str = option("bpe", "how to learn it", choices=["bpe", "unigram"])


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
    streaming: bool = option(False, "stream the training text instead of storing it; needs max_steps")
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


@dataclass(frozen=True)
class TrainingSetting:
    """A setting of `trainer_arguments` that most runs touch, as `train --help` shows it without importing the Trainer.

    Attributes:
        choices: its values, where only some are known.
    """

    type: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()

    def as_field(self) -> Any:
        """The same as a field of a dataclass."""
        return option(self.default, self.help, **_choices(self.choices))


_WHEN = ("no", "steps", "epoch")
TRAINING_SETTINGS = {
    "max_tokens": TrainingSetting(
        int, 4096, "tokens of a batch on each side and device, padding included (section 5.1)"
    ),
    "warmup_steps": TrainingSetting(float, 4000, "steps over which the learning rate grows (section 5.3)"),
    "learning_rate": TrainingSetting(
        float, None, "highest learning rate; unset, the paper's formula gives it: (d_model * warmup_steps)^-0.5"
    ),
    "lr_scheduler_type": TrainingSetting(
        str,
        "inverse_sqrt",
        "inverse_sqrt is the paper's schedule; or another of transformers', such as linear or cosine",
    ),
    "precision": TrainingSetting(
        str, "auto", "auto is bf16 where this machine computes it faster than fp32", ("auto", "bf16", "fp32")
    ),
    "num_train_epochs": TrainingSetting(float, 3.0, "passes over the training text"),
    "max_steps": TrainingSetting(int, -1, "optimizer steps, in place of epochs; -1 trains by epochs"),
    "gradient_accumulation_steps": TrainingSetting(int, 1, "batches of one optimizer step"),
    "eval_strategy": TrainingSetting(str, "no", "when to validate", _WHEN),
    "save_strategy": TrainingSetting(str, "steps", "when to write a checkpoint", (*_WHEN, "best")),
    "save_total_limit": TrainingSetting(int, 6, "checkpoints to keep, the best one included; 0 keeps all"),
    "predict_with_generate": TrainingSetting(bool, True, "validate by BLEU and chrF of decoded text"),
    "metric_for_best_model": TrainingSetting(str, "bleu", "which checkpoint is the best: by bleu, chrf or loss"),
    "logging_steps": TrainingSetting(float, 100, "steps between log lines"),
    "report_to": TrainingSetting(str, "none", "where else to log, such as tensorboard or wandb"),
    "resume_changed": TrainingSetting(
        bool, False, "resume although text, model or settings have changed: it becomes another run"
    ),
    "seed": TrainingSetting(int, 42, "of the weights, the dropout and the order of the text"),
}
"""What `train --help` lists of `trainer_arguments`; `train --help_all` lists all of it."""


GROUPS = {
    "model": ModelArguments,
    "tokenizer": TokenizerArguments,
    "data": DataArguments,
    "decoding": DecodingArguments,
}
"""Sections of a recipe beside `training`, which holds `trainer_arguments.TranslationTrainingArguments`."""
