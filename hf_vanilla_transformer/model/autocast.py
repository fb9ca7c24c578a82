"""The dtype that a model computes in: its weights' own, or that of accelerate's autocast around `forward`."""

import copy
import types
from typing import Any

import torch


def autocast_of(model: Any) -> tuple[torch.dtype, str] | None:
    """The dtype that accelerate's wrapper around the model's own `forward` computes in, and the device it applies to.

    `Accelerator.prepare` sets the wrapper on the instance. None if there is no such wrapper, or it wraps another
    function.
    """
    wrapped, own = vars(model).get("forward"), vars(type(model)).get("forward")
    weights: Any = getattr(model, "dtype", None) if wrapped is not None else None
    if not isinstance(wrapped, types.MethodType) or wrapped.__self__ is not model:
        return None
    of_accelerate = "accelerate.utils.operations"
    to_float32: Any = getattr(wrapped.__func__, "__wrapped__", None)
    if wrapped.__func__.__globals__["__name__"] != of_accelerate or type(to_float32).__module__ != of_accelerate:
        return None
    in_autocast = to_float32.model_forward
    if not isinstance(in_autocast, types.FunctionType):
        return None
    if in_autocast.__code__ is not _DECORATED_BY_AUTOCAST or getattr(in_autocast, "__wrapped__", None) is not own:
        return None
    closed_over = [cell.cell_contents for cell in in_autocast.__closure__ or ()]
    autocast = next((each for each in closed_over if type(each) is torch.autocast), None)
    if autocast is None or not any(each is own for each in closed_over):
        return None
    with copy.copy(autocast):  # a copy: the wrapper's context may be in use
        enabled, dtype = torch.is_autocast_enabled(autocast.device), torch.get_autocast_dtype(autocast.device)
    return dtype if enabled else weights, autocast.device


_DECORATED_BY_AUTOCAST = torch.autocast("cpu", enabled=False)(lambda: None).__code__


def computing_type(model: Any) -> torch.dtype:
    """The dtype of the model's matrix products: autocast's if autocast is active, else the weights'."""
    found = autocast_of(model)
    device = model.device.type
    if found is not None and found[1] == device:
        return found[0]
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype


def unpacked_type(model: Any) -> torch.dtype | None:
    """Autocast's dtype if packed weights do not support it: they support only bfloat16 for a float32 model."""
    kept, own = computing_type(model), model.dtype
    return None if kept is own or (own, kept) == (torch.float32, torch.bfloat16) else kept


__all__ = ["autocast_of", "computing_type", "unpacked_type"]
