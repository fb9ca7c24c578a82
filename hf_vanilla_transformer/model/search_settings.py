"""The settings of a search, and what both searches share: which tokens are allowed, and which rows leave the batch.

Shapes use: batch (unfinished sentences), beams, length (of the targets so far), vocab.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from .next_tokens import Allowed

SIZES_OF_AN_OCTAVE = 8
"""Number of batch sizes used between two successive powers of two."""


@dataclass
class SearchSettings:
    """The settings of the search of one batch: a settled call (`CallSettings`), and its stopping criteria as numbers.

    Attributes:
        num_beams: at least 1.
        num_return_sequences: at most `num_beams`.
        max_length: maximum length of targets, prompt included.
        limits: maximum length of each target, prompt included; (sentences,), or None.
        eos: ids that end a sentence; (any,).
        ends_foreseen: number of end ids; so many more candidates per beam are kept.
        forced_eos: ids that a target is forced to end with at its own limit; (any,), empty for none.
        fill: id that fills targets after their end.
        early_stopping: as in `transformers`.
        normaliser: maps the number of new tokens, end of sentence included, to the divisor of the log-probability.
        coverage_penalty: beta of equation 14; 0 for none.
        deadline: `time.time()` at which to stop.
        prefix: tokens that each target must begin with, after the prompt; (sentences, any), -100 where it is free.
        keep_scores: collect the log-probabilities of all tokens at each step; then no sentence leaves the batch.
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
    """The result of a beam search.

    Attributes:
        sequences: (sentences * returned, length), prompt included, best first.
        scores: normalised scores, (sentences * returned,).
        token_log_probabilities: of each new token, 0 after the end; (sentences * returned, new tokens).
        beam_indices: row that each new token came from, -1 after the end; (sentences * returned, new tokens).
        step_scores: scores of each step, (sentences * beams, vocab), if kept.
    """

    sequences: torch.Tensor
    scores: torch.Tensor
    token_log_probabilities: torch.Tensor
    beam_indices: torch.Tensor
    step_scores: list[torch.Tensor] = field(default_factory=list)


def allowed_tokens(settings: SearchSettings, alive: torch.Tensor, length: int, prompt_len: int) -> "Allowed | None":
    """Constraints on the next tokens of the batch at this length, or None if there are none."""
    new, tokens, ends = length - prompt_len, None, None
    if settings.prefix is not None and new < settings.prefix.shape[1]:
        tokens = settings.prefix[alive, new]
    if settings.limits is not None and settings.forced_eos.numel():
        ends = settings.limits[alive] == length + 1
    return None if tokens is None and ends is None else Allowed(tokens, ends, settings.forced_eos)


def who_stays(done: torch.Tensor, going: int) -> torch.Tensor | None:
    """The rows to keep when finished ones leave the batch, or None to keep all.

    Rows keep their places, except the last ones, which move to the freed places. Some finished rows are kept to limit
    the number of batch sizes: for each new size a kernel is generated, which can take longer than the product itself.

    Args:
        done: whether each row is finished, (batch,).
        going: number of unfinished rows.

    Returns:
        Indices of rows, (fewer,).
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
