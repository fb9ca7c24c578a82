"""The allowed range of every numeric decoding setting, from a call or a config; anything outside is refused.

Settings of sampling are checked by `transformers`, which reads them only when it samples.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

MOST_BEAMS = 1000
MOST_TOKENS = 10**6
COUNTS = {
    "num_beams": (1, MOST_BEAMS),
    "num_beam_groups": (1, MOST_BEAMS),
    "num_return_sequences": (1, 10 * MOST_BEAMS),
    "max_extra_tokens": (0, MOST_TOKENS),
    **dict.fromkeys(("max_length", "max_new_tokens", "max_cache_len"), (1, MOST_TOKENS)),
    **dict.fromkeys(("min_length", "min_new_tokens"), (0, MOST_TOKENS)),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size"), (0, MOST_TOKENS)),
}
"""Settings that are whole numbers, with minimum and maximum."""
LARGEST_PENALTY = 10
"""Maximum of exponents: 7,000 to the power of 10 is about the largest number in float32."""
NUMBERS = {
    **dict.fromkeys(("length_penalty", "gnmt_length_penalty"), (-LARGEST_PENALTY, LARGEST_PENALTY)),
    "coverage_penalty": (0, 100),
    **dict.fromkeys(("repetition_penalty", "encoder_repetition_penalty"), (1e-4, 1e4)),
    "guidance_scale": (-1e4, 1e4),
    "max_time": (0, 1e9),
}
"""Settings that are finite numbers, with minimum and maximum."""
DECODING_OPTIONS = ("num_beams", "gnmt_length_penalty", "length_penalty", "coverage_penalty", "max_extra_tokens")
"""Settings of decoding that commands and recipes take (section 6.1; Wu et al. 2016)."""
WHERE = ("", " in the given generation config", " in the model's generation config")


_LISTS = {"bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "force_words_ids"}
"""Lists of token ids, which can be long and are not checked here."""


def check_ranges(nearest_first: Sequence[Mapping[str, Any]], names: frozenset[str]) -> None:
    """Refuse settings that are not numbers, or are outside their range.

    Args:
        nearest_first: settings of the call, of a config given to it, and of the model's config; the first one applies.
        names: names of settings; other arguments of the call are ignored.

    Raises:
        ValueError: the message names the setting, its range and where it comes from.
    """
    checked: set[str] = set()
    for stated, where in zip(nearest_first, WHERE, strict=True):
        for name, value in stated.items():
            if value is None or name in checked or name not in names or name in _LISTS:
                continue
            checked.add(name)
            wrong = _what_is_wrong(name, value)
            if wrong:
                raise ValueError(f"`{name}` must {wrong}, got {_short(value)}{where}.")


def _what_is_wrong(name: str, value: Any) -> str | None:
    if name in COUNTS:
        return _wrong_count(name, value)
    if name in NUMBERS and not _is_number(value):
        return "be a finite number"
    if not all(math.isfinite(number) or _bans(name, number) for number in _numbers_of(value)):
        return "be a finite number" if _is_number(value) else "hold finite numbers"
    least, most = NUMBERS.get(name, (-math.inf, math.inf))
    if name not in NUMBERS or least <= value <= most:
        return None
    return "be at least 0" if least == 0 and value < 0 else f"be between {least:g} and {most:g}"


def _wrong_count(name: str, value: Any) -> str | None:
    least, most = COUNTS[name]
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        return f"be a whole number of at least {least}" + (" (1 is greedy)" if name == "num_beams" else "")
    return f"be at most {most:,}" if int(value) > most else None


def _bans(name: str, number: float) -> bool:
    """Whether the number is a bias of minus infinity, which bans a token and leaves other scores unchanged."""
    return name == "sequence_bias" and number == -math.inf


def _numbers_of(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _numbers_of(each)
    elif hasattr(value, "is_floating_point"):  # a tensor; this module must not import torch
        yield from value.flatten().tolist() if value.is_floating_point() else ()
    elif isinstance(value, Real) and not isinstance(value, Integral):
        yield float(value)


def _is_number(value: Any) -> bool:
    one = hasattr(value, "is_floating_point") and value.dim() == 0
    return one or (isinstance(value, Real) and not isinstance(value, bool))


def _short(value: Any) -> str:
    return f"{value.tolist() if hasattr(value, 'tolist') else value!r:.80}"


__all__ = ["COUNTS", "DECODING_OPTIONS", "MOST_BEAMS", "NUMBERS", "check_ranges"]
