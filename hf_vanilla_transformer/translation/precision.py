"""In which precision a processor decodes: that of the weights, bfloat16 or int8, whichever is fastest here."""

import logging
import time
from typing import Any, Literal, get_args

import torch
from torch import nn

from ..model.generation import TranslationGenerationMixin
from ..model.step_decoder import Precision, pack_linear

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "model", *get_args(Precision))
ROWS = 64  # of the product that is timed: 16 sentences of 4 beams
REPEATS = 5
WORTH_IT = 0.7
"""A precision that is less exact must take at most this share of the time of the one before."""


def set_decoding_precision(model: Any, precision: str) -> None:
    """Let a model of ours decode in this precision from now on.

    Args:
        model: any; others than ours take `"auto"` and `"model"` only, and decode in their own.
        precision: one of `PRECISIONS`; `"model"` is that of the weights.

    Raises:
        ValueError: none of them, or one that this model or device has not.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"The precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    ours = isinstance(model, TranslationGenerationMixin)
    if precision in get_args(Precision) and (not ours or model.device.type != "cpu"):
        what = f"runs on {model.device.type}" if ours else f"is a {type(model).__name__}"
        raise ValueError(
            f"{precision} is for models of ours on processors, but this one {what}. Leave the precision out, or load "
            "the model in another type."
        )
    if ours:
        model.decoding_precision = fastest_precision(model) if precision == "auto" else _PRECISION_OF[precision]
        logger.info(f"Decoding in {model.decoding_precision or model.dtype} on {model.device}.")


_PRECISION_OF: dict[str, Precision | None] = {"model": None, "bf16": "bf16", "int8": "int8"}


def fastest_precision(model: Any) -> Precision | None:
    """Time the product with a feed-forward matrix of the model in each precision, fractions of a second in all."""
    if model.device.type != "cpu":
        return None
    fastest: Precision | None = None
    best = _seconds(model.model.decoder.layers[0].fc1, None)
    found: Literal["bf16", "int8"]
    for found in get_args(Precision):
        seconds = _seconds(model.model.decoder.layers[0].fc1, found)
        if seconds < WORTH_IT * best:
            fastest, best = found, seconds
    return fastest


@torch.no_grad()
def _seconds(layer: nn.Linear, precision: Precision | None) -> float:
    """The shortest of several products."""
    try:
        multiply = pack_linear([layer], precision)
        x = torch.randn(ROWS, layer.in_features).to(layer.weight.dtype)
        multiply(x)
    except RuntimeError:  # a build of torch without these kernels
        return float("inf")
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        multiply(x)
        times.append(time.perf_counter() - start)
    return min(times)
