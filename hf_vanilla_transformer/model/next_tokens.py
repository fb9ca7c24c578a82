"""The most likely next tokens of each beam, with any logits processors.

They are chosen from the logits. One log-sum-exp per row turns the chosen logits, and only those, into
log-probabilities. All log-probabilities are computed only if a logits processor needs them.

Shapes use: batch (sentences), beams, candidates, length (of the targets so far), vocab.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers.generation import (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    LogitNormalization,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from .devices import on_accelerator
from .packed_layers import HIDDEN

CHUNK = 64
"""Number of logits in a chunk; the maxima of chunks are compared first."""
EXPONENTS = 60.0
"""If the absolute maximum of every row is below this, exponentials can be summed in float32 without shifting."""
ROWS_AT_ONCE = 128
"""Rows of logits computed and searched at a time on a CPU: as many as fit its cache."""


@dataclass
class Continuations:
    """One more token for the running hypotheses, best first; (batch, candidates) each.

    Attributes:
        scores: running log-probabilities.
        parents: the beam that each one continues.
        tokens: the token that it adds.
        log_probabilities: log-probability of that token.
    """

    scores: torch.Tensor
    parents: torch.Tensor
    tokens: torch.Tensor
    log_probabilities: torch.Tensor

    def pick(self, places: torch.Tensor) -> "Continuations":
        """The continuations of each sentence at `places`, (batch, fewer)."""
        return Continuations(*(value.gather(1, places) for value in vars(self).values()))

    @staticmethod
    def of_all(parts: "list[Continuations]") -> "Continuations":
        """The continuations of several batches, concatenated."""
        if len(parts) == 1:
            return parts[0]
        values = (vars(part).values() for part in parts)
        return Continuations(*(torch.cat(column) for column in zip(*values, strict=True)))


_MASKING = (
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)
_FORCING = (ForcedBOSTokenLogitsProcessor, ForcedEOSTokenLogitsProcessor)


class NextTokens:
    """The most likely next tokens of each row, with any logits processors.

    Processors in `_MASKING` add to the logits, whatever their offset; `LogitNormalization` takes the log-sum-exp after
    them. Processors in `_FORCING` act at one length each, the first or the one they take for the last. Any other
    processor, or one whose class has a `__call__` that is not from `transformers`, gets log-probabilities at every
    step, as in `transformers`, and keeps finished sentences in the batch, since it may depend on the order of rows.
    """

    def __init__(self, processors: Any, keep_scores: bool = False) -> None:
        self.processors = processors
        self.keep_scores = keep_scores
        self.step_scores: list[torch.Tensor] = []
        kinds = [_kind(processor) for processor in processors]
        self.renormalises = bool(kinds) and kinds[-1] is LogitNormalization
        rest = kinds[:-1] if self.renormalises else kinds
        self.needs_log_probabilities = keep_scores or not all(kind in _MASKING + _FORCING for kind in rest)
        self.rows_may_leave = not self.needs_log_probabilities
        masking = [processor for processor in processors if _kind(processor) in _MASKING]
        # single tokens are banned in place: these processors would copy all logits for each one
        self.bans = [banned for processor in masking if (banned := _banned_by(processor)) is not None]
        self.known: dict[int, torch.Tensor] = {}  # the tokens that each ban forbids
        self.masking = [processor for processor in masking if _banned_by(processor) is None]
        self.bad_words = [each for each in masking if _kind(each) is NoBadWordsLogitsProcessor and each.sequence_bias]
        self.forced_lengths = {
            1 if type(processor) is ForcedBOSTokenLogitsProcessor else processor.max_length - 1
            for processor in processors
            if _kind(processor) in _FORCING
        }
        self.scratch = torch.empty(0)

    def blocks(self, batch: int, beams: int, device: torch.device) -> Iterator[slice]:
        """Blocks of sentences whose logits are computed and searched at once: equal parts that fit a CPU's cache."""
        whole = self.needs_log_probabilities or on_accelerator(device)  # processors may depend on the order of rows
        parts = 1 if whole else -(-batch // max(1, ROWS_AT_ONCE // beams))
        size = -(-batch // parts)
        return (slice(start, min(start + size, batch)) for start in range(0, batch, size))

    def best(
        self,
        logits: torch.Tensor,
        running: torch.Tensor,
        count: int,
        ids: torch.Tensor,
        allowed: "Allowed | None" = None,
    ) -> Continuations:
        """The `count` most likely continuations of each sentence.

        Args:
            logits: (batch * beams, vocab); may be modified.
            running: log-probabilities of the beams so far, (batch, beams).
            count: at most beams * vocab.
            ids: the targets so far, (batch * beams, length).
            allowed: constraints on the next tokens, if any.
        """
        length = ids.shape[1]
        for processor in self.bad_words:
            if max(max(words) for words in processor.sequence_bias) >= logits.shape[1]:
                processor(ids, logits)  # raises an error that explains it
        ends = allowed is not None and allowed.ends is not None and bool(allowed.ends.any())
        if self.needs_log_probabilities or length in self.forced_lengths or ends:
            scores = self.processors(ids, logits.log_softmax(-1))
            if self.keep_scores:
                self.step_scores.append(scores.clone())
            scores = allow_only(scores, allowed)
            return likeliest(scores, chunk_maxima(scores), torch.zeros_like(scores[:, :1]), running, count)
        banned = self._banned(length, logits)
        unchanged = not banned and not self.masking and allowed is None
        total = None  # (rows, 1)
        if not (self.renormalises or unchanged):
            total = self._log_sum_exp(logits, chunk_maxima(logits))
        for tokens in banned:
            logits.index_fill_(1, tokens, HIDDEN)
        for processor in self.masking:
            logits = processor(ids, logits)
        logits = allow_only(logits, allowed)
        maxima = chunk_maxima(logits)
        return likeliest(logits, maxima, self._log_sum_exp(logits, maxima) if total is None else total, running, count)

    def _banned(self, length: int, logits: torch.Tensor) -> list[torch.Tensor]:
        """The single tokens that are banned at this length."""
        for number, ban in enumerate(self.bans):
            if number not in self.known and (tokens := ban(length)) is not None:
                known = tokens[(tokens >= 0) & (tokens < logits.shape[1])]  # others are not in the vocabulary
                self.known[number] = known.to(logits.device)
        return [self.known[number] for number, ban in enumerate(self.bans) if ban(length) is not None]

    def _log_sum_exp(self, logits: torch.Tensor, maxima: torch.Tensor | None) -> torch.Tensor:
        """As `logits.logsumexp(-1, keepdim=True)`, in memory reused from step to step; `maxima` are of the chunks."""
        if maxima is None:
            return logits.logsumexp(-1, keepdim=True)
        if len(self.scratch) < len(logits):
            self.scratch = torch.empty_like(logits)
        scratch = self.scratch[: len(logits)]
        largest = maxima.amax(1, keepdim=True)
        if largest.abs().max() < EXPONENTS:
            return torch.exp(logits, out=scratch).sum(1, keepdim=True).log()
        largest = largest.clamp(min=torch.finfo(logits.dtype).min)
        return torch.sub(logits, largest, out=scratch).exp_().sum(1, keepdim=True).log() + largest


def chunk_maxima(values: torch.Tensor) -> torch.Tensor | None:
    """The maximum of each chunk of a row, (rows, chunks); None on accelerators, which are faster with whole rows."""
    if on_accelerator(values.device):
        return None
    vocab = values.shape[1]
    whole = vocab // CHUNK * CHUNK
    maxima = values[:, :whole].unflatten(1, (whole // CHUNK, CHUNK)).amax(2)
    return maxima if whole == vocab else torch.cat((maxima, values[:, whole:].amax(1, keepdim=True)), dim=1)


def likeliest(
    values: torch.Tensor, maxima: torch.Tensor | None, total: torch.Tensor, running: torch.Tensor, count: int
) -> Continuations:
    """The best next tokens over all beams, ranked by `running` + `values` - `total`.

    Args:
        values: logits, (batch * beams, vocab).
        maxima: their `chunk_maxima`, or None to search whole rows.
        total: their log-sum-exp, (batch * beams, 1).
        running: log-probabilities of the beams so far, (batch, beams).
        count: at most beams * vocab.
    """
    batch, beams = running.shape
    vocab = values.shape[1]
    total = total.view(batch, beams)
    parents, tokens = _shortlist(values, maxima, total, running, count)  # (batch, any) each
    log_probabilities = values.reshape(batch, -1).gather(1, parents * vocab + tokens) - total.gather(1, parents)
    scores, places = (log_probabilities + running.gather(1, parents)).topk(count)
    return Continuations(scores, *(of.gather(1, places) for of in (parents, tokens, log_probabilities)))


def _shortlist(
    values: torch.Tensor, maxima: torch.Tensor | None, total: torch.Tensor, running: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Beams and tokens, (batch, any) each, among which are the best `count`; arguments as in `likeliest`."""
    batch, beams = running.shape
    vocab = values.shape[1]
    device = values.device
    chunks = vocab // CHUNK
    if maxima is None or chunks < count:
        tokens = values.topk(min(count, vocab)).indices  # (batch * beams, any)
        parents = torch.arange(beams, device=device).repeat_interleave(tokens.shape[1])
        return parents.expand(batch, -1), tokens.view(batch, -1)
    # the best `count` tokens are in the best `count` chunks, or in the remainder after the last whole chunk
    maxima = maxima[:, :chunks].unflatten(0, (batch, beams))
    best = ((maxima - total[:, :, None]) + running[:, :, None]).flatten(1).topk(count).indices  # (batch, count)
    parents = (best // chunks)[:, :, None].expand(-1, -1, CHUNK).flatten(1)
    tokens = ((best % chunks * CHUNK)[:, :, None] + torch.arange(CHUNK)).flatten(1)
    if left := vocab - chunks * CHUNK:
        rest = torch.arange(chunks * CHUNK, vocab).repeat(beams).expand(batch, -1)
        of_beams = torch.arange(beams).repeat_interleave(left).expand(batch, -1)
        parents, tokens = torch.cat((parents, of_beams), dim=1), torch.cat((tokens, rest), dim=1)
    return parents, tokens


def _banned_by(processor: Any) -> Callable[[int], Any] | None:
    """For a processor that only bans single tokens: a function from length to those tokens; None for others."""
    kind = type(processor)
    if kind is SuppressTokensLogitsProcessor:
        return lambda length: processor.suppress_tokens
    if kind is SuppressTokensAtBeginLogitsProcessor:
        return lambda length: processor.begin_suppress_tokens if length == processor.begin_index else None
    if kind is MinLengthLogitsProcessor:
        return lambda length: processor.eos_token_id if length < processor.min_length else None
    if kind is MinNewTokensLengthLogitsProcessor:
        least = processor.prompt_length_to_skip + processor.min_new_tokens
        return lambda length: processor.eos_token_id if length < least else None
    if kind is NoBadWordsLogitsProcessor and all(len(words) == 1 for words in processor.sequence_bias):
        words = torch.tensor([token for (token,) in processor.sequence_bias], dtype=torch.long)
        return lambda length: words
    return None


@dataclass
class Allowed:
    """Constraints on the next tokens.

    Attributes:
        tokens: the required token of each row, -100 where the row is free; (rows,), or None.
        ends: rows that must end here; (rows,), or None.
        eos: ids that such rows choose from; (any,).
    """

    tokens: torch.Tensor | None
    ends: torch.Tensor | None
    eos: torch.Tensor

    def for_beams(self, beams: int) -> "Allowed":
        """The same constraints repeated for each beam of a sentence."""
        tokens, ends = (None if rows is None else rows.repeat_interleave(beams) for rows in (self.tokens, self.ends))
        return Allowed(tokens, ends, self.eos)


def allow_only(scores: torch.Tensor, allowed: Allowed | None) -> torch.Tensor:
    """`scores` (rows, vocab) with -inf for all tokens that are not allowed; a forced end has log-probability 0."""
    if allowed is None:
        return scores
    if allowed.tokens is not None:
        prescribed = allowed.tokens >= 0
        wanted = scores.gather(1, allowed.tokens.clamp(min=0)[:, None])[:, 0]
        if (prescribed & (wanted == HIDDEN)).any():
            raise ValueError("`target_prefix` requires a token that other settings of this call forbid. Change one.")
        others = torch.arange(scores.shape[1], device=scores.device) != allowed.tokens[:, None]
        scores = scores.masked_fill(others & (allowed.tokens >= 0)[:, None], HIDDEN)
    if allowed.ends is not None:
        certain = torch.full_like(scores, HIDDEN).index_fill_(1, allowed.eos, 0.0)
        scores = torch.where(allowed.ends[:, None], certain, scores)
    return scores


_CALLS = {kind: kind.__call__ for kind in (*_MASKING, *_FORCING, LogitNormalization)}


def _kind(processor: Any) -> type | None:
    """The class of a processor if it is one of `transformers`, unmodified; else None."""
    kind = type(processor)
    return kind if _CALLS.get(kind) is kind.__call__ else None


__all__ = ["Allowed", "Continuations", "NextTokens", "allow_only"]
