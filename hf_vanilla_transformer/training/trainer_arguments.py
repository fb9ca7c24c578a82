"""`Seq2SeqTrainingArguments` with batches by tokens and the paper's optimizer as default (sections 5.1, 5.3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import Seq2SeqTrainingArguments

from ..model.setting_ranges import COUNTS
from .arguments import TRAINING_SETTINGS, check_finite
from .precision import computes_bf16_fast, precision_of_launcher
from .schedule import peak_learning_rate


@dataclass
class TranslationTrainingArguments(Seq2SeqTrainingArguments):
    """`Seq2SeqTrainingArguments` for `VanillaTransformerTrainer`.

    Defaults that differ from the Trainer's: Adam(0.9, 0.98, 1e-9) without weight decay or gradient clipping, the
    paper's learning rate with 4,000 warm-up steps, validation by BLEU, a log line every 100 steps, and NaN losses
    shown as NaN.
    """

    max_tokens: int = TRAINING_SETTINGS["max_tokens"].as_field()
    precision: str = TRAINING_SETTINGS["precision"].as_field()
    learning_rate: float | None = TRAINING_SETTINGS["learning_rate"].as_field()  # type: ignore[assignment]
    lr_scheduler_type: str = TRAINING_SETTINGS["lr_scheduler_type"].as_field()
    warmup_steps: float = TRAINING_SETTINGS["warmup_steps"].as_field()
    adam_beta2: float = field(default=0.98, metadata={"help": "beta2 of Adam (section 5.3)"})
    adam_epsilon: float = field(default=1e-9, metadata={"help": "epsilon of Adam (section 5.3)"})
    max_grad_norm: float = field(
        default=0.0, metadata={"help": "clip gradients to this norm; 0 does not clip, as in the paper"}
    )
    predict_with_generate: bool = TRAINING_SETTINGS["predict_with_generate"].as_field()
    metric_for_best_model: str | None = TRAINING_SETTINGS["metric_for_best_model"].as_field()
    logging_steps: float = TRAINING_SETTINGS["logging_steps"].as_field()
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "leave NaN and infinite losses out of the log"}
    )
    save_total_limit: int | None = TRAINING_SETTINGS["save_total_limit"].as_field()
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "look for parameters without a gradient; the model has none"}
    )
    resume_changed: bool = TRAINING_SETTINGS["resume_changed"].as_field()
    output_dir: str | None = field(default=None, metadata={"help": "run folder"})

    def __post_init__(self) -> None:
        _check_numbers(vars(self))
        derived = self.learning_rate is None
        if derived:
            if self.lr_scheduler_type != "inverse_sqrt":
                raise ValueError(
                    f"`lr_scheduler_type` {self.lr_scheduler_type} needs a `learning_rate`; only inverse_sqrt, the "
                    "paper's schedule, has a default for it."
                )
            self.learning_rate = 0.0  # until `derive_learning_rate` knows the model
        self._settle_precision()
        # batches differ in size, and the sampler itself gives every process the same number of them
        self.accelerator_config = {"even_batches": False, **_as_dict(self.accelerator_config)}
        self.disable_tqdm = bool(self.disable_tqdm)  # if unset, it would depend on the log level of transformers
        super().__post_init__()
        self._learning_rate_is_derived = derived

    def derive_learning_rate(self, d_model: int) -> None:
        """Set the peak learning rate by the paper's formula, unless one was given."""
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
        if not self.fp16:  # record the choice: a resumed run must not choose again
            self.precision = "bf16" if self.bf16 else "fp32"
        if not torch.accelerator.is_available():
            self.use_cpu = True  # the Trainer accepts bf16 on a CPU only with this


_UNBOUNDED = 10**9
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps", "num_train_epochs"), (0.0, 1e9)
    ),
    **dict.fromkeys(("eval_delay", "neftune_noise_alpha", "logging_steps", "save_steps", "eval_steps"), (0.0, 1e9)),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "adam_epsilon", "label_smoothing_factor"), (0.0, 1.0)),
    **dict.fromkeys(("dataloader_num_workers", "save_total_limit"), (0, _UNBOUNDED)),
    **dict.fromkeys(("max_tokens", "gradient_accumulation_steps", "eval_accumulation_steps"), (1, _UNBOUNDED)),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), (1, _UNBOUNDED)),
    "data_seed": (0, 2**32 - 1),
    "generation_num_beams": COUNTS["num_beams"],
    "generation_max_length": COUNTS["max_length"],
}
"""Ranges of the Trainer's numbers; values outside train nothing, or fail long after the start."""
_EXCLUDED = {
    **dict.fromkeys(("learning_rate", "adam_epsilon", "logging_steps", "save_steps", "eval_steps"), 0),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "label_smoothing_factor"), 1),
}
"""The end of a range that is itself excluded."""


def _check_numbers(settings: Mapping[str, Any]) -> None:
    """Refuse NaN and infinity in any setting, and values outside the ranges above.

    Raises:
        ValueError: the message names the setting.
    """
    check_finite(settings)
    for name, (least, most) in _RANGES.items():
        value = settings.get(name)
        if isinstance(value, (int, float)) and not least <= value <= most:
            allowed = (
                f"at least {least:g}"
                if most == _UNBOUNDED and isinstance(most, int)
                else f"between {least:g} and {most:g}"
            )
            raise ValueError(f"`{name}` must be {allowed}, got {value}.")
        if isinstance(value, (int, float)) and value == _EXCLUDED.get(name):
            raise ValueError(f"`{name}` must be {'above' if value == least else 'below'} {value:g}.")
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
