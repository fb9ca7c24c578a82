"""The Transformer of `modeling_vanilla_transformer.py` for inference: the source once, then the target step by step.

The same function of the same weights, written for the search that calls it:

- q, k and v of self-attention come out of one matrix; weights may be packed in bfloat16 or int8.
- Keys and values of the source are projected once for each sentence, not for each beam.
- Those of the target are never moved. All beams of a sentence write to one list of slots, and each beam sees its own
  ancestors among them by a mask: when beams are reordered, rows of the mask are, and a slot that no beam descends from
  is written anew.
- When a sentence leaves the batch, the last one takes its place, and the others stay where they are.

Shapes use: batch (sentences), beams, heads, slots, source_len, d_model, vocab.
"""

import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

Precision = Literal["bf16", "int8"]
Linear = Callable[[torch.Tensor], torch.Tensor]
Norm = Callable[[torch.Tensor], torch.Tensor]
KeysAndValues = tuple[torch.Tensor, torch.Tensor]

SLOTS_AT_FIRST = 64
"""Room for most targets; what is not written to costs nothing."""
POSITIONS_AT_ONCE = 64
HIDDEN = float("-inf")
TOKENS_AT_ONCE = 1024
"""Of the source, encoded at a time on a processor: as many as its cache holds."""
LANES = 16
"""Keys that a processor's vector instructions weigh at once; a softmax takes those left over one by one."""


def full_lanes(keys: int) -> int:
    """As many keys, or as many as make the last lanes full where attention to those is faster: 16 cost half of 15."""
    left = keys % LANES
    return keys + LANES - left if left >= LANES // 2 or 0 < left == keys else keys


# Weights


def pack_linear(
    layers: list[nn.Linear], precision: Precision | None, bias: torch.Tensor | None = None, relu: bool = False
) -> Linear:
    """One matrix product for several layers, their outputs side by side.

    Args:
        layers: of one input width, all with a bias or none.
        precision: `None` is the weights' own; `"bf16"` and `"int8"` compute in that, from and to the input's type.
        bias: in place of the layers' own.
        relu: whether negative outputs become 0.
    """
    weight = torch.cat([layer.weight.detach() for layer in layers]) if len(layers) > 1 else layers[0].weight.detach()
    if bias is None and layers[0].bias is not None:
        bias = torch.cat([layer.bias.detach() for layer in layers])
    plain = _plain_product(weight, bias, relu)
    on_cpu, full = weight.device.type == "cpu", weight.dtype == torch.float32
    if precision == "int8":
        packed = _pack_int8(weight, bias, relu)
    elif on_cpu and _HAS_ONEDNN and (precision == "bf16" or full):
        packed = _pack_onednn(weight, bias, relu, precision == "bf16")
    elif precision == "bf16":
        packed = _plain_product(weight.bfloat16(), None if bias is None else bias.bfloat16(), relu)
    else:
        return plain
    if on_cpu and full and (precision is None or weight.numel() <= SMALL):
        return lambda x: plain(x) if x.numel() < FEW_ROWS * x.shape[-1] else packed(x)
    return packed


FEW_ROWS, SMALL = 16, 2**18
"""With fewer rows than these the call of a packed product costs more than it saves: in float32 always, in less
precision where a matrix has at most so many weights."""


def _plain_product(weight: torch.Tensor, bias: torch.Tensor | None, relu: bool) -> Linear:
    def multiply(x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.linear(x.to(weight.dtype), weight, bias).to(x.dtype)
        return y.relu_() if relu else y

    return multiply


_HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_reorder_linear_weight") and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _pack_onednn(weight: torch.Tensor, bias: torch.Tensor | None, relu: bool, bf16: bool) -> Linear:
    """Weights in the order that oneDNN reads them in; otherwise it brings them into it at every call."""
    if bf16:
        weight, bias = weight.bfloat16(), None if bias is None else bias.bfloat16()
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, 128)
    pointwise, after = torch.ops.mkldnn._linear_pointwise.default, "relu" if relu else "none"
    if bf16:
        return lambda x: pointwise(x.bfloat16(), packed, bias, after, [], "").to(x.dtype)
    return lambda x: pointwise(x, packed, bias, after, [], "")


_SUMS_ALL_8_BITS = bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())
"""Without VNNI two products of 8 bits can overflow their sum of 16: inputs then keep 7."""


def _pack_int8(weight: torch.Tensor, bias: torch.Tensor | None, relu: bool) -> Linear:
    """Weights in 8 bits with a scale for each output; inputs in 8 bits with one scale, found at each call."""
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


def pack_norm(norm: nn.Module) -> Norm:
    """The same without the work around a module's call, which takes as long as a small tensor's LayerNorm itself."""
    if type(norm) is not nn.LayerNorm:
        return norm
    shape, weight, bias, eps = norm.normalized_shape, norm.weight, norm.bias, norm.eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)


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
    def of(cls, attention: Any, precision: Precision | None, cross: bool = False) -> "PackedAttention":
        query, key_value = [attention.q_proj], [attention.k_proj, attention.v_proj]
        return cls(
            pack_linear(query if cross else query + key_value, precision),
            pack_linear(key_value, precision) if cross else nn.Identity(),
            pack_linear([attention.out_proj], precision),
            attention.q_proj.out_features // attention.d_k,
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

    def __init__(self, layer: Any, precision: Precision | None) -> None:
        self.normalize_before = layer.normalize_before
        self.self_attn = PackedAttention.of(layer.self_attn, precision)
        self.self_attn_norm = pack_norm(layer.self_attn_layer_norm)
        if hasattr(layer, "encoder_attn"):
            self.encoder_attn = PackedAttention.of(layer.encoder_attn, precision, cross=True)
            self.encoder_attn_norm = pack_norm(layer.encoder_attn_layer_norm)
        relu = isinstance(layer.activation_fn, nn.ReLU)
        self.fc1, self.fc2 = pack_linear([layer.fc1], precision, relu=relu), pack_linear([layer.fc2], precision)
        self.activation = None if relu else layer.activation_fn
        self.final_norm = pack_norm(layer.final_layer_norm)

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
        whole = input_ids.device.type != "cpu"
        sentences = len(input_ids) if whole else max(1, TOKENS_AT_ONCE // max(1, input_ids.shape[1]))
        some = zip(input_ids.split(sentences), attention_mask.split(sentences), strict=True)
        return torch.cat([self._encode(*part) for part in some])

    def _encode(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        x = self.encoder.embed(input_ids, self.encoder.embed_positions(positions))
        mask = source_mask(attention_mask, x.dtype)
        for layer in self.encoder.layers:

            def attend(y: torch.Tensor, attention: PackedAttention = layer.self_attn) -> torch.Tensor:
                queries, rest = attention.queries_and_rest(y)
                return attention.attend(queries, attention.keys_and_values(rest), mask)[0]

            x = layer.add_and_norm(x, attend, layer.self_attn_norm)
            x = layer.add_and_norm(x, layer.feed_forward, layer.final_norm)
        return self.encoder.last_norm(x)


class _Stack:
    def __init__(self, stack: Any, precision: Precision | None) -> None:
        self.layers = [PackedLayer(layer, precision) for layer in stack.layers]
        self.embed_tokens, self.embed_positions = stack.embed_tokens, stack.embed_positions
        self.embed_scale: float = stack.embed_scale
        self.last_norm = pack_norm(stack.layer_norm)

    def embed(self, ids: torch.Tensor, encodings: torch.Tensor) -> torch.Tensor:
        """Tokens (batch, len) and their positions' encodings to (batch, len, d_model); section 3.4."""
        x = self.embed_tokens(ids) * self.embed_scale
        return x + encodings.to(x.dtype)


def source_mask(attention_mask: torch.Tensor, dtype: torch.dtype, more: int = 0) -> torch.Tensor | None:
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


_PACKED: "weakref.WeakKeyDictionary[Any, dict[Any, tuple[Any, Any, PackedModel]]]" = weakref.WeakKeyDictionary()


def packed_model(model: Any, precision: Precision | None = None) -> PackedModel:
    """The packed form of `model`, made once and again after its weights have changed."""
    weights = list(model.state_dict(keep_vars=True).values())
    state = _state_of(weights)
    packed = _PACKED.setdefault(model, {})
    if precision in packed and state is not None:
        known, known_state, ready = packed[precision]
        if state == known_state and all(one is other for one, other in zip(weights, known, strict=True)):
            return ready
    packed[precision] = (weights, state, PackedModel(model, precision))
    return packed[precision][2]


def _state_of(weights: list[torch.Tensor]) -> Any:
    """What changes when a weight does; kept weights keep their memory, so that no other can take its address.

    Neither fused optimizers nor changes through `.data` count as changes of a tensor: so one number of each weight is
    compared too.
    """
    try:
        places = [(tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in weights]
    except RuntimeError:  # tensors made under `inference_mode` do not count their changes
        return None
    with torch.no_grad():
        samples = torch.stack([tensor.flatten()[tensor.numel() // 2].float() for tensor in weights])
    return places, samples.tolist()


# Steps


class _Memory(NamedTuple):
    """What the attention of a layer reads and writes, as views.

    Attributes:
        slots: keys and values of the target side by side, (batch, slots, heads * (d_k + d_v)).
        target: those slots that are attended to.
        source: what is attended to of the source.
    """

    slots: torch.Tensor
    target: KeysAndValues
    source: KeysAndValues


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
        self.keep_attention = keep_attention
        self.attention: torch.Tensor | None = None  # (batch, beams, source_len), mean over heads
        # keys and values side by side of each layer: the source's, and the target's in slots
        more = full_lanes(encoder_states.shape[1]) - encoder_states.shape[1]
        pad = nn.functional.pad
        self.cross = [pad(layer.encoder_attn.source(encoder_states), (0, 0, 0, more)) for layer in self.stack.layers]
        self.hidden = source_mask(attention_mask, encoder_states.dtype, more)
        self.past: list[torch.Tensor] = []  # (batch, slots, heads * (d_k + d_v)) each
        self.memories: list[_Memory] = []  # of each layer, until these tensors or the slots attended to change
        self.seen = encoder_states.new_empty(0)  # (batch, 1, beams, slots), 0 or -inf
        self.used = self.written = 0  # slots that were ever used, or written to
        self.position = self.first_encoding = 0  # tokens, see `_encoding`
        self.encodings = encoder_states.new_empty(0)

    def read_prompt(self, ids: torch.Tensor) -> torch.Tensor:
        """The first tokens, (batch, prompt_len), to the state after them, (batch, 1, d_model); all beams see them."""
        batch, length = ids.shape
        dtype, device = self.cross[0].dtype, ids.device
        slots = max(SLOTS_AT_FIRST, length + self.beams)
        for layer in self.stack.layers:
            width = layer.self_attn.heads * (layer.self_attn.d_k + layer.self_attn.d_v)
            self.past.append(torch.empty(batch, slots, width, dtype=dtype, device=device))
        self.seen = torch.full((batch, 1, self.beams, slots), HIDDEN, dtype=dtype, device=device)
        self.seen[..., :length] = 0
        causal = None if length == 1 else torch.full((length, length), HIDDEN, dtype=dtype, device=device).triu(1)
        encodings = self.stack.embed_positions(torch.arange(length, device=device))
        self.used = self.position = length
        self._make_room()
        return self._layers(ids, encodings, causal, slice(0, length))[:, -1:]

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """The last token of each beam, (batch, beams), to the state after it, (batch, beams, d_model)."""
        slots, mask = self._next_slots(), None  # of a single beam the past is all its own
        if self.beams > 1:
            mask = self.seen[..., : full_lanes(self.used)]
        states = self._layers(tokens, self._encoding(), mask, slots)
        self.position += 1
        return states

    def project(self, states: torch.Tensor) -> torch.Tensor:
        """States, (any, any, d_model), to logits of the next token, (rows, vocab), in float32."""
        return self.packed.project(states.flatten(0, 1)).float()

    def _next_slots(self) -> slice | torch.Tensor:
        """Where this step's keys and values go, a slot for each beam, in which it sees itself.

        Returns:
            The next slots, the same of all sentences, while they cost no more to attend to; then places in
            (batch * slots), (batch * beams,): the first slots of each sentence that no beam descends from.
        """
        first, last = self.used, self.used + self.beams
        if self.beams == 1 or last <= full_lanes(first):
            self.used = last
            self._make_room()
            self.seen[:, 0, :, first:last].diagonal(dim1=1, dim2=2).zero_()
            return slice(first, last)
        taken = (self.seen[:, 0, :, :first] != HIDDEN).any(1)  # (batch, used)
        taken = nn.functional.pad(taken, (0, self.beams))
        slots = taken.to(torch.uint8).argsort(dim=1, stable=True)[:, : self.beams]
        self.used = max(first, int(slots.max()) + 1)
        self._make_room()
        self.seen[:, 0].scatter_(2, slots[:, :, None], 0.0)
        rows = torch.arange(len(slots), device=slots.device)[:, None] * self.seen.shape[-1]
        return (rows + slots).flatten()

    def _make_room(self) -> None:
        """Half as many slots more if more are used than there are, and numbers in all that can be attended to."""
        keys, room = -(-self.used // LANES) * LANES, self.seen.shape[-1]
        if keys > room:
            more = max(keys, room + room // 2) - room
            self.seen = nn.functional.pad(self.seen, (0, more), value=HIDDEN)
            self.past = [torch.cat((of, of.new_empty(len(of), more, of.shape[2])), dim=1) for of in self.past]
            self.memories = []
        if keys > self.written:
            for slots in self.past:
                slots[:, self.written : keys].zero_()  # a slot that is hidden counts nothing, unless it is no number
            self.written = keys

    def _encoding(self) -> torch.Tensor:
        """Of the position that is next, (1, d_model); computed for some positions at a time."""
        if self.position >= self.first_encoding + len(self.encodings):
            positions = torch.arange(self.position, self.position + POSITIONS_AT_ONCE, device=self.seen.device)
            learned = getattr(self.stack.embed_positions, "num_embeddings", None)
            if learned is not None:  # the first that has none is an error with its own number
                positions = positions[: max(1, learned - self.position)]
            self.first_encoding, self.encodings = self.position, self.stack.embed_positions(positions)
        return self.encodings[self.position - self.first_encoding][None]

    def select(self, parents: torch.Tensor) -> None:
        """Let beam k of each sentence go on from its beam `parents[:, k]`; (batch, beams)."""
        used = self.seen[:, 0, :, : self.used]
        used.copy_(used.gather(1, parents[:, :, None].expand(-1, -1, self.used)))

    def keep(self, sentences: torch.Tensor) -> None:
        """Go on with these sentences alone, (fewer,); only those that change their place are copied."""
        moved = (sentences != torch.arange(len(sentences), device=sentences.device)).nonzero()[:, 0]
        origins = sentences[moved]

        def narrowed(states: torch.Tensor, slots: int | None = None) -> torch.Tensor:
            states[moved, :slots] = states[origins, :slots]
            return states[: len(sentences)]

        self.cross = [narrowed(states) for states in self.cross]
        self.past = [narrowed(states, self.used) for states in self.past]
        self.seen = narrowed(self.seen)
        self.hidden = None if self.hidden is None else narrowed(self.hidden)
        self.memories = []

    def _attended(self, keys: int) -> list[_Memory]:
        """Views of the first `keys` slots and of the source, of each layer."""
        if not self.memories or self.memories[0].target[0].shape[2] != keys:
            self.memories = [
                _Memory(
                    past,
                    layer.self_attn.keys_and_values(past[:, :keys]),
                    layer.encoder_attn.keys_and_values(cross),
                )
                for layer, past, cross in zip(self.stack.layers, self.past, self.cross, strict=True)
            ]
        return self.memories

    def _layers(
        self, ids: torch.Tensor, encodings: torch.Tensor, mask: torch.Tensor | None, slots: slice | torch.Tensor
    ) -> torch.Tensor:
        """(batch, len) new tokens to states (batch, len, d_model); their keys and values go into `slots`."""
        x = self.stack.embed(ids, encodings)
        memories = self._attended(self.used if mask is None else mask.shape[-1])
        for layer, memory in zip(self.stack.layers, memories, strict=True):

            def self_attention(y: torch.Tensor, layer: PackedLayer = layer, memory: _Memory = memory) -> torch.Tensor:
                queries, new = layer.self_attn.queries_and_rest(y)
                if isinstance(slots, slice):
                    memory.slots[:, slots] = new
                else:
                    memory.slots.flatten(0, 1).index_copy_(0, slots, new.flatten(0, 1))
                return layer.self_attn.attend(queries, memory.target, mask)[0]

            def encoder_attention(
                y: torch.Tensor, layer: PackedLayer = layer, memory: _Memory = memory
            ) -> torch.Tensor:
                weigh = self.keep_attention and layer is self.stack.layers[-1]
                attention = layer.encoder_attn
                output, weights = attention.attend(attention.query(y), memory.source, self.hidden, weigh)
                self.attention = weights if weigh else self.attention
                return output

            x = layer.add_and_norm(x, self_attention, layer.self_attn_norm)
            x = layer.add_and_norm(x, encoder_attention, layer.encoder_attn_norm)
            x = layer.add_and_norm(x, layer.feed_forward, layer.final_norm)
        return self.stack.last_norm(x)


__all__ = ["HIDDEN", "PackedModel", "Precision", "StepDecoder", "packed_model"]
