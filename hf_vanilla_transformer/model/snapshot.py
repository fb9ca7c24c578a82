"""Packed weights that last, for a `Translator`; and switching off autocast for products with packed weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from .autocast import computing_type, unpacked_type
from .model_admission import why_not_model
from .packed_layers import PackedModel
from .packed_products import Precision, Weights


@dataclass(frozen=True)
class Snapshot:
    """Packed copies of the weights of a model that the fast path admits.

    Attributes:
        packed: the copies.
        precision: precision of their matrix products.
        asked: whether the user asked for the precision, rather than autocast.
    """

    packed: PackedModel
    precision: Precision | None
    asked: bool = False

    @classmethod
    def of(cls, model: Any, precision: Precision | None = None) -> "Snapshot | None":
        """The weights as they are now, or None if the fast path does not compute this model's `forward`."""
        if why_not_model(model, lasting=True) is not None:
            return None
        asked = precision is not None
        if not asked and unpacked_type(model) is not None:
            return None
        if precision is None and computing_type(model) is not model.dtype:
            precision = "bf16"
        with torch.no_grad(), without_autocast(model):
            return cls(PackedModel(model, Weights(precision, lasting=True)), precision, asked)


@contextmanager
def without_autocast(model: Any) -> Iterator[Precision | None]:
    """Switch off autocast, which does not support packed weights, and yield the precision that it asks for."""
    precision: Precision | None = "bf16" if computing_type(model) is not model.dtype else None
    with torch.autocast(model.device.type, enabled=False):
        yield precision


__all__ = ["Snapshot", "without_autocast"]
