"""`Seq2SeqTrainingArguments` with the paper's optimizer as defaults (sections 5.1, 5.3), and batches by tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import Seq2SeqTrainingArguments

from .arguments import TRAINING_HELP, check_finite
from .precision import computes_bf16_fast, precision_of_launcher
from .schedule import peak_learning_rate


@dataclass
class TranslationTrainingArguments(Seq2SeqTrainingArguments):
    """`Seq2SeqTrainingArguments` for `VanillaTransformerTrainer`.

    Defaults that differ from the Trainer's: Adam(0.9, 0.98, 1e-9) without weight decay or clipping, the paper's
    learning rate with 4,000 steps of warm-up, validation by BLEU, a log line every 100 steps, and a loss that is not
    a number is shown as such.
    """

    max_tokens: int = field(default=4096, metadata={"help": TRAINING_HELP["max_tokens"]})
    precision: str = field(
        default="auto",
        metadata={
            "help": TRAINING_HELP["precision"],
            "choices": ["auto", "bf16", "fp32"],
        },
    )
    learning_rate: float | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": TRAINING_HELP["learning_rate"]},
    )
    lr_scheduler_type: str = field(default="inverse_sqrt", metadata={"help": TRAINING_HELP["lr_scheduler_type"]})
    warmup_steps: float = field(default=4000, metadata={"help": TRAINING_HELP["warmup_steps"]})
    adam_beta2: float = field(default=0.98, metadata={"help": "section 5.3"})
    adam_epsilon: float = field(default=1e-9, metadata={"help": "section 5.3"})
    max_grad_norm: float = field(
        default=0.0, metadata={"help": "clip gradients to this norm; 0, as the paper, does not"}
    )
    predict_with_generate: bool = field(default=True, metadata={"help": TRAINING_HELP["predict_with_generate"]})
    metric_for_best_model: str | None = field(
        default="bleu", metadata={"help": TRAINING_HELP["metric_for_best_model"]}
    )
    logging_steps: float = field(default=100, metadata={"help": TRAINING_HELP["logging_steps"]})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "hide losses that are not numbers"})
    save_total_limit: int | None = field(default=6, metadata={"help": TRAINING_HELP["save_total_limit"]})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "look for parameters without gradient; the model has none"}
    )
    resume_changed: bool = field(default=False, metadata={"help": TRAINING_HELP["resume_changed"]})
    output_dir: str | None = field(default=None, metadata={"help": "folder of the run"})

    def __post_init__(self) -> None:
        _check_numbers(vars(self))
        derived = self.learning_rate is None
        if derived:
            if self.lr_scheduler_type != "inverse_sqrt":
                raise ValueError(
                    f"`lr_scheduler_type` {self.lr_scheduler_type} needs a `learning_rate`; only the paper's "
                    "schedule, inverse_sqrt, derives it."
                )
            self.learning_rate = 0.0  # until `derive_learning_rate` knows the model
        if self.max_tokens < 1:
            raise ValueError(f"`max_tokens` must be at least 1, got {self.max_tokens}.")
        self._settle_precision()
        # batches differ in size, and the sampler itself gives every process the same number of them
        self.accelerator_config = {"even_batches": False, **_as_dict(self.accelerator_config)}
        super().__post_init__()
        self._learning_rate_is_derived = derived

    def derive_learning_rate(self, d_model: int) -> None:
        """Set the peak rate by the paper's formula unless one was given."""
        if self._learning_rate_is_derived:
            self.learning_rate = peak_learning_rate(d_model, self.get_warmup_steps(self.max_steps))

    def _settle_precision(self) -> None:
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ValueError(f"`precision` must be auto, bf16 or fp32, got {self.precision!r}.")
        told = precision_of_launcher()
        if self.precision == "bf16":
            self.bf16 = True
        elif self.precision == "auto" and told is not None:
            self.bf16, self.fp16 = told == "bf16", told == "fp16"
        elif self.precision == "auto" and not self.fp16:
            self.bf16 = self.bf16 or computes_bf16_fast(self.use_cpu)
        if not self.fp16:  # what was settled, for the record of the run: a resumed one must not choose again
            self.precision = "bf16" if self.bf16 else "fp32"
        if not torch.accelerator.is_available():
            self.use_cpu = True  # the Trainer takes bf16 on a processor only where it is named


_RANGES = {
    **dict.fromkeys(("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps"), (0.0, 1e9)),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "label_smoothing_factor"), (0.0, 1.0)),
    "adam_epsilon": (0.0, 1.0),
    "num_train_epochs": (0.0, 1e9),
}
"""Numbers of the optimizer, from least to most; what is outside trains nothing, or away from what is sought."""


def _check_numbers(settings: Mapping[str, Any]) -> None:
    """Refuse what is no number anywhere, and what is outside the ranges above.

    Raises:
        ValueError: the message names the setting.
    """
    check_finite(settings)
    for name, (least, most) in _RANGES.items():
        value = settings.get(name)
        if isinstance(value, (int, float)) and not least <= value <= most:
            raise ValueError(f"`{name}` must be between {least:g} and {most:g}, got {value}.")
    steps, epochs = settings.get("max_steps", -1), settings.get("num_train_epochs", 1)
    if isinstance(steps, int) and steps < 1 and steps != -1:
        raise ValueError(f"`max_steps` must be at least 1, or -1 to train by epochs, got {steps}.")
    if steps == -1 and epochs == 0:
        raise ValueError("`num_train_epochs` must be more than 0, or nothing is trained, got 0.")


def _as_dict(config: Any) -> dict[str, Any]:
    if config is None:
        return {}
    if isinstance(config, dict):
        return config
    if isinstance(config, str):
        raise ValueError(f"`accelerator_config` must be a JSON object, got {config!r}.")
    return config.to_dict()
