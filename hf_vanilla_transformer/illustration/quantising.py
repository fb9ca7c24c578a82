"""Quantise numbers for a page to integers of 8 or 16 bits with a common step."""

import base64
import math
import sys
from array import array
from collections.abc import Sequence
from typing import Any

from .contents import Array

CODES = {8: "B", 16: "H"}


def quantise(numbers: Array, bits: int, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """Write an array as unsigned integers: value n is `low + step * n`, at most half a step off.

    Args:
        numbers: finite numbers.
        bits: 8 or 16.
        low, high: the range, by default that of the values; values outside are clipped.

    Returns:
        `shape`, `bits`, `low`, `step`, and `data`, base64 of little-endian integers.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    values = numbers.values
    if not all(map(math.isfinite, values)):
        raise ValueError("A page shows finite numbers, but an array holds NaN or infinity. Check the model's weights.")
    low = min(values, default=0.0) if low is None else low
    high = max(values, default=0.0) if high is None else high
    most = 2**bits - 1
    step = (high - low) / most or 1.0
    codes = array(CODES[bits], (min(most, max(0, round((value - low) / step))) for value in values))
    if sys.byteorder == "big":
        codes.byteswap()
    data = base64.b64encode(codes.tobytes()).decode("ascii")
    return {"shape": list(numbers.shape), "bits": bits, "low": low, "step": step, "data": data}


def restore(written: dict[str, Any]) -> Array:
    """Restore the values from the output of `quantise`."""
    codes = array(CODES[written["bits"]], base64.b64decode(written["data"]))
    if sys.byteorder == "big":
        codes.byteswap()
    return Array(tuple(written["shape"]), [written["low"] + written["step"] * code for code in codes])


def first_columns(numbers: Array, most: int) -> Array:
    """The first `most` entries of each row (the last axis)."""
    *rows, width = numbers.shape
    if width <= most:
        return numbers
    values: Sequence[float] = numbers.values
    cut = [value for start in range(0, len(values), width) for value in values[start : start + most]]
    return Array((*rows, most), cut)
