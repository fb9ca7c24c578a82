"""The settings of one call of `generate`, resolved in one place from the call and the generation configs.

Precedence: the call, then a config given to it, then the model's config, then the defaults of `transformers`.
Everything that decodes (`generate`, `Translator`, the pipeline) or reports how a model decodes (the illustrated page,
`doctor`, model cards) uses this module.

Four classes hold decoding settings on the way from a training run to a search:

| class | holds | made by |
|---|---|---|
| `training.arguments.DecodingArguments` | what a run writes into its model's generation config | a recipe, `train` |
| `text_decoding.Request` | what a call with sentences asks for, and how to batch them | `Translator`, pipeline |
| `CallSettings`, here | what applies to one call of `generate`: the call over the configs | `settle` |
| `search_settings.SearchSettings` | what the search of one batch reads, as tensors on its device | `fast_path.Call` |

The last does not depend on `transformers`: it holds the criteria of a call as numbers and limits.

Settings of this project, in addition to those of `transformers`:

- `max_extra_tokens`: how many tokens a target may have beyond the length of its own source (section 6.1 uses 50);
- `gnmt_length_penalty`, `coverage_penalty`: alpha and beta of Wu et al. 2016, equation 14 (section 6.1: alpha 0.6);
- `target_prefix`: what each target must begin with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from transformers.generation import GenerationConfig

from .setting_ranges import check_ranges

PAPER_EXTRA_TOKENS = 50
PAPER_DECODING = {"num_beams": 4, "max_extra_tokens": PAPER_EXTRA_TOKENS, "gnmt_length_penalty": 0.6}
"""Section 6.1."""

FIELDS = frozenset(name for name in vars(GenerationConfig()) if not name.startswith("_"))
"""Names of the generation settings of `transformers`."""
OWN = ("max_extra_tokens", "gnmt_length_penalty", "coverage_penalty", "target_prefix")
LENGTHS = ("max_length", "max_new_tokens")
_DEFAULTS: dict[str, Any] = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "do_sample": False,
    "early_stopping": False,
    "length_penalty": 1.0,
    "use_cache": True,
}
_UNSET_BY_NONE = FIELDS - _DEFAULTS.keys()
_CHECKED = frozenset((*FIELDS, *OWN)) - {"target_prefix"}


@dataclass(frozen=True)
class CallSettings:
    """How one call decodes.

    Attributes:
        num_beams: 1 means greedy decoding or sampling.
        num_return_sequences: number of targets for each source.
        length_penalty: log-probabilities are divided by length to this power, unless `gnmt_length_penalty` is set.
        gnmt_length_penalty: alpha of Wu et al. 2016, or None.
        coverage_penalty: beta of the same equation; 0 for none.
        max_extra_tokens: see above; None if another length was asked for, or no length at all.
        eos_ids: ids that end a target, from the configs and the call.
        forced_eos_ids: ids that are forced at a target's length limit; empty for none.
        target_prefix: (batch, any) ids, -100 where the target is free, or None.
        asked: this project's settings that come from the call or its config rather than from the model's config.
        values: all other settings, by their name in `GenerationConfig`.
    """

    num_beams: int
    num_return_sequences: int
    length_penalty: float
    gnmt_length_penalty: float | None
    coverage_penalty: float
    max_extra_tokens: int | None
    eos_ids: tuple[int, ...]
    forced_eos_ids: tuple[int, ...]
    target_prefix: torch.Tensor | None
    asked: frozenset[str]
    values: Mapping[str, Any]

    def normaliser(self, tokens: int) -> float:
        """The divisor of the log-probability of a target with this many new tokens, end of sentence included."""
        if self.gnmt_length_penalty is not None:
            return gnmt_normaliser(tokens, self.gnmt_length_penalty)
        return max(tokens, 1) ** self.length_penalty

    def normaliser_in_words(self) -> str:
        """`normaliser` as a formula."""
        if self.gnmt_length_penalty is not None:
            return f"((5 + tokens) / 6)^{self.gnmt_length_penalty:g}"
        return "the number of tokens" if self.length_penalty == 1 else f"tokens^{self.length_penalty:g}"

    def length_settings(self) -> dict[str, float]:
        """The length penalty that applies, as an argument of `generate`."""
        if self.gnmt_length_penalty is not None:
            return {"gnmt_length_penalty": self.gnmt_length_penalty}
        return {"length_penalty": self.length_penalty}

    def own_settings(self) -> list[str]:
        """This project's settings that affect the result and that the search of `transformers` does not support."""
        matters = {
            "gnmt_length_penalty": self.gnmt_length_penalty is not None and self.num_beams > 1,
            "coverage_penalty": self.coverage_penalty > 0 and self.num_beams > 1,
            "target_prefix": self.target_prefix is not None,
        }
        return [name for name, does in matters.items() if does]

    def has_length(self) -> bool:
        """Whether anything limits the length of targets, apart from the default of 20 tokens in `transformers`."""
        names = (*LENGTHS, "max_time")
        return self.max_extra_tokens is not None or any(self.values.get(name) is not None for name in names)


def settle(call: Mapping[str, Any], given: GenerationConfig | None, own: GenerationConfig) -> CallSettings:
    """Resolve the settings of a call.

    Args:
        call: arguments of `generate`; this project's own count as not given if they are None.
        given: the call's `generation_config`.
        own: the model's `generation_config`.

    Raises:
        ValueError: a setting is out of range, or two settings contradict each other.
    """
    if given is not None and not isinstance(given, GenerationConfig):
        raise TypeError(f"`generation_config` must be a GenerationConfig, got a {type(given).__name__}.")
    given = None if given is own else given  # passing on the model's own config asks for nothing
    nearest_first = (without_unset(call), _stated(given), _stated(own))
    check_ranges(nearest_first, _CHECKED)
    values = {**_DEFAULTS, **nearest_first[2], **nearest_first[1], **nearest_first[0]}
    alpha, power, alpha_from = _length_penalty(nearest_first)
    coverage, coverage_from = _own_setting("coverage_penalty", nearest_first)
    prefix, _ = _own_setting("target_prefix", nearest_first)
    asked = {
        name: place < 2 for name, place in (("gnmt_length_penalty", alpha_from), ("coverage_penalty", coverage_from))
    }
    settings = CallSettings(
        num_beams=int(values["num_beams"]),
        num_return_sequences=int(values["num_return_sequences"]),
        length_penalty=power,
        gnmt_length_penalty=alpha,
        coverage_penalty=coverage or 0.0,
        max_extra_tokens=_extra_tokens(nearest_first),
        eos_ids=as_ids(values.get("eos_token_id")),
        forced_eos_ids=as_ids(values.get("forced_eos_token_id")),
        target_prefix=prefix,
        asked=frozenset([name for name, nearer in asked.items() if nearer] + ["target_prefix"]),
        values=values,
    )
    if prefix is not None:
        _check_prefix(prefix)
    return settings


def without_unset(call: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call, without those whose None can only mean "not given".

    `eos_token_id=None` means that no token ends a target, and `max_length=None` overrides the config's.
    """
    return {name: value for name, value in call.items() if value is not None or name in _UNSET_BY_NONE}


def _stated(config: GenerationConfig | None) -> dict[str, Any]:
    """The settings of a config that are not None."""
    return {} if config is None else {name: value for name, value in vars(config).items() if value is not None}


def _own_setting(name: str, nearest_first: tuple[dict[str, Any], ...]) -> tuple[Any, int]:
    """The value of one of this project's settings, and the index of the place it was found in."""
    for place, stated in enumerate(nearest_first):
        if stated.get(name) is not None:
            return stated[name], place
    return None, len(nearest_first)


def _length_penalty(nearest_first: tuple[dict[str, Any], ...]) -> tuple[float | None, float, int]:
    """Alpha or None, the exponent, and the index of the place they were found in: the first that sets either kind.

    Within one config alpha wins, since `Seq2SeqTrainer` fills the model's config with `length_penalty=1.0`.
    """
    call = nearest_first[0]
    if call.get("length_penalty") is not None and call.get("gnmt_length_penalty") is not None:
        raise ValueError(
            f"A call takes one length penalty, but `length_penalty` {call['length_penalty']} and "
            f"`gnmt_length_penalty` {call['gnmt_length_penalty']} were given. Leave one of them out."
        )
    for place, stated in enumerate(nearest_first):
        alpha, power = stated.get("gnmt_length_penalty"), stated.get("length_penalty")
        if alpha is not None:
            return alpha, 1.0, place
        if power is not None:
            return None, power, place
    return None, 1.0, len(nearest_first)


def _extra_tokens(nearest_first: tuple[dict[str, Any], ...]) -> int | None:
    """`max_extra_tokens`, or None if another length takes precedence; within one config `max_extra_tokens` wins."""
    for stated in nearest_first:
        if stated.get("max_extra_tokens") is not None:
            return stated["max_extra_tokens"]
        if any(stated.get(name) is not None for name in LENGTHS):
            return None
    return None


def _check_prefix(prefix: Any) -> None:
    is_ids = isinstance(prefix, torch.Tensor) and prefix.dim() == 2 and prefix.dtype != torch.bool
    if not is_ids or prefix.is_floating_point():
        kind = f"{prefix.dtype} of shape {tuple(prefix.shape)}" if isinstance(prefix, torch.Tensor) else repr(prefix)
        raise ValueError(
            f"`target_prefix` must be a tensor of token ids, (batch, any), -100 where free; got {kind:.80}."
        )
    if ((prefix < 0) & (prefix != -100)).any():
        raise ValueError(f"`target_prefix` must hold token ids, or -100 where free; got {int(prefix.min())}.")


def as_ids(value: Any) -> tuple[int, ...]:
    """Token ids as a tuple, from the None, single id or several ids of a config."""
    if value is None:
        return ()
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    return (int(value),) if isinstance(value, Integral) else tuple(int(each) for each in value)


def gnmt_normaliser(tokens: int, alpha: float) -> float:
    """((5 + tokens) / 6) ** alpha, Wu et al. 2016, equation 14."""
    return ((5 + tokens) / 6) ** alpha


__all__ = [
    "FIELDS",
    "LENGTHS",
    "OWN",
    "PAPER_DECODING",
    "PAPER_EXTRA_TOKENS",
    "CallSettings",
    "as_ids",
    "gnmt_normaliser",
    "settle",
    "without_unset",
]
