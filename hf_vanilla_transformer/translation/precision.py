"""The precision in which a translator decodes on a CPU: that of the weights, bfloat16, int8, or the fastest one."""

import logging
import time
from typing import Any, get_args

import torch
from torch import nn

from ..model.configuration_vanilla_transformer import is_ours
from ..model.model_admission import why_not_model
from ..model.packed_products import Precision, Weights, product
from ..model.snapshot import Snapshot

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "model", *get_args(Precision))
ROWS = 64  # of the product that is timed: 16 sentences of 4 beams
REPEATS = 5
WORTH_IT = 0.7
"""A less exact precision must take at most this share of the time of the best one so far."""


def take_snapshot(model: Any, precision: str | None = None) -> Snapshot | None:
    """A packed snapshot of the current weights of a model of this package; None for other models.

    Args:
        model: any model; those of other packages take only `None`, `"auto"` and `"model"`, and keep their precision.
        precision: one of `PRECISIONS`, or None; `"model"` and None mean the precision of the weights.

    Raises:
        ValueError: an unknown precision, or one that is unsupported by this model or device.
    """
    if precision not in (None, *PRECISIONS):
        raise ValueError(f"The precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    chosen: Any = fastest_precision(model) if precision == "auto" else None if precision == "model" else precision
    if chosen is not None and (not is_ours(model) or model.device.type != "cpu"):
        what = f"runs on {model.device.type}" if is_ours(model) else f"is a {type(model).__name__}"
        raise ValueError(
            f"{chosen} is for models of this package on a CPU, but this one {what}. Leave the precision out, or load "
            "the model in another dtype."
        )
    snapshot = Snapshot.of(model, chosen) if is_ours(model) else None
    if snapshot is None and chosen is not None and precision != "auto":
        raise ValueError(
            f"{chosen} copies and rounds the weights of a plain model, but this one has {why_not_model(model, True)}. "
            "Leave the precision out."
        )
    if precision is not None and snapshot is not None:
        logger.info(f"Decoding in {snapshot.precision or model.dtype} on {model.device}.")
    return snapshot


def fastest_precision(model: Any) -> Precision | None:
    """The fastest precision, by timing a feed-forward product in each; takes a fraction of a second."""
    if why_not_model(model, lasting=True) is not None or model.device.type != "cpu":
        return None
    fastest: Precision | None = None
    best = _seconds(model.model.decoder.layers[0].fc1, None)
    found: Precision
    for found in get_args(Precision):
        seconds = _seconds(model.model.decoder.layers[0].fc1, found)
        if seconds < WORTH_IT * best:
            fastest, best = found, seconds
    return fastest


@torch.no_grad()
def _seconds(layer: nn.Linear, precision: Precision | None) -> float:
    """The shortest time of several products."""
    try:
        multiply = product([layer], Weights(precision, lasting=True))
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
