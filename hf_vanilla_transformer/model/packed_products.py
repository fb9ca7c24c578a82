"""Matrix products of a model's weights, laid out to be multiplied.

Those of `generate` are read where they stand: the weights of q, k and v are put side by side, and those of the decoder
brought into the order that a processor's kernels read, for one call. Those of a `Translator` are a snapshot: copies,
which may be rounded to bfloat16 or int8, and which no later change of the model reaches.
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

Precision = Literal["bf16", "int8"]
Linear = Callable[[torch.Tensor], torch.Tensor]
Norm = Callable[[torch.Tensor], torch.Tensor]

FEW_ROWS, SMALL = 16, 2**18
"""With fewer rows than these the call of a packed product costs more than it saves, where a matrix has at most so many
weights."""
STEPS_WORTH_PACKING = 8
"""Products with a matrix that repay bringing it into the kernels' order; measured, 3 to 8 where it is large."""


class Weights:
    """Where the tensors of packed weights come from.

    Args:
        precision: of the matrix products; None is that of the tensors.
        lasting: whether to copy them, once each; else they are the model's own.
        steps: how many times the decoder's are multiplied with, at most.
    """

    def __init__(self, precision: Precision | None = None, lasting: bool = False, steps: int = 0) -> None:
        self.precision, self.lasting = precision, lasting
        self.pays = lasting or steps >= STEPS_WORTH_PACKING
        self._copies: dict[int, Any] = {}

    def take(self, tensor: Any) -> Any:
        """The tensor itself, or this snapshot's one copy of it."""
        if tensor is None or not self.lasting:
            return None if tensor is None else tensor.detach()
        if id(tensor) not in self._copies:
            self._copies[id(tensor)] = tensor.detach().clone()
        return self._copies[id(tensor)]

    def take_module(self, module: nn.Module) -> nn.Module:
        """The module itself, or a copy of it; a weight that two modules share stays one."""
        return copy.deepcopy(module, self._copies).requires_grad_(False).eval() if self.lasting else module


def product(
    layers: list[nn.Linear],
    weights: Weights,
    bias: torch.Tensor | None = None,
    relu: bool = False,
    once: bool = False,
) -> Linear:
    """One matrix product for several layers, their outputs side by side.

    Args:
        layers: of one input width.
        weights: whence, and in which precision: `"bf16"` and `"int8"` compute in that, from and to the input's type.
        bias: to add beside the layers' own.
        relu: whether negative outputs become 0.
        once: whether it is multiplied with once or a few times in a call, as the encoder's are.
    """
    joined = len(layers) > 1
    weight: Any = torch.cat([layer.weight.detach() for layer in layers]) if joined else layers[0].weight.detach()
    bias = _sum_of(_joined_biases(layers, weights), bias)
    on_cpu, full, precision = weight.device.type == "cpu", weight.dtype == torch.float32, weights.precision
    if (
        on_cpu
        and full
        and (precision is not None or (_HAS_ONEDNN and (weights.lasting or (weights.pays and not once))))
    ):
        # a large matrix is kept in one form only; a small one costs little to have in both
        if weights.lasting and not joined and weight.numel() <= SMALL:
            weight = weights.take(layers[0].weight)
        return ProductByRows(weight, bias, relu, precision, lasting=weights.lasting)
    if precision == "int8":
        return _pack_int8(weight, bias, relu)
    if precision == "bf16" and on_cpu:
        return _pack_bf16(weight, bias, relu)
    if precision == "bf16":
        return plain_product(weight.bfloat16(), None if bias is None else bias.bfloat16(), relu)
    return plain_product(weight if joined else weights.take(layers[0].weight), bias, relu)


def _joined_biases(layers: list[nn.Linear], weights: Weights) -> torch.Tensor | None:
    """Side by side, 0 for a layer that has none; None if none has."""
    if all(layer.bias is None for layer in layers):
        return None
    if len(layers) == 1:
        return weights.take(layers[0].bias).contiguous()  # oneDNN reads no strides of a bias
    biases = [layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in layers]
    return torch.cat([bias.detach() for bias in biases])


def _sum_of(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    both = other if one is None else one if other is None else one + other
    return None if both is None else both.contiguous()


def plain_product(weight: torch.Tensor, bias: torch.Tensor | None, relu: bool) -> Linear:
    """By torch's own kernel, with the weight as it stands."""

    def multiply(x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.linear(x.to(weight.dtype), weight, bias).to(x.dtype)
        return y.relu_() if relu else y

    return multiply


class ProductByRows:
    """A float32 matrix on a processor: plain for few rows of a small one, else packed.

    Within a call of `generate` it is packed when it is first needed so, since one sentence alone may never need it.

    Args:
        weight: (out, in), float32.
        bias: (out,) or None.
        relu: whether negative outputs become 0.
        precision: of the packed product; None is float32.
        lasting: whether to pack now, and to keep a large matrix in no other form; else when it is first needed.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        relu: bool,
        precision: Precision | None,
        lasting: bool,
    ) -> None:
        self.parts: Any = (weight, bias, relu)
        self.precision = precision
        self.small = weight.numel() <= SMALL
        self.plain = plain_product(weight, bias, relu) if self.small or not lasting else None
        self.packed: Linear | None = None
        if lasting:
            self._pack()

    def _pack(self) -> Linear:
        pack = _pack_int8 if self.precision == "int8" else _pack_bf16 if self.precision == "bf16" else _pack_float32
        self.packed, self.parts = pack(*self.parts), None
        return self.packed

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.numel() // x.shape[-1]
        if self.plain is not None and rows < FEW_ROWS and (self.small or (rows == 1 and self.precision is None)):
            return self.plain(x)
        return (self.packed or self._pack())(x)


_HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_reorder_linear_weight") and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _pack_float32(weight: torch.Tensor, bias: torch.Tensor | None, relu: bool) -> Linear:
    """Weights in the order that oneDNN reads them in; otherwise it brings them into it at every call."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, 128)
    pointwise, after = torch.ops.mkldnn._linear_pointwise.default, "relu" if relu else "none"
    return lambda x: pointwise(x, packed, bias, after, [], "")


def _pack_bf16(weight: torch.Tensor, bias: torch.Tensor | None, relu: bool) -> Linear:
    if not _HAS_ONEDNN:
        return plain_product(weight.bfloat16(), None if bias is None else bias.bfloat16(), relu)
    multiply = _pack_float32(weight.bfloat16(), None if bias is None else bias.bfloat16(), relu)
    return lambda x: multiply(x.bfloat16()).to(x.dtype)


_SUMS_ALL_8_BITS = bool(torch.cpu.get_capabilities().get("avx512_vnni"))
"""Without VNNI two products of 8 bits can overflow their sum of 16: inputs then keep 7."""


def _pack_int8(weight: torch.Tensor, bias: torch.Tensor | None, relu: bool) -> Linear:
    """Weights in 8 bits with a scale for each output; inputs in 8 bits with one scale, found at each call.

    So rounding depends on what is multiplied together. A scale for each row was measured too: these kernels have none,
    and to normalise rows before them and scale outputs after them takes 1.4 to 3.2 times as long.
    """
    weight = weight.float()
    scales = (weight.abs().amax(1) / 127).clamp(min=1e-12).double()
    zeros = torch.zeros(len(weight), dtype=torch.long)
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn" if "onednn" in torch.backends.quantized.supported_engines else engine
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces that this front end of the kernels will move
            quantized = torch.quantize_per_channel(weight.contiguous(), scales, zeros, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(quantized, None if bias is None else bias.float())
    finally:
        torch.backends.quantized.engine = engine
    multiply = (torch.ops.quantized.linear_relu_dynamic if relu else torch.ops.quantized.linear_dynamic).default
    return lambda x: multiply(x.float(), packed, not _SUMS_ALL_8_BITS).to(x.dtype)


def pack_norm(norm: nn.Module, weights: Weights) -> Norm:
    """The same without the work around a module's call, which takes as long as a small tensor's LayerNorm itself."""
    if type(norm) is not nn.LayerNorm:
        return norm
    shape, eps = norm.normalized_shape, norm.eps
    weight, bias = weights.take(norm.weight), weights.take(norm.bias)
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)


__all__ = ["Linear", "Norm", "Precision", "Weights", "pack_norm", "product"]
