"""Step-by-step decoding with cached keys and values: each step computes the next token of all hypotheses.

- Keys and values of the source are projected once for each sentence, not for each beam.
- Those of the target are never moved. All beams of a sentence write to the same slots, and a mask shows each beam its
  own ancestors among them. Reordering beams reorders only rows of the mask. A slot that no beam descends from is
  overwritten.
- When a sentence leaves the batch, the last one takes its place, and the others stay where they are.

Shapes use: batch (sentences), beams, heads, slots, source_len, d_model, vocab.
"""

from typing import NamedTuple, Protocol

import torch
from torch import nn

from .devices import on_accelerator
from .packed_layers import HIDDEN, KeysAndValues, PackedLayer, PackedModel, hidden_source

SLOTS_AT_FIRST = 64
"""Room for most targets; unused slots cost nothing."""
FRESH_SLOTS = 256
"""Slots used in order on an accelerator before freed ones are reused, since finding those waits for the device."""
POSITIONS_AT_ONCE = 64
LANES = 16
"""Keys that a CPU's vector instructions process at once; a softmax handles the rest one by one."""


class Decoder(Protocol):
    """The interface between a search and a model: next-token logits of hypotheses that are chosen, moved and dropped.

    A sentence has a fixed number of hypotheses (beams); after the prompt they are all the same. To combine models or
    constrain targets, write a class with these methods. `StepDecoder` decodes with a single model.
    """

    def read_prompt(self, prompt: torch.Tensor) -> None:
        """Read the first tokens of each target, (batch, prompt_len)."""

    def logits(self, sentences: slice) -> torch.Tensor:
        """Next-token logits of the hypotheses of some sentences, float32, which the caller may modify: (sentences *
        beams, vocab), or (sentences, vocab) after the prompt."""

    def attention(self) -> torch.Tensor:
        """Attention of each hypothesis' last token to the source, (batch, beams or 1, source_len), 1 at padding.
        Called only for a coverage penalty."""

    def select(self, parents: torch.Tensor) -> None:
        """Continue beam k of each sentence from its beam `parents[:, k]`; (batch, beams)."""

    def step(self, tokens: torch.Tensor) -> None:
        """Add one token to each hypothesis, (batch, beams)."""

    def keep(self, sentences: torch.Tensor) -> None:
        """Continue with these sentences only, (fewer,), in this order."""


def full_lanes(keys: int) -> int:
    """The number of keys, rounded up to full lanes where that makes attention faster: 16 keys cost half of 15."""
    left = keys % LANES
    return keys + LANES - left if left >= LANES // 2 or 0 < left == keys else keys


class _Memory(NamedTuple):
    """The keys and values that a layer reads and writes, as views.

    Attributes:
        slots: keys and values of the target side by side, (batch, slots, heads * (d_k + d_v)).
        target: keys and values of the slots that are attended to.
        source: keys and values of the source.
    """

    slots: torch.Tensor
    target: KeysAndValues
    source: KeysAndValues


class StepDecoder:
    """The `Decoder` of a single model.

    Args:
        packed: the model's packed weights.
        encoder_states: (batch, source_len, d_model).
        attention_mask: 1 at tokens of the source; (batch, source_len).
        beams: number of beams for each sentence.
        keep_attention: store the last layer's encoder-decoder attention at each step, for the coverage penalty.
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
        self.states = self.paid = encoder_states.new_empty(0)  # (batch, beams, d_model); (batch, beams, source_len)
        self.padding = attention_mask == 0  # (batch, source_len)
        # keys and values side by side of each layer: the source's, and the target's in slots
        more = full_lanes(encoder_states.shape[1]) - encoder_states.shape[1]
        pad = nn.functional.pad
        self.cross = [pad(layer.encoder_attn.source(encoder_states), (0, 0, 0, more)) for layer in self.stack.layers]
        self.hidden = hidden_source(attention_mask, encoder_states.dtype, more)
        self.past: list[torch.Tensor] = []  # (batch, slots, heads * (d_k + d_v)) each
        self.memories: list[_Memory] = []  # views of each layer, valid until `past` or the attended slots change
        self.seen = encoder_states.new_empty(0)  # (batch, 1, beams, slots), 0 or -inf
        self.used = self.written = 0  # numbers of slots used so far, and written to so far
        self.position = self.first_encoding = 0  # tokens, see `_encoding`
        self.encodings = encoder_states.new_empty(0)

    def read_prompt(self, prompt: torch.Tensor) -> None:
        """As in `Decoder`; all beams see the prompt."""
        ids = prompt
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
        self.states = self._layers(ids, encodings, causal, slice(0, length))[:, -1:]

    def step(self, tokens: torch.Tensor) -> None:
        """As in `Decoder`."""
        slots, mask = self._next_slots(), None  # a single beam sees all of the past
        if self.beams > 1:
            mask = self.seen[..., : full_lanes(self.used)]
        self.states = self._layers(tokens, self._encoding(), mask, slots)
        self.position += 1

    def logits(self, sentences: slice) -> torch.Tensor:
        """As in `Decoder`."""
        return self.packed.project(self.states[sentences].flatten(0, 1)).float()

    def attention(self) -> torch.Tensor:
        """As in `Decoder`: the last layer's attention, averaged over heads."""
        paid = self.paid[:, -self.states.shape[1] :, : self.padding.shape[1]]
        return paid.masked_fill(self.padding[:, None], 1.0)

    def _next_slots(self) -> slice | torch.Tensor:
        """Choose a slot for the keys and values of each beam at this step, and let each beam see its own.

        Returns:
            The next slots, the same for all sentences, as long as attending to more slots costs little. Later, indices
            into (batch * slots), (batch * beams,): the first slots of each sentence that no beam descends from.
        """
        first, last = self.used, self.used + self.beams
        fresh = FRESH_SLOTS if on_accelerator(self.seen.device) else 0
        if self.beams == 1 or last <= max(full_lanes(first), fresh):
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
        """Add half as many slots if all are used, and set new slots to 0 before they can be attended to."""
        keys, room = -(-self.used // LANES) * LANES, self.seen.shape[-1]
        if keys > room:
            more = max(keys, room + room // 2) - room
            self.seen = nn.functional.pad(self.seen, (0, more), value=HIDDEN)
            self.past = [torch.cat((of, of.new_empty(len(of), more, of.shape[2])), dim=1) for of in self.past]
            self.memories = []
        if keys > self.written:
            for slots in self.past:
                slots[:, self.written : keys].zero_()  # a masked slot has no effect unless it holds NaN
            self.written = keys

    def _encoding(self) -> torch.Tensor:
        """Positional encoding of the next position, (1, d_model); computed for several positions at a time."""
        if self.position >= self.first_encoding + len(self.encodings):
            positions = torch.arange(self.position, self.position + POSITIONS_AT_ONCE, device=self.seen.device)
            learned = getattr(self.stack.embed_positions, "num_embeddings", None)
            if learned is not None:  # the first position beyond the table raises an error that names it
                positions = positions[: max(1, learned - self.position)]
            self.first_encoding, self.encodings = self.position, self.stack.embed_positions(positions)
        return self.encodings[self.position - self.first_encoding][None]

    def select(self, parents: torch.Tensor) -> None:
        """As in `Decoder`."""
        used = self.seen[:, 0, :, : self.used]
        used.copy_(used.gather(1, parents[:, :, None].expand(-1, -1, self.used)))

    def keep(self, sentences: torch.Tensor) -> None:
        """As in `Decoder`; only sentences that move are copied."""
        moved = (sentences != torch.arange(len(sentences), device=sentences.device)).nonzero()[:, 0]
        origins = sentences[moved]

        def narrowed(states: torch.Tensor, slots: int | None = None) -> torch.Tensor:
            states[moved, :slots] = states[origins, :slots]
            return states[: len(sentences)]

        self.cross = [narrowed(states) for states in self.cross]
        self.past = [narrowed(states, self.used) for states in self.past]
        self.padding = narrowed(self.padding)
        self.seen = narrowed(self.seen)
        self.hidden = None if self.hidden is None else narrowed(self.hidden)
        self.memories = []

    def _attended(self, keys: int) -> list[_Memory]:
        """Views of the first `keys` slots and of the source, for each layer."""
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
        """New tokens (batch, len) to states (batch, len, d_model); their keys and values are written to `slots`."""
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
                self.paid = self.paid if weights is None else weights
                return output

            x = layer.add_and_norm(x, self_attention, layer.self_attn_norm)
            x = layer.add_and_norm(x, encoder_attention, layer.encoder_attn_norm)
            x = layer.add_and_norm(x, layer.feed_forward, layer.final_norm)
        return self.stack.last_norm(x)


__all__ = ["Decoder", "StepDecoder"]
