"""The likeliest next tokens of a search's beams, under any logits processors.

They are taken from the logits, and one log-sum-exp a row turns theirs, and only theirs, into log-probabilities;
where a logits processor needs all log-probabilities, that step pays for them.

Shapes use: batch (sentences), beams, candidates, length (of targets so far), vocab.
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
"""Logits compared by their chunks' maxima first."""
EXPONENTS = 60.0
"""Logits whose exponentials can be added up in float32 as they are, if each row's largest is no further from 0."""
ROWS_AT_ONCE = 128
"""Rows of logits made and searched at a time on a processor: as many as its cache holds."""


@dataclass
class Continuations:
    """One more token for the running hypotheses, best first; (batch, candidates) each.

    Attributes:
        scores: running log-probabilities.
        parents: the beam that each continues.
        tokens: the token it adds.
        log_probabilities: of that token.
    """

    scores: torch.Tensor
    parents: torch.Tensor
    tokens: torch.Tensor
    log_probabilities: torch.Tensor

    def pick(self, places: torch.Tensor) -> "Continuations":
        """Of each sentence those at `places`, (batch, fewer)."""
        return Continuations(*(value.gather(1, places) for value in vars(self).values()))

    @staticmethod
    def of_all(parts: "list[Continuations]") -> "Continuations":
        """Those of several batches, one after the other."""
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
    """The likeliest next tokens of each row, under any logits processors.

    Those of `_MASKING` add to logits, whatever these are relative to; `LogitNormalization` means the log-sum-exp after
    them. Those of `_FORCING` act at one length each, the first or what they call the last. Any other, or one whose
    class has another `__call__` than `transformers` gave it, is given log-probabilities at every step, as in
    `transformers`, and keeps finished sentences in the batch, since it may know rows by their place.
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
        # single tokens are forbidden in place: these processors would copy all logits for each
        self.bans = [banned for processor in masking if (banned := _banned_by(processor)) is not None]
        self.known: dict[int, torch.Tensor] = {}  # what each ban forbids
        self.masking = [processor for processor in masking if _banned_by(processor) is None]
        self.bad_words = [each for each in masking if _kind(each) is NoBadWordsLogitsProcessor and each.sequence_bias]
        self.forced_lengths = {
            1 if type(processor) is ForcedBOSTokenLogitsProcessor else processor.max_length - 1
            for processor in processors
            if _kind(processor) in _FORCING
        }
        self.scratch = torch.empty(0)

    def blocks(self, batch: int, beams: int, device: torch.device) -> Iterator[slice]:
        """The sentences whose logits are made and searched at once: even parts that a processor's cache holds."""
        whole = self.needs_log_probabilities or on_accelerator(device)  # those processors may know rows by their place
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
        """The `count` likeliest continuations of each sentence.

        Args:
            logits: (batch * beams, vocab); may be changed.
            running: log-probabilities of the beams so far, (batch, beams).
            count: at most beams times the vocabulary's size.
            ids: the targets so far, (batch * beams, length).
            allowed: what each row may go on with, if not all are free.
        """
        length = ids.shape[1]
        for processor in self.bad_words:
            if max(max(words) for words in processor.sequence_bias) >= logits.shape[1]:
                processor(ids, logits)  # says what is wrong with them
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
        """The single tokens that are forbidden after so many."""
        for number, ban in enumerate(self.bans):
            if number not in self.known and (tokens := ban(length)) is not None:
                known = tokens[(tokens >= 0) & (tokens < logits.shape[1])]  # others are no tokens, and forbid nothing
                self.known[number] = known.to(logits.device)
        return [self.known[number] for number, ban in enumerate(self.bans) if ban(length) is not None]

    def _log_sum_exp(self, logits: torch.Tensor, maxima: torch.Tensor | None) -> torch.Tensor:
        """As `logits.logsumexp(-1, keepdim=True)`, in memory kept from step to step; `maxima`: of their chunks."""
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
    """Of each `CHUNK` of a row, the last one shorter, (rows, chunks); None on accelerators, faster with whole rows."""
    if on_accelerator(values.device):
        return None
    vocab = values.shape[1]
    whole = vocab // CHUNK * CHUNK
    maxima = values[:, :whole].unflatten(1, (whole // CHUNK, CHUNK)).amax(2)
    return maxima if whole == vocab else torch.cat((maxima, values[:, whole:].amax(1, keepdim=True)), dim=1)


def likeliest(
    values: torch.Tensor, maxima: torch.Tensor | None, total: torch.Tensor, running: torch.Tensor, count: int
) -> Continuations:
    """The best of all beams' next tokens, by `running` + `values` - `total`.

    Args:
        values: (batch * beams, vocab).
        maxima: their `chunk_maxima`, or None to search whole rows.
        total: (batch * beams, 1).
        running: (batch, beams).
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
    """Beams and tokens, (batch, any) each, that hold the best `count`; arguments as of `likeliest`, by beams."""
    batch, beams = running.shape
    vocab = values.shape[1]
    device = values.device
    chunks = vocab // CHUNK
    if maxima is None or chunks < count:
        tokens = values.topk(min(count, vocab)).indices  # (batch * beams, any)
        parents = torch.arange(beams, device=device).repeat_interleave(tokens.shape[1])
        return parents.expand(batch, -1), tokens.view(batch, -1)
    # the best `count` tokens are in the best `count` chunks, or in what the whole chunks leave over
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
    """Of a processor that only forbids single tokens: those it forbids after so many tokens; of others None."""
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
    """What rows may go on with, where not everything.

    Attributes:
        tokens: the one token of each row, -100 where it is free; (rows,), or None.
        ends: rows that must end here; (rows,), or None.
        eos: ids that these choose from; (any,).
    """

    tokens: torch.Tensor | None
    ends: torch.Tensor | None
    eos: torch.Tensor

    def for_beams(self, beams: int) -> "Allowed":
        """The same for each beam of a sentence."""
        tokens, ends = (None if rows is None else rows.repeat_interleave(beams) for rows in (self.tokens, self.ends))
        return Allowed(tokens, ends, self.eos)


def allow_only(scores: torch.Tensor, allowed: Allowed | None) -> torch.Tensor:
    """`scores` (rows, vocab), -inf for all tokens but those allowed; an end that is forced is certain, 0."""
    if allowed is None:
        return scores
    if allowed.tokens is not None:
        prescribed = allowed.tokens >= 0
        wanted = scores.gather(1, allowed.tokens.clamp(min=0)[:, None])[:, 0]
        if (prescribed & (wanted == HIDDEN)).any():
            raise ValueError("`target_prefix` prescribes a token that other settings of this call forbid. Change one.")
        others = torch.arange(scores.shape[1], device=scores.device) != allowed.tokens[:, None]
        scores = scores.masked_fill(others & (allowed.tokens >= 0)[:, None], HIDDEN)
    if allowed.ends is not None:
        certain = torch.full_like(scores, HIDDEN).index_fill_(1, allowed.eos, 0.0)
        scores = torch.where(allowed.ends[:, None], certain, scores)
    return scores


_CALLS = {kind: kind.__call__ for kind in (*_MASKING, *_FORCING, LogitNormalization)}


def _kind(processor: Any) -> type | None:
    """The class of a processor that is known to the letter, else None."""
    kind = type(processor)
    return kind if _CALLS.get(kind) is kind.__call__ else None


__all__ = ["Allowed", "Continuations", "NextTokens", "allow_only"]
