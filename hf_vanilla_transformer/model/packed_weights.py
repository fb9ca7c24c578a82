"""The layers of `modeling_vanilla_transformer.py` for inference, on weights laid out to be multiplied.

The same function of the same weights. Those of `generate` are read where they stand: the weights of q, k and v are put
side by side, and those of the decoder brought into the order that a processor's kernels read, for one call. Those of a
`Translator` are a snapshot: copies, which may be rounded to bfloat16 or int8, and which no later change of the model
reaches.

Shapes use: batch (sentences), source_len, d_model, vocab.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from .masks import positions_from_mask

Precision = Literal["bf16", "int8"]
Linear = Callable[[torch.Tensor], torch.Tensor]
Norm = Callable[[torch.Tensor], torch.Tensor]
KeysAndValues = tuple[torch.Tensor, torch.Tensor]

HIDDEN = float("-inf")
TOKENS_AT_ONCE = 1024
"""Of the source, encoded at a time on a processor: as many as its cache holds."""
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


# Matrix products


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
        return weights.take(layers[0].bias)
    biases = [layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in layers]
    return torch.cat([bias.detach() for bias in biases])


def _sum_of(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    return other if one is None else one if other is None else one + other


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


_SUMS_ALL_8_BITS = bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())
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


# Layers


@dataclass
class PackedAttention:
    """Equation 1 and section 3.2.2 on packed weights.

    Attributes:
        query: the input to queries; of self-attention to queries, keys and values side by side.
        source: the encoder's states to keys and values side by side, of encoder-decoder attention.
        out: W^O.
    """

    query: Linear
    source: Linear
    out: Linear
    heads: int
    d_k: int
    d_v: int
    scaling: float

    @classmethod
    def of(cls, attention: Any, weights: Weights, cross: bool = False, once: bool = False) -> "PackedAttention":
        query, key_value = [attention.q_proj], [attention.k_proj, attention.v_proj]
        return cls(
            product(query if cross else query + key_value, weights, once=once),
            product(key_value, weights, once=True) if cross else nn.Identity(),
            product([attention.out_proj], weights, once=once),
            len(attention.q_proj.weight) // attention.d_k,
            attention.d_k,
            attention.d_v,
            attention.scaling,
        )

    def queries_and_rest(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, len, d_model) to queries, and to keys and values side by side; of self-attention."""
        queries = self.heads * self.d_k
        projected = self.query(x)
        return projected[..., :queries], projected[..., queries:]

    def keys_and_values(self, side_by_side: torch.Tensor) -> KeysAndValues:
        """(batch, key_len, heads * d_k + heads * d_v) to views of (batch, heads, key_len, d_k or d_v)."""
        end_of_keys = self.heads * self.d_k
        return (
            side_by_side[..., :end_of_keys].unflatten(2, (self.heads, self.d_k)).transpose(1, 2),
            side_by_side[..., end_of_keys:].unflatten(2, (self.heads, self.d_v)).transpose(1, 2),
        )

    def attend(
        self, queries: torch.Tensor, attended: KeysAndValues, mask: torch.Tensor | None, weigh: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """softmax(Q K^T / sqrt(d_k) + mask) V W^O.

        Args:
            queries: (batch, query_len, heads * d_k).
            attended: as `keys_and_values` gives them.
            mask: 0 or -inf, (batch or 1, 1, query_len or 1, key_len).
            weigh: whether the weights are wanted too.

        Returns:
            (batch, query_len, d_model), and the mean of the heads' weights, (batch, query_len, key_len), or None.
        """
        key, value = attended
        query = queries.view(*queries.shape[:2], self.heads, self.d_k).transpose(1, 2)
        heads = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=self.scaling)
        weights = None
        if weigh:
            scores = query @ key.transpose(-2, -1) * self.scaling
            weights = (scores if mask is None else scores + mask).softmax(-1, dtype=torch.float32).mean(1)
        return self.out(heads.transpose(1, 2).flatten(2)), weights


class PackedLayer:
    """An encoder or decoder layer: its weights, and its residual connections (section 3.1)."""

    def __init__(self, layer: Any, weights: Weights) -> None:
        self.normalize_before: bool = layer.normalize_before
        once = not hasattr(layer, "encoder_attn")  # the encoder reads the source once, the decoder takes many steps
        self.self_attn = PackedAttention.of(layer.self_attn, weights, once=once)
        self.self_attn_norm = pack_norm(layer.self_attn_layer_norm, weights)
        if not once:
            self.encoder_attn = PackedAttention.of(layer.encoder_attn, weights, cross=True)
            self.encoder_attn_norm = pack_norm(layer.encoder_attn_layer_norm, weights)
        relu = type(layer.activation_fn) is nn.ReLU
        self.fc1 = product([layer.fc1], weights, relu=relu, once=once)
        self.fc2 = product([layer.fc2], weights, once=once)
        self.activation = None if relu else layer.activation_fn
        self.final_norm = pack_norm(layer.final_layer_norm, weights)

    def add_and_norm(self, x: torch.Tensor, sublayer: Linear, norm: Norm) -> torch.Tensor:
        """LayerNorm(x + Sublayer(x)), or its pre-norm form; (batch, len, d_model)."""
        return sublayer(norm(x)).add_(x) if self.normalize_before else norm(sublayer(x).add_(x))

    def feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        """Equation 2."""
        inner = self.fc1(x)
        return self.fc2(inner if self.activation is None else self.activation(inner))


class PackedModel:
    """All weights of a `VanillaTransformerForConditionalGeneration`, ready to multiply with.

    Args:
        model: admitted to the fast path.
        weights: how they are taken.
    """

    def __init__(self, model: Any, weights: Weights) -> None:
        self.dtype: torch.dtype = model.lm_head.weight.dtype
        self.encoder, self.decoder = (Stack(stack, weights) for stack in (model.model.encoder, model.model.decoder))
        bias = weights.take(model.final_logits_bias) if model.config.logits_bias else None
        self.project = product([model.lm_head], weights, None if bias is None else bias[0])

    @torch.no_grad()
    def encode(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(batch, source_len) each to the encoder's states, (batch, source_len, d_model)."""
        whole = input_ids.device.type != "cpu"
        sentences = len(input_ids) if whole else max(1, TOKENS_AT_ONCE // max(1, input_ids.shape[1]))
        some = zip(input_ids.split(sentences), attention_mask.split(sentences), strict=True)
        return torch.cat([self._encode(*part) for part in some])

    def _encode(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        x = self.encoder.embed(input_ids, self.encoder.embed_positions(positions_from_mask(attention_mask)))
        mask = hidden_source(attention_mask, x.dtype)
        for layer in self.encoder.layers:

            def attend(y: torch.Tensor, attention: PackedAttention = layer.self_attn) -> torch.Tensor:
                queries, rest = attention.queries_and_rest(y)
                return attention.attend(queries, attention.keys_and_values(rest), mask)[0]

            x = layer.add_and_norm(x, attend, layer.self_attn_norm)
            x = layer.add_and_norm(x, layer.feed_forward, layer.final_norm)
        return self.encoder.last_norm(x)


class Stack:
    """Encoder or decoder: embeddings (sections 3.4 and 3.5), and layers."""

    def __init__(self, stack: Any, weights: Weights) -> None:
        self.layers = [PackedLayer(layer, weights) for layer in stack.layers]
        self.embed_tokens = weights.take_module(stack.embed_tokens)
        self.embed_positions = weights.take_module(stack.embed_positions)
        self.embed_scale: float = stack.embed_scale
        self.last_norm = pack_norm(stack.layer_norm, weights)

    def embed(self, ids: torch.Tensor, encodings: torch.Tensor) -> torch.Tensor:
        """Tokens (batch, len) and their positions' encodings to (batch, len, d_model); section 3.4."""
        x = self.embed_tokens(ids) * self.embed_scale
        return x + encodings.to(x.dtype)


def hidden_source(attention_mask: torch.Tensor, dtype: torch.dtype, more: int = 0) -> torch.Tensor | None:
    """(batch, source_len) to what is added to scores, (batch, 1, 1, source_len + more); None if nothing is hidden.

    Args:
        attention_mask: 1 at tokens of the source.
        dtype: of the scores.
        more: keys after the source, of which nothing is seen.
    """
    hidden = attention_mask == 0
    if not (more or hidden.any()):
        return None
    # a source that is all padding keeps finite scores, as in the model
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(hidden, torch.finfo(dtype).min)
    return nn.functional.pad(mask, (0, more), value=HIDDEN)[:, None, None]


__all__ = [
    "HIDDEN",
    "KeysAndValues",
    "PackedLayer",
    "PackedModel",
    "Precision",
    "Stack",
    "Weights",
    "hidden_source",
    "product",
]
