"""Beam search (section 6.1) on any `Decoder`, with the same results as beam search in `transformers`.

It is fast for three reasons: the decoder works in steps, next tokens are chosen from the logits, and sentences leave
the batch as soon as they are finished.

Besides the length penalty of `transformers` (log-probability / length ** alpha), it supports the two penalties of Wu
et al. 2016 (arXiv:1609.08144, equation 14): the length penalty ((5 + length) / 6) ** alpha, which the paper uses, and
the coverage of the source by attention.

Shapes use: batch (unfinished sentences), beams, candidates, length (of the targets so far), vocab.
"""

from dataclasses import dataclass
from typing import Any

import torch

from .next_tokens import Continuations, NextTokens
from .search_settings import SearchResult, SearchSettings, allowed_tokens, is_late, who_stays
from .sound_scores import NEVER
from .step_decoder import Decoder


@dataclass
class _Hypotheses:
    """Hypotheses of each sentence, either running or finished; all of one shape, so that they can be sorted.

    Attributes:
        scores: running log-probabilities, or final scores; (batch, any).
        tokens: (batch, any, max_length), prompt included.
        log_probabilities: of each new token; (batch, any, max_length - prompt).
        beams: the row that each new token came from; (batch, any, max_length - prompt).
        ended: (batch, any).
        coverage: attention of all tokens so far to the source, (batch, any, source_len); of width 0 if not asked for.
    """

    scores: torch.Tensor
    tokens: torch.Tensor
    log_probabilities: torch.Tensor
    beams: torch.Tensor
    ended: torch.Tensor
    coverage: torch.Tensor

    def pick(self, places: torch.Tensor) -> "_Hypotheses":
        """The hypotheses of each sentence at `places`, (batch, fewer)."""

        def gather(values: torch.Tensor) -> torch.Tensor:
            index = places.view(*places.shape, *[1] * (values.dim() - 2)).expand(-1, -1, *values.shape[2:])
            return values.gather(1, index)

        return _Hypotheses(*(gather(value) for value in vars(self).values()))

    def of(self, sentences: torch.Tensor) -> "_Hypotheses":
        """The hypotheses of some of the sentences."""
        return _Hypotheses(*(value.index_select(0, sentences) for value in vars(self).values()))

    def merged(self, other: "_Hypotheses") -> "_Hypotheses":
        """These hypotheses followed by the others."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Hypotheses(*(torch.cat(pair, dim=1) for pair in pairs))

    def widened(self, width: int, fill: int) -> "_Hypotheses":
        """The same hypotheses with room for `width` more tokens."""
        pad = torch.nn.functional.pad
        return _Hypotheses(
            self.scores,
            pad(self.tokens, (0, width), value=fill),
            pad(self.log_probabilities, (0, width)),
            pad(self.beams, (0, width), value=-1),
            self.ended,
            self.coverage,
        )


ROOM = 32
"""Number of tokens by which hypotheses are widened when they are full."""


class BeamSearch:
    """One search: `BeamSearch(...).run()`.

    Args:
        decoder: with `settings.num_beams` beams.
        prompt: first tokens of the targets, (sentences, prompt_len).
        processors: a `LogitsProcessorList`.
        settings: how to search.
    """

    def __init__(self, decoder: Decoder, prompt: torch.Tensor, processors: Any, settings: SearchSettings) -> None:
        self.decoder, self.prompt, self.settings = decoder, prompt, settings
        self.sentences, self.prompt_len = prompt.shape
        self.next_tokens = NextTokens(processors, settings.keep_scores)
        self.alive = torch.arange(self.sentences, device=prompt.device)  # the sentence in each row of the batch
        self.done = torch.zeros_like(self.alive, dtype=torch.bool)
        self.running = self._new_hypotheses(0.0)
        self.running.scores[:, 1:] = NEVER  # at first all beams of a sentence are the same
        self.finished = self._new_hypotheses(NEVER)
        self.result: _Hypotheses | None = None

    def _new_hypotheses(self, score: float) -> _Hypotheses:
        shape, device = (self.sentences, self.settings.num_beams), self.prompt.device
        new = (*shape, ROOM)
        tokens = torch.full((*shape, self.prompt_len + ROOM), self.settings.fill, device=device)
        tokens[:, :, : self.prompt_len] = self.prompt[:, None]
        return _Hypotheses(
            torch.full(shape, score, dtype=torch.float32, device=device),
            tokens,
            torch.zeros(new, dtype=torch.float32, device=device),
            torch.full(new, -1, dtype=torch.long, device=device),
            torch.zeros(shape, dtype=torch.bool, device=device),
            torch.zeros((*shape, 0), dtype=torch.float32, device=device),
        )

    def run(self) -> SearchResult:
        """Search until all sentences are finished."""
        length = self.prompt_len
        self.decoder.read_prompt(self.prompt)
        while True:
            if length == self.running.tokens.shape[2]:
                self._widen()
            if self.settings.coverage_penalty:
                self._cover()
            tops = self._extend(length)
            ends = self._ends(tops.tokens, length + 1)  # (batch, candidates)
            self._collect(tops, ends, length)
            parents = self._go_on(tops, ends, length)
            length += 1
            self._mark_done(ends, length)
            going = int((~self.done).sum())  # read once: this waits for the accelerator
            if not going:
                break
            self.decoder.select(self._leave(parents, going))
            self.decoder.step(self.running.tokens[:, :, length - 1])
        self._store()
        assert self.result is not None
        return self._cut(self.result)

    def _widen(self) -> None:
        fill = self.settings.fill
        self.running, self.finished = self.running.widened(ROOM, fill), self.finished.widened(ROOM, fill)
        self.result = None if self.result is None else self.result.widened(ROOM, fill)

    def _cover(self) -> None:
        """Add the attention that the last token of each running hypothesis paid to the source."""
        paid = self.decoder.attention()
        if not self.running.coverage.shape[2]:
            width = (*self.running.scores.shape, paid.shape[2])
            self.running.coverage, self.finished.coverage = (paid.new_zeros(width) for _ in range(2))
        self.running.coverage = self.running.coverage + paid

    def _extend(self, length: int) -> Continuations:
        """The best continuations of each sentence, at least twice as many as beams, since some of them end.

        Args:
            length: tokens of the targets so far.
        """
        batch, beams = self.running.scores.shape
        blocks = self.next_tokens.blocks(batch, beams, self.prompt.device)
        return Continuations.of_all([self._extend_some(some, length) for some in blocks])

    def _extend_some(self, some: slice, length: int) -> Continuations:
        """The best continuations of some sentences of the batch."""
        beams, running = self.settings.num_beams, self.running.scores[some]
        logits = self.decoder.logits(some)
        if len(logits) < running.numel():  # after the prompt all beams are the same
            logits = logits.repeat_interleave(beams, dim=0)
        allowed = allowed_tokens(self.settings, self.alive[some], length, self.prompt_len)
        return self.next_tokens.best(
            logits,
            running,
            max(2, 1 + self.settings.ends_foreseen) * beams,
            self.running.tokens[some, :, :length].flatten(0, 1),
            None if allowed is None else allowed.for_beams(beams),
        )

    def _continued(self, tops: Continuations, places: torch.Tensor, length: int) -> _Hypotheses:
        """The hypotheses that result from some of the continuations, (batch, fewer)."""
        chosen = tops.pick(places)
        longer = self.running.pick(chosen.parents)
        new = length - self.prompt_len
        longer.scores = chosen.scores
        longer.tokens[:, :, length] = chosen.tokens
        longer.log_probabilities[:, :, new] = chosen.log_probabilities
        longer.beams[:, :, new] = chosen.parents + self.alive[:, None] * self.settings.num_beams
        return longer

    def _ends(self, tokens: torch.Tensor, length: int) -> torch.Tensor:
        """Which candidates of this length end here; (batch, candidates)."""
        if length >= self.settings.max_length or is_late(self.settings):
            return torch.ones_like(tokens, dtype=torch.bool)
        ends = torch.isin(tokens, self.settings.eos)
        if self.settings.limits is not None:
            ends = ends | (length >= self.settings.limits[self.alive])[:, None]
        return ends

    def _collect(self, tops: Continuations, ends: torch.Tensor, length: int) -> None:
        """Keep the best finished hypotheses; only the first `num_beams` candidates can finish."""
        beams = self.settings.num_beams
        just_ended = ends[:, :beams]
        if not just_ended.any():
            return
        first = torch.arange(beams, device=ends.device).expand(len(ends), -1)
        ended = self._continued(tops, first, length)
        ended.scores = ended.scores / self.settings.normaliser(length + 1 - self.prompt_len)
        if self.settings.coverage_penalty:
            ended.scores = ended.scores + self.settings.coverage_penalty * covered(ended.coverage)
        full = self.finished.ended.all(1, keepdim=True) & (self.settings.early_stopping is True)
        for excluded in (full, self.done[:, None], ~just_ended):
            ended.scores = ended.scores + excluded * NEVER
        ended.ended = just_ended
        merged = self.finished.merged(ended)
        self.finished = merged.pick(merged.scores.topk(beams).indices)

    def _go_on(self, tops: Continuations, ends: torch.Tensor, length: int) -> torch.Tensor:
        """Make the best unfinished candidates the next beams, and return the beams they come from, (batch, beams)."""
        tops.scores = tops.scores + ends * NEVER
        places = tops.scores.topk(self.settings.num_beams).indices
        self.running = self._continued(tops, places, length)
        return tops.parents.gather(1, places)

    def _mark_done(self, ends: torch.Tensor, length: int) -> None:
        """Mark sentences that cannot improve, whose beams are all finished, or that have no candidates left."""
        settings = self.settings
        best_possible = self.running.scores[:, :1] / self._best_normaliser(length)
        worst = torch.where(self.finished.ended, self.finished.scores.amin(1, keepdim=True), NEVER)
        hopeless = (best_possible <= worst).all(1)  # with NaN a sentence runs to its limit, where it is refused
        full = self.finished.ended.all(1) & (settings.early_stopping is True)
        self.done = self.done | hopeless | full | ends.all(1)

    def _best_normaliser(self, length: int) -> float | torch.Tensor:
        """The divisor that gives the best score still possible, by each sentence's own length limit."""
        settings = self.settings
        if settings.early_stopping != "never" or settings.normaliser(2) <= settings.normaliser(1):
            return settings.normaliser(length - self.prompt_len)
        if settings.limits is None:
            return settings.normaliser(settings.max_length - self.prompt_len)
        limits = settings.limits[self.alive].clamp(max=settings.max_length).tolist()
        normalisers = [settings.normaliser(limit - self.prompt_len) for limit in limits]
        return self.running.scores.new_tensor(normalisers)[:, None]

    def _leave(self, parents: torch.Tensor, going: int) -> torch.Tensor:
        """Drop finished sentences from the batch, of which `going` are unfinished; return the others' parents."""
        stay = who_stays(self.done, going) if self.next_tokens.rows_may_leave else None
        if stay is None:
            return parents
        self._store()
        self.running, self.finished = self.running.of(stay), self.finished.of(stay)
        self.alive, self.done = self.alive[stay], self.done[stay]
        self.decoder.keep(stay)
        return parents.index_select(0, stay)

    def _store(self) -> None:
        """Write finished hypotheses to their sentences' rows in the result."""
        if self.result is None:
            self.result = self.finished
            return
        for name, whole in vars(self.result).items():
            if name != "coverage":  # already part of the score
                whole[self.alive] = getattr(self.finished, name)

    def _cut(self, found: _Hypotheses) -> SearchResult:
        returned = self.settings.num_return_sequences
        found = _Hypotheses(*(value[:, :returned].flatten(0, 1) for value in vars(found).values()))
        new = int((found.beams >= 0).sum(1).max())
        return SearchResult(
            found.tokens[:, : self.prompt_len + new],
            found.scores,
            found.log_probabilities[:, :new],
            found.beams[:, :new],
            self.next_tokens.step_scores,
        )


def covered(coverage: torch.Tensor) -> torch.Tensor:
    """Sum of log(min(attention so far, 1)) over the source tokens, equation 14; (batch, any)."""
    return coverage.clamp(max=1.0).log().sum(-1)


__all__ = ["BeamSearch"]
