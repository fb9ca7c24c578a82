"""What a change of a model is, for tables of them, and what most of them are made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers.utils import ModelOutput


@dataclass
class Changed:
    """A changed model, as a user has it.

    Attributes:
        model: whose `generate` is called.
        inner: our own model in it.
        forward: what a loop calls, if not `model`.
        inputs: what a loop gives it besides the source, a row for each sentence.
        settings: what `generate` is given besides the source.
    """

    model: Any
    inner: Any = None
    forward: Callable[..., Any] | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Change:
    """One row of a table.

    Attributes:
        apply: changes a model that has been decoded with before; gives what is to be called, a `Changed` or a model,
            or None if it is the same model.
        matters: whether it changes what the model says.
        slow: True where code that is not ours has to run, so that the call must be left to `transformers`; False where
            the model is a plain one, if with other numbers, and must be decoded fast; None where either will do.
        of: settings of the model that is changed.
        lengths: of the source sentences.
        tolerance: of scores; large where the model itself rounds differently with a cache and without.
    """

    apply: Callable[[Any, Any], Any]
    matters: bool = True
    slow: bool | None = True
    of: dict[str, Any] = field(default_factory=dict)
    lengths: tuple[int, ...] = (6, 16, 9, 12, 7, 10)
    tolerance: float = 1e-4


def table() -> tuple[dict[str, Change], Callable[..., Any]]:
    """An empty table, and a decorator that enters functions of (model, monkeypatch) into it by name."""
    rows: dict[str, Change] = {}

    def change(name: str, **settings: Any) -> Callable[[Callable[[Any, Any], Any]], None]:
        def enter(apply: Callable[[Any, Any], Any]) -> None:
            assert name not in rows, name
            rows[name] = Change(apply, **settings)

        return enter

    return rows, change


# What changes are made of


def own(module, **methods):
    """Give `module` a class of its own, with these methods."""
    module.__class__ = type("Own", (type(module),), methods)


def louder(output, by=1.5):
    """A module's output times `by`; of several, the first."""
    if isinstance(output, torch.Tensor):
        return output * by
    if isinstance(output, ModelOutput):
        return type(output)(**{**output, "last_hidden_state": output.last_hidden_state * by})
    return (output[0] * by, *output[1:])


def encoder_layer(model, number=0):
    return model.model.encoder.layers[number]


def decoder_layer(model, number=0):
    return model.model.decoder.layers[number]


def louder_values(keys_and_values):
    return keys_and_values[0], keys_and_values[1] * 2.0


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor
