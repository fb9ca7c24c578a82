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
    """A dataclass field with a help text."""
    return field(default=default, metadata={"help": help, **metadata})


def check_finite(settings: Mapping[str, Any]) -> None:
    """Refuse NaN and infinity in any setting, also inside lists.

    Raises:
        ValueError: the message names the setting.
    """
    for name, value in settings.items():
        for number in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"`{name}` must be a finite number, got {number}.")


# Determined by the tokenizer, or not a hyperparameter.
_NOT_OPTIONS = {
    *("vocab_size", "decoder_vocab_size", "is_encoder_decoder", "is_decoder", "use_cache"),
    "trained_source_length",
}


def _config_fields() -> list[tuple[str, Any, Any]]:
    """Every hyperparameter of the config as an option, None unless given: the config alone holds the defaults."""
    own = [each for each in model_fields() if each.name not in _NOT_OPTIONS]
    return [(each.name, _plain_type(each), _unset(each)) for each in own if not each.name.endswith("_token_id")]


def _unset(of_config: ModelField) -> Any:
    words = of_config.help
    sentence = words[:1].lower() + words[1:] if words[1:2].islower() else words  # the option's name comes before it
    return option(None, sentence, **_choices(of_config.choices))


def _plain_type(of_config: ModelField) -> Any:
    """What the command line parses: the config's unions narrow to their widest plain type, always optional."""
    words = of_config.annotation.replace("|", " ").split()
    return next((kind for kind in (float, int, bool) if kind.__name__ in words), str) | None


def _choices(choices: tuple[str, ...]) -> dict[str, list[str]]:
    return {"choices": list(choices)} if choices else {}


ModelArguments = make_dataclass(
    "ModelArguments",
    [
        ("init_from", str | None, option(None, "fine-tune this saved model, with its tokenizer")),
        *_config_fields(),
    ],
)
CHANGEABLE = {"dropout", "attention_dropout", "activation_dropout", "label_smoothing"}
"""Model settings that may change when fine-tuning a saved model; the others define its shape."""

CONFIG_DEFAULTS = {each.name: each.default for each in model_fields()}
"""What the config's own fields are when they are not given; the options themselves are then None."""

ModelArguments.__doc__ = "The model to train: `init_from`, or the fields of `VanillaTransformerConfig`."


@dataclass
class TokenizerArguments:
    """The subword vocabulary, shared by both languages (section 5.1)."""

    tokenizer: str | None = option(None, "use this saved tokenizer (folder or Hub name) instead of learning one")
    vocab_size: int = option(37000, "size of the vocabulary to learn, special tokens included")
    tokenizer_algorithm: str = option("bpe", "algorithm that learns the vocabulary", choices=["bpe", "unigram"])


@dataclass
class DataArguments:
    """Parallel text: files, a dataset by name or folder, or the built-in corpus."""

    train_source: str | None = option(
        None, "source side of the training text, one sentence per line; or a two-column file"
    )
    train_target: str | None = option(None, "target side of the training text")
    validation_source: str | None = option(None, "source side of the validation text")
    validation_target: str | None = option(None, "target side of the validation text")
    dataset_name: str | None = option(None, "Hub dataset or dataset folder, or builtin-fr-en")
    dataset_config_name: str | None = option(None, "configuration of the dataset")
    train_split: str = option("train", "split of the dataset to train on")
    validation_split: str = option("validation", "split of the dataset to validate on")
    source_lang: str | None = option(None, "source language code, e.g. en (default: from file or column names)")
    target_lang: str | None = option(None, "target language code, e.g. de (default: from file or column names)")
    source_column: str | None = option(None, "source column, if the data has columns")
    target_column: str | None = option(None, "target column, if the data has columns")
    streaming: bool = option(False, "stream the training text instead of storing it; needs max_steps")
    pool_size: int = option(100_000, "number of pairs of a stream that are shuffled and batched together")
    drop_empty: bool = option(True, "drop pairs with an empty side")
    max_length: int | None = option(250, "drop pairs with more than this many tokens on a side; 0 keeps all")
    max_length_ratio: float | None = option(
        None, "drop pairs with a side more than this many times as long, in tokens"
    )
    drop_duplicates: bool = option(True, "drop duplicate pairs")
    drop_identical: bool = option(True, "drop pairs with identical sides")

    def __post_init__(self) -> None:
        check_finite(vars(self))
        for name, least in (("max_length", 0), ("max_length_ratio", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"`{name}` must be at least {least}, got {value}.")


@dataclass
class DecodingArguments:
    """Decoding settings, written into the model's generation config (section 6.1)."""

    num_beams: int | None = option(None, "beam size (default from scratch: 4)")
    max_extra_tokens: int | None = option(
        None, "maximum length of a translation: the source's tokens plus this (default from scratch: 50)"
    )
    gnmt_length_penalty: float | None = option(
        None, "score = log-probability / ((5 + tokens) / 6) ** this (Wu et al. 2016; default from scratch: 0.6)"
    )
    length_penalty: float | None = option(
        None, "instead of gnmt_length_penalty: score = log-probability / tokens ** this, as in transformers"
    )
    coverage_penalty: float | None = option(
        None, "weight of the penalty for untranslated source tokens (Wu et al. 2016; default: none)"
    )

    def __post_init__(self) -> None:
        check_ranges((vars(self), {}, {}), frozenset(vars(self)))
        if self.length_penalty is not None and self.gnmt_length_penalty is not None:
            raise ValueError(
                f"Only one kind of length penalty can apply, but length_penalty {self.length_penalty} and "
                f"gnmt_length_penalty {self.gnmt_length_penalty} were given. Leave one of them out."
            )


@dataclass(frozen=True)
class TrainingSetting:
    """A setting of `trainer_arguments` that most runs need; `train --help` shows it without importing the Trainer.

    Attributes:
        choices: the allowed values; empty if any value of the type may be given.
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
        int, 4096, "maximum tokens per batch on each side, per device, padding included (section 5.1)"
    ),
    "warmup_steps": TrainingSetting(float, 4000, "steps of linear learning-rate warm-up (section 5.3)"),
    "learning_rate": TrainingSetting(
        float, None, "peak learning rate (default: the paper's formula, (d_model * warmup_steps)^-0.5)"
    ),
    "lr_scheduler_type": TrainingSetting(
        str,
        "inverse_sqrt",
        "learning-rate schedule; inverse_sqrt is the paper's, transformers has others such as linear or cosine",
    ),
    "precision": TrainingSetting(
        str, "auto", "auto is bf16 if it is faster than fp32 on this machine", ("auto", "bf16", "fp32")
    ),
    "num_train_epochs": TrainingSetting(float, 3.0, "passes over the training text"),
    "max_steps": TrainingSetting(int, -1, "optimizer steps, instead of num_train_epochs; -1 trains by epochs"),
    "gradient_accumulation_steps": TrainingSetting(int, 1, "batches per optimizer step"),
    "eval_strategy": TrainingSetting(str, "no", "when to validate", _WHEN),
    "save_strategy": TrainingSetting(str, "steps", "when to write a checkpoint", (*_WHEN, "best")),
    "save_total_limit": TrainingSetting(int, 6, "checkpoints to keep, the best one included; 0 keeps all"),
    "predict_with_generate": TrainingSetting(bool, True, "also decode the validation text, for BLEU and chrF"),
    "metric_for_best_model": TrainingSetting(
        str, "bleu", "metric that selects the best checkpoint: bleu, chrf or loss"
    ),
    "logging_steps": TrainingSetting(float, 100, "steps between log lines"),
    "report_to": TrainingSetting(str, "none", "other loggers, such as tensorboard or wandb"),
    "resume_changed": TrainingSetting(
        bool, False, "resume even if text, model or settings have changed, which makes it a different run"
    ),
    "seed": TrainingSetting(int, 42, "random seed for weights, dropout and data order"),
}
"""The Trainer settings that `train --help` lists; `train --help_all` lists all of them."""


GROUPS = {
    "model": ModelArguments,
    "tokenizer": TokenizerArguments,
    "data": DataArguments,
    "decoding": DecodingArguments,
}
"""Sections of a recipe, except `training`, which holds `trainer_arguments.TranslationTrainingArguments`."""
