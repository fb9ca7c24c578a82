"""How to search, settled, and what both searches share: which tokens are allowed, and who leaves the batch.

Shapes use: batch (sentences that are not finished), beams, length (of targets so far), vocab.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from .next_tokens import Allowed

SIZES_OF_AN_OCTAVE = 8
"""Sizes of a batch between a power of two and the next."""


@dataclass
class SearchSettings:
    """What one search of one batch reads: a settled call (`CallSettings`), and the call's criteria as numbers.

    Attributes:
        num_beams: at least 1.
        num_return_sequences: at most `num_beams`.
        max_length: of targets, prompt included.
        limits: most tokens of each sentence's target, prompt included; (sentences,), or None.
        eos: ids that end a sentence; (any,).
        ends_foreseen: how many of them candidates are kept for, beside those that go on.
        forced_eos: ids that a target is made to end with at its own limit; (any,), empty for none.
        fill: id after the end.
        early_stopping: as in `transformers`.
        normaliser: new tokens of a hypothesis, its end included, to what its log-probability is divided by.
        coverage_penalty: beta of equation 14; 0 is none.
        deadline: `time.time()` at which to stop.
        prefix: tokens that each target must begin with, after the prompt; (sentences, any), -100 where it is free.
        keep_scores: collect the log-probabilities of all tokens at each step; no sentence leaves the batch then.
    """

    num_beams: int
    num_return_sequences: int
    max_length: int
    limits: torch.Tensor | None
    eos: torch.Tensor
    ends_foreseen: int
    forced_eos: torch.Tensor
    fill: int
    early_stopping: bool | str = False
    normaliser: Callable[[int], float] = float
    coverage_penalty: float = 0.0
    deadline: float | None = None
    prefix: torch.Tensor | None = None
    keep_scores: bool = False


@dataclass
class SearchResult:
    """What a search found.

    Attributes:
        sequences: (sentences * returned, length), prompt included, best first.
        scores: normalised, (sentences * returned,).
        token_log_probabilities: of each new token, 0 after the end; (sentences * returned, new tokens).
        beam_indices: row of the batch that each new token came from, -1 after the end; like the former.
        step_scores: of each step (sentences * beams, vocab), if kept.
    """

    sequences: torch.Tensor
    scores: torch.Tensor
    token_log_probabilities: torch.Tensor
    beam_indices: torch.Tensor
    step_scores: list[torch.Tensor] = field(default_factory=list)


def allowed_tokens(settings: SearchSettings, alive: torch.Tensor, length: int, prompt_len: int) -> "Allowed | None":
    """What the sentences of the batch may go on with at this length, or None where all are free."""
    new, tokens, ends = length - prompt_len, None, None
    if settings.prefix is not None and new < settings.prefix.shape[1]:
        tokens = settings.prefix[alive, new]
    if settings.limits is not None and settings.forced_eos.numel():
        ends = settings.limits[alive] == length + 1
    return None if tokens is None and ends is None else Allowed(tokens, ends, settings.forced_eos)


def who_stays(done: torch.Tensor, going: int) -> torch.Tensor | None:
    """The rows that go on if those that are done leave, or None if all do.

    Each stays in its place, but for the last, which take the places of others. Some that are done stay so that batches
    are of few sizes: a matrix product of a new size has a kernel made for it, which can take longer than the product.

    Args:
        done: of each row, (batch,).
        going: how many rows are not done.

    Returns:
        (fewer,).
    """
    step = max(1, 2 ** (going.bit_length() - SIZES_OF_AN_OCTAVE.bit_length()))
    staying = -(-going // step) * step
    if staying >= len(done):
        return None
    rows = torch.arange(staying, device=done.device)
    movers = (~done[staying:]).nonzero()[:, 0] + staying
    rows[done[:staying].nonzero()[: len(movers), 0]] = movers
    return rows


def is_late(settings: SearchSettings) -> bool:
    """Whether the search's time is up."""
    return settings.deadline is not None and time.time() > settings.deadline


__all__ = ["SearchResult", "SearchSettings", "allowed_tokens", "is_late", "who_stays"]
