"""The Transformer of `modeling_vanilla_transformer.py` for inference: the source once, then the target step by step.

The same function of the same weights, written for the search that calls it:

- q, k and v of self-attention come out of one matrix; weights may be packed in bfloat16 or int8.
- Keys and values of the source are projected once for each sentence, not for each beam.
- Those of the target are never moved. All beams of a sentence write to one list of slots, and each beam sees its own
  ancestors among them by a mask: when beams are reordered, rows of the mask are, and when the list is full, slots that
  no beam descends from are dropped.

Shapes use: batch (sentences), beams, heads, slots, source_len, d_model, vocab.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

Precision = Literal["bf16", "int8"]
Linear = Callable[[torch.Tensor], torch.Tensor]
Norm = Callable[[torch.Tensor], torch.Tensor]

SLOTS_AT_FIRST = 128
HIDDEN = float("-inf")


# Weights


def pack_linear(layers: list[nn.Linear], precision: Precision | None, bias: torch.Tensor | None = None) -> Linear:
    """One matrix product for several layers, their outputs side by side.

    Args:
        layers: of one input width, all with a bias or none.
        precision: `None` is the weights' own; `"bf16"` and `"int8"` compute in that, from and to the input's type.
        bias: in place of the layers' own.
    """
    weight = torch.cat([layer.weight.detach() for layer in layers]) if len(layers) > 1 else layers[0].weight.detach()
    if bias is None and layers[0].bias is not None:
        bias = torch.cat([layer.bias.detach() for layer in layers])
    if precision is None:
        return lambda x: nn.functional.linear(x, weight, bias)
    return _pack_bf16(weight, bias) if precision == "bf16" else _pack_int8(weight, bias)


def _pack_bf16(weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
    weight, bias = weight.bfloat16(), None if bias is None else bias.bfloat16()
    if weight.device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return lambda x: nn.functional.linear(x.bfloat16(), weight, bias).to(x.dtype)
    # oneDNN would bring the weights into its own order again at every call
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, 128)
    multiply = torch.ops.mkldnn._linear_pointwise
    return lambda x: multiply(x.bfloat16(), packed, bias, "none", [], "").to(x.dtype)


def _pack_int8(weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
    """Weights in 8 bits with a scale for each output; inputs in 8 bits with one scale, found at each call."""
    weight = weight.float()
    scales = (weight.abs().amax(1) / 127).clamp(min=1e-12).double()
    zeros = torch.zeros(len(weight), dtype=torch.long)
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn" if "onednn" in torch.backends.quantized.supported_engines else engine
    try:
        quantized = torch.quantize_per_channel(weight.contiguous(), scales, zeros, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(quantized, None if bias is None else bias.float())
    finally:
        torch.backends.quantized.engine = engine
    multiply = torch.ops.quantized.linear_dynamic
    return lambda x: multiply(x.float(), packed, True).to(x.dtype)


@dataclass
class PackedAttention:
    """Equation 1 and section 3.2.2 on packed weights.

    Attributes:
        into: the input to queries, keys and values side by side; of encoder-decoder attention to queries.
        source: the encoder's states to keys and values side by side, of encoder-decoder attention.
        out: W^O.
    """

    into: Linear
    source: Linear
    out: Linear
    d_k: int
    d_v: int
    heads: int
    scaling: float

    @classmethod
    def of(cls, attention: Any, precision: Precision | None, cross: bool = False) -> "PackedAttention":
        query, key_value = [attention.q_proj], [attention.k_proj, attention.v_proj]
        heads = attention.q_proj.out_features // attention.d_k
        return cls(
            pack_linear(query if cross else query + key_value, precision),
            pack_linear(key_value, precision) if cross else nn.Identity(),
            pack_linear([attention.out_proj], precision),
            attention.d_k,
            attention.d_v,
            heads,
            attention.scaling,
        )

    def split(self, x: torch.Tensor, *widths: int) -> list[torch.Tensor]:
        """(batch, len, sum of heads * width) to one (batch * heads, len, width) for each width."""
        batch, length, _ = x.shape
        parts = x.split([self.heads * width for width in widths], dim=-1)
        return [
            part.view(batch, length, self.heads, width).transpose(1, 2).reshape(-1, length, width)
            for part, width in zip(parts, widths, strict=True)
        ]

    def attend(self, states: list[torch.Tensor], mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """softmax(Q K^T / sqrt(d_k) + mask) V W^O.

        Args:
            states: queries (batch * heads, query_len, d_k), keys and values of another length.
            mask: 0 or -inf, broadcast to (batch * heads, query_len, key_len).

        Returns:
            (batch, query_len, d_model), and the weights (batch * heads, query_len, key_len).
        """
        query, key, value = states
        if mask is None:
            scores = torch.bmm(query, key.transpose(1, 2)) * self.scaling
        else:
            scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=self.scaling)
        weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
        heads = torch.bmm(weights, value)  # (batch * heads, query_len, d_v)
        _, length, width = heads.shape
        joined = heads.view(-1, self.heads, length, width).transpose(1, 2).reshape(-1, length, self.heads * width)
        return self.out(joined), weights


class PackedLayer:
    """An encoder or decoder layer: its weights, and its residual connections (section 3.1)."""

    def __init__(self, layer: Any, precision: Precision | None) -> None:
        self.normalize_before = layer.normalize_before
        self.self_attn = PackedAttention.of(layer.self_attn, precision)
        self.self_attn_norm: Norm = layer.self_attn_layer_norm
        if hasattr(layer, "encoder_attn"):
            self.encoder_attn = PackedAttention.of(layer.encoder_attn, precision, cross=True)
            self.encoder_attn_norm: Norm = layer.encoder_attn_layer_norm
        self.fc1, self.fc2 = (pack_linear([linear], precision) for linear in (layer.fc1, layer.fc2))
        self.activation: Linear = layer.activation_fn
        self.final_norm: Norm = layer.final_layer_norm

    def add_and_norm(self, x: torch.Tensor, sublayer: Linear, norm: Norm) -> torch.Tensor:
        """LayerNorm(x + Sublayer(x)), or its pre-norm form; (batch, len, d_model)."""
        return x + sublayer(norm(x)) if self.normalize_before else norm(x + sublayer(x))

    def feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        """Equation 2."""
        return self.fc2(self.activation(self.fc1(x)))


class PackedModel:
    """All weights of a `VanillaTransformerForConditionalGeneration`, ready to multiply with.

    Args:
        model: in evaluation mode.
        precision: of the matrix products with weights; `None` is the model's own.
    """

    def __init__(self, model: Any, precision: Precision | None = None) -> None:
        # the embeddings' modules, not the model: the cache of packed models holds no model alive by its own entry
        self.encoder, self.decoder = (_Stack(stack, precision) for stack in (model.model.encoder, model.model.decoder))
        bias = model.final_logits_bias[0] if model.config.logits_bias else None
        self.project = pack_linear([model.lm_head], precision, bias)

    @torch.no_grad()
    def encode(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(batch, source_len) each to the encoder's states, (batch, source_len, d_model)."""
        positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        x = self.encoder.embed(input_ids, positions)
        mask = source_mask(attention_mask, x.dtype, self.encoder.layers[0].self_attn.heads)
        for layer in self.encoder.layers:
            attention = layer.self_attn

            def attend(y: torch.Tensor, attention: PackedAttention = attention) -> torch.Tensor:
                widths = (attention.d_k, attention.d_k, attention.d_v)
                return attention.attend(attention.split(attention.into(y), *widths), mask)[0]

            x = layer.add_and_norm(x, attend, layer.self_attn_norm)
            x = layer.add_and_norm(x, layer.feed_forward, layer.final_norm)
        return self.encoder.last_norm(x)


class _Stack:
    def __init__(self, stack: Any, precision: Precision | None) -> None:
        self.layers = [PackedLayer(layer, precision) for layer in stack.layers]
        self.embed_tokens, self.embed_positions = stack.embed_tokens, stack.embed_positions
        self.embed_scale: float = stack.embed_scale
        self.last_norm: Norm = stack.layer_norm

    def embed(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """(batch, len) and positions that broadcast to it, to (batch, len, d_model); sections 3.4 and 3.5."""
        x = self.embed_tokens(ids) * self.embed_scale
        return x + self.embed_positions(positions).to(x.dtype)


def source_mask(attention_mask: torch.Tensor, dtype: torch.dtype, heads: int) -> torch.Tensor | None:
    """(batch, source_len) to what is added to scores, (batch * heads, 1, source_len); None if nothing is hidden."""
    hidden = attention_mask == 0
    if not hidden.any():
        return None
    # a source that is all padding keeps finite scores, as in the model
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(hidden, torch.finfo(dtype).min)
    return mask[:, None].repeat_interleave(heads, dim=0)


_PACKED: "weakref.WeakKeyDictionary[Any, dict[Any, tuple[Any, PackedModel]]]" = weakref.WeakKeyDictionary()


def packed_model(model: Any, precision: Precision | None = None) -> PackedModel:
    """The packed form of `model`, made once and again after its weights have changed."""
    now = _fingerprint(model)
    packed = _PACKED.setdefault(model, {})
    if precision not in packed or now is None or packed[precision][0] != now:
        packed[precision] = (now, PackedModel(model, precision))
    return packed[precision][1]


def _fingerprint(model: Any) -> Any:
    try:
        weights = model.state_dict(keep_vars=True).values()
        return [(tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in weights]
    except RuntimeError:  # tensors made under `inference_mode` do not count their changes
        return None


# Steps


class StepDecoder:
    """The decoder, one token of each beam at a time.

    Args:
        packed: the model.
        encoder_states: (batch, source_len, d_model).
        attention_mask: 1 at tokens of the source; (batch, source_len).
        beams: of each sentence.
        keep_attention: remember the last layer's encoder-decoder attention of each step, for the coverage penalty.
    """

    def __init__(
        self,
        packed: PackedModel,
        encoder_states: torch.Tensor,
        attention_mask: torch.Tensor,
        beams: int,
        keep_attention: bool = False,
    ) -> None:
        self.packed, self.stack, self.beams = packed, packed.decoder, beams
        self.heads = self.stack.layers[0].self_attn.heads
        self.batch = encoder_states.shape[0]
        self.keep_attention = keep_attention
        self.attention: torch.Tensor | None = None  # (batch, beams, source_len), mean over heads
        self.hidden = source_mask(attention_mask, encoder_states.dtype, self.heads)
        self.cross = []
        for layer in self.stack.layers:
            attention = layer.encoder_attn
            keys_and_values = attention.source(encoder_states)
            self.cross.append(attention.split(keys_and_values, attention.d_k, attention.d_v))
        self.past: list[tuple[torch.Tensor, torch.Tensor]] = []  # (batch * heads, slots, width) of each layer
        self.seen = encoder_states.new_empty(0)  # (batch, beams, slots), 0 or -inf
        self.used = self.position = 0

    def read_prompt(self, ids: torch.Tensor) -> torch.Tensor:
        """The first tokens, (batch, prompt_len), to logits of the next one, (batch, vocab); all beams see them."""
        length, dtype = ids.shape[1], self.cross[0][0].dtype
        slots = max(SLOTS_AT_FIRST, length + self.beams)
        for layer in self.stack.layers:
            attention = layer.self_attn
            widths = (attention.d_k, attention.d_v)
            self.past.append(
                tuple(torch.empty(self.batch * self.heads, slots, w, dtype=dtype, device=ids.device) for w in widths)  # type: ignore[arg-type]
            )
        self.seen = torch.full((self.batch, self.beams, slots), HIDDEN, dtype=dtype, device=ids.device)
        self.seen[:, :, :length] = 0
        causal = torch.full((length, length), HIDDEN, dtype=dtype, device=ids.device).triu(1)[None]
        states = self._layers(ids, torch.arange(length, device=ids.device), causal if length > 1 else None)
        return self.packed.project(states[:, -1])

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """The last token of each beam, (batch, beams), to logits of the next one, (batch * beams, vocab)."""
        if self.used + self.beams > self.seen.shape[2]:
            self._make_room()
        mask = None  # of a single beam the past is all its own
        if self.beams > 1:
            own = self.seen[:, :, self.used : self.used + self.beams]
            own.copy_(torch.full_like(own[0], HIDDEN).fill_diagonal_(0))
            seen = self.seen[:, :, : self.used + self.beams]
            mask = seen.repeat_interleave(self.heads, dim=0)  # (batch * heads, beams, slots)
        position = torch.full((1,), self.position, device=tokens.device)
        return self.packed.project(self._layers(tokens, position, mask).flatten(0, 1))

    def select(self, parents: torch.Tensor) -> None:
        """Let beam k of each sentence go on from its beam `parents[:, k]`; (batch, beams)."""
        used = self.seen[:, :, : self.used]
        used.copy_(used.gather(1, parents[:, :, None].expand(-1, -1, self.used)))

    def keep(self, sentences: torch.Tensor) -> None:
        """Go on with these sentences alone; (fewer,), in order."""
        self.cross = [[self._rows(states, sentences) for states in pair] for pair in self.cross]
        self.past = [(self._rows(keys, sentences), self._rows(values, sentences)) for keys, values in self.past]
        self.seen = self.seen.index_select(0, sentences)
        if self.hidden is not None:
            self.hidden = self._rows(self.hidden, sentences)
        self.batch = len(sentences)

    def _rows(self, states: torch.Tensor, sentences: torch.Tensor) -> torch.Tensor:
        by_sentence = states.view(self.batch, self.heads, *states.shape[1:])
        return by_sentence.index_select(0, sentences).flatten(0, 1)

    def _layers(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(batch, len) new tokens to states (batch, len, d_model); their keys and values take the next slots."""
        start, end = self.used, self.used + ids.shape[1]
        x = self.stack.embed(ids, positions)
        for layer, past, cross in zip(self.stack.layers, self.past, self.cross, strict=True):

            def self_attention(y: torch.Tensor, layer: PackedLayer = layer, past: Any = past) -> torch.Tensor:
                attention = layer.self_attn
                widths = (attention.d_k, attention.d_k, attention.d_v)
                query, key, value = attention.split(attention.into(y), *widths)
                for slots, new in zip(past, (key, value), strict=True):
                    slots[:, start:end] = new
                return attention.attend([query, past[0][:, :end], past[1][:, :end]], mask)[0]

            def encoder_attention(y: torch.Tensor, layer: PackedLayer = layer, cross: Any = cross) -> torch.Tensor:
                attention = layer.encoder_attn
                (query,) = attention.split(attention.into(y), attention.d_k)
                output, weights = attention.attend([query, *cross], self.hidden)
                if self.keep_attention and layer is self.stack.layers[-1]:
                    self.attention = weights.view(self.batch, self.heads, *weights.shape[1:]).float().mean(1)
                return output

            x = layer.add_and_norm(x, self_attention, layer.self_attn_norm)
            x = layer.add_and_norm(x, encoder_attention, layer.encoder_attn_norm)
            x = layer.add_and_norm(x, layer.feed_forward, layer.final_norm)
        self.used, self.position = end, self.position + (ids.shape[1] if self.position == 0 else 1)
        return self.stack.last_norm(x)

    def _make_room(self) -> None:
        """Drop slots that no beam descends from, then double the list if it is still more than half full."""
        if self.beams > 1:
            used = self.seen[:, :, : self.used]
            dead = (used == HIDDEN).all(1)  # (batch, used)
            living = int((~dead).sum(1).max())
            order = dead.to(torch.uint8).argsort(dim=1, stable=True)[:, :living]  # (batch, living)
            self.seen[:, :, :living] = used.gather(2, order[:, None].expand(-1, self.beams, -1))
            self.seen[:, :, living:] = HIDDEN
            rows = order.repeat_interleave(self.heads, dim=0)[:, :, None]  # (batch * heads, living, 1)
            for pair in self.past:
                for slots in pair:
                    slots[:, :living] = slots.gather(1, rows.expand(-1, -1, slots.shape[2]))
            self.used = living
        if self.used + self.beams > self.seen.shape[2] // 2:
            more = self.seen.shape[2]
            self.seen = nn.functional.pad(self.seen, (0, more), value=HIDDEN)
            self.past = [
                tuple(nn.functional.pad(slots, (0, 0, 0, more)) for slots in pair)  # type: ignore[misc]
                for pair in self.past
            ]


__all__ = ["PackedModel", "Precision", "StepDecoder", "packed_model"]
