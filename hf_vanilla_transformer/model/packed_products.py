"""Matrix products with a model's weights, packed for fast multiplication.

`generate` uses the model's own weights: for one call, the weights of q, k and v are joined, and those of the decoder
are reordered for the CPU's kernels. A `Translator` uses a snapshot: copies, which may be rounded to bfloat16 or int8,
and which later changes of the model do not affect.
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
"""With fewer than `FEW_ROWS` rows and at most `SMALL` weights, a packed product costs more than it saves."""
STEPS_WORTH_PACKING = 8
"""Number of products that repay packing a matrix; 3 to 8 were measured for large ones."""


class Weights:
    """How tensors are taken from a model for packing.

    Args:
        precision: precision of the matrix products; None means that of the tensors.
        lasting: whether to copy the tensors, once each, instead of using the model's own.
        steps: maximum number of products with each of the decoder's matrices.
    """

    def __init__(self, precision: Precision | None = None, lasting: bool = False, steps: int = 0) -> None:
        self.precision, self.lasting = precision, lasting
        self.pays = lasting or steps >= STEPS_WORTH_PACKING
        self._copies: dict[int, Any] = {}

    def take(self, tensor: Any) -> Any:
        """The tensor itself, or the snapshot's copy of it."""
        if tensor is None or not self.lasting:
            return None if tensor is None else tensor.detach()
        if id(tensor) not in self._copies:
            self._copies[id(tensor)] = tensor.detach().clone()
        return self._copies[id(tensor)]

    def take_module(self, module: nn.Module) -> nn.Module:
        """The module itself, or a copy of it; weights that modules share stay shared."""
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
        layers: layers with the same input width.
        weights: how to take the weights, and in which precision; inputs and outputs keep their dtype.
        bias: a bias to add to the layers' own.
        relu: whether to apply ReLU to the outputs.
        once: whether the product is computed only once or a few times in a call, as in the encoder.
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
    """The biases of the layers joined, 0 for a layer without one; None if no layer has one."""
    if all(layer.bias is None for layer in layers):
        return None
    if len(layers) == 1:
        return weights.take(layers[0].bias).contiguous()  # oneDNN ignores the strides of a bias
    biases = [layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in layers]
    return torch.cat([bias.detach() for bias in biases])


def _sum_of(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    both = other if one is None else one if other is None else one + other
    return None if both is None else both.contiguous()


def plain_product(weight: torch.Tensor, bias: torch.Tensor | None, relu: bool) -> Linear:
    """The product by torch's own kernel, with the unpacked weight."""

    def multiply(x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.linear(x.to(weight.dtype), weight, bias).to(x.dtype)
        return y.relu_() if relu else y

    return multiply


class ProductByRows:
    """A float32 matrix on a CPU: the plain product for a few rows and a small matrix, else the packed one.

    Within a call of `generate` the matrix is packed on first need, since a single sentence may never need it.

    Args:
        weight: (out, in), float32.
        bias: (out,) or None.
        relu: whether to apply ReLU to the outputs.
        precision: precision of the packed product; None means float32.
        lasting: whether to pack now, and keep a large matrix only in that form; else pack on first need.
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
    """Weights in oneDNN's own order, so that it does not have to reorder them at every call."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, 128)
    pointwise, after = torch.ops.mkldnn._linear_pointwise.default, "relu" if relu else "none"
    return lambda x: pointwise(x, packed, bias, after, [], "")


def _pack_bf16(weight: torch.Tensor, bias: torch.Tensor | None, relu: bool) -> Linear:
    if not _HAS_ONEDNN:
        return plain_product(weight.bfloat16(), None if bias is None else bias.bfloat16(), relu)
    multiply = _pack_float32(weight.bfloat16(), None if bias is None else bias.bfloat16(), relu)
    return lambda x: multiply(x.bfloat16()).to(x.dtype)


_SUMS_ALL_8_BITS = bool(torch.cpu.get_capabilities().get("avx512_vnni"))
"""Without VNNI, the sum of two 8-bit products can overflow 16 bits, so inputs are then reduced to 7 bits."""


def _pack_int8(weight: torch.Tensor, bias: torch.Tensor | None, relu: bool) -> Linear:
    """8-bit weights with a scale for each output; 8-bit inputs with one scale, computed at each call.

    Rounding therefore depends on what else is in the batch. These kernels do not support a scale for each row, and
    normalising rows before and scaling outputs after them was measured to take 1.4 to 3.2 times as long.
    """
    weight = weight.float()
    scales = (weight.abs().amax(1) / 127).clamp(min=1e-12).double()
    zeros = torch.zeros(len(weight), dtype=torch.long)
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn" if "onednn" in torch.backends.quantized.supported_engines else engine
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that this front end of the kernels will move
            quantized = torch.quantize_per_channel(weight.contiguous(), scales, zeros, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(quantized, None if bias is None else bias.float())
    finally:
        torch.backends.quantized.engine = engine
    multiply = (torch.ops.quantized.linear_relu_dynamic if relu else torch.ops.quantized.linear_dynamic).default
    return lambda x: multiply(x.float(), packed, not _SUMS_ALL_8_BITS).to(x.dtype)


def pack_norm(norm: nn.Module, weights: Weights) -> Norm:
    """LayerNorm without the overhead of a module's call, which takes as long as the LayerNorm of a small tensor."""
    if type(norm) is not nn.LayerNorm:
        return norm
    shape, eps = norm.normalized_shape, norm.eps
    weight, bias = weights.take(norm.weight), weights.take(norm.bias)
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)


__all__ = ["Linear", "Norm", "Precision", "Weights", "pack_norm", "product"]
