"""The layers of `modeling_vanilla_transformer.py` for inference on packed weights; they compute the same function.

Shapes use: batch (sentences), source_len, d_model, vocab.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .masks import positions_from_mask
from .packed_products import Linear, Norm, Weights, pack_norm, product

KeysAndValues = tuple[torch.Tensor, torch.Tensor]

HIDDEN = float("-inf")
TOKENS_AT_ONCE = 1024
"""Number of source tokens encoded at a time on a CPU: as many as fit its cache."""


@dataclass
class PackedAttention:
    """Equation 1 and section 3.2.2 on packed weights.

    Attributes:
        query: maps the input to queries; in self-attention, to queries, keys and values side by side.
        source: maps the encoder's states to keys and values side by side, in encoder-decoder attention.
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
        """(batch, len, d_model) to queries, and to keys and values side by side; for self-attention."""
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
            attended: as returned by `keys_and_values`.
            mask: 0 or -inf, (batch or 1, 1, query_len or 1, key_len).
            weigh: whether to return the attention weights too.

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
        once = not hasattr(layer, "encoder_attn")  # the encoder runs once, the decoder many times
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
    """All weights of a `VanillaTransformerForConditionalGeneration`, packed for fast products.

    Args:
        model: a model that the fast path admits.
        weights: how to copy and round the weights.
    """

    def __init__(self, model: Any, weights: Weights) -> None:
        self.dtype: torch.dtype = model.lm_head.weight.dtype
        self.encoder, self.decoder = (Stack(stack, weights) for stack in (model.model.encoder, model.model.decoder))
        bias = weights.take(model.final_logits_bias) if model.config.logits_bias else None
        self.project = product([model.lm_head], weights, None if bias is None else bias[0])

    @torch.no_grad()
    def encode(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Token ids and mask, (batch, source_len) each, to the encoder's states, (batch, source_len, d_model)."""
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
    """Encoder or decoder: embeddings (sections 3.4 and 3.5) and layers."""

    def __init__(self, stack: Any, weights: Weights) -> None:
        self.layers = [PackedLayer(layer, weights) for layer in stack.layers]
        self.embed_tokens = weights.take_module(stack.embed_tokens)
        self.embed_positions = weights.take_module(stack.embed_positions)
        self.embed_scale: float = stack.embed_scale
        self.last_norm = pack_norm(stack.layer_norm, weights)

    def embed(self, ids: torch.Tensor, encodings: torch.Tensor) -> torch.Tensor:
        """Token ids (batch, len) and the encodings of their positions to (batch, len, d_model); section 3.4."""
        x = self.embed_tokens(ids) * self.embed_scale
        return x + encodings.to(x.dtype)


def hidden_source(attention_mask: torch.Tensor, dtype: torch.dtype, more: int = 0) -> torch.Tensor | None:
    """Mask (batch, source_len) to a term for the scores, (batch, 1, 1, source_len + more); None if nothing is masked.

    Args:
        attention_mask: 1 at tokens of the source.
        dtype: dtype of the scores.
        more: number of keys after the source, which are all masked.
    """
    hidden = attention_mask == 0
    if not (more or hidden.any()):
        return None
    # a source that is all padding keeps finite scores, as in the model
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(hidden, torch.finfo(dtype).min)
    return nn.functional.pad(mask, (0, more), value=HIDDEN)[:, None, None]


__all__ = ["HIDDEN", "KeysAndValues", "PackedLayer", "PackedModel", "Stack", "hidden_source"]
