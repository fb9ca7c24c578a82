"""Which scores are valid: not NaN, and not the mark of a hypothesis that does not exist.

Single tokens may be at minus infinity, if settings forbid them; this module judges whole hypotheses.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from transformers.generation import LogitsProcessor

NEVER = -1.0e9
"""The score that beam search gives to a hypothesis that does not exist."""
LEAST = -1.0e8
"""Below any real sum of log-probabilities; a sum that includes `NEVER` is lower."""
HALF = ("float16", "bfloat16", "bf16", "int8")


class NoScoreError(ValueError):
    """A sentence has no hypothesis with a valid score."""


def is_score(score: float, normaliser: float = 1.0) -> bool:
    """Whether a score can be that of a real hypothesis.

    Args:
        score: a sum of log-probabilities, divided by `normaliser`.
        normaliser: the divisor for the hypothesis' length.
    """
    return math.isfinite(score) and score != NEVER and score * normaliser > LEAST


def no_translation(place: str, score: float, computed_in: Any) -> NoScoreError:
    """The error for a sentence without a hypothesis that has a valid score.

    Args:
        place: names the sentence in the message.
        score: score of the best hypothesis.
        computed_in: the precision, as named by torch or a snapshot.
    """
    return NoScoreError(
        f"The model has no translation for {place}: every hypothesis has a score of {score}, which is not valid."
        f"{half_precision_hint(computed_in)} Check its weights with `doctor`, and that the settings do not forbid all "
        "tokens."
    )


def half_precision_hint(computed_in: Any) -> str:
    """A hint for messages: try float32, if the computation used 16 bits or fewer."""
    name = str(computed_in).removeprefix("torch.")
    return f" {name} can overflow where float32 does not: try float32." if name in HALF else ""


def first_unsound(scores: torch.Tensor) -> int | None:
    """The first sentence whose best score is not valid; called once per call, since it waits for the device.

    Args:
        scores: (sentences,), or log-probabilities of tokens, (sentences, tokens), which may be minus infinity.
    """
    unsound = scores.isnan().any(1) if scores.dim() == 2 else scores.isnan() | (scores == NEVER)
    rows = unsound.nonzero()
    return int(rows[0, 0]) if len(rows) else None


class NumbersWatch(LogitsProcessor):
    """Changes nothing: records rows whose best next token has no finite score.

    Used if `transformers` decodes and is not asked for scores; `rows` is read after decoding.
    """

    def __init__(self) -> None:
        self.rows: torch.Tensor | None = None  # (rows,), on the device

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        unsound = ~scores.amax(-1).isfinite()
        self.rows = unsound if self.rows is None else self.rows | unsound
        return scores

    def require(self, sentences: int, place: Callable[[int], str], computed_in: Any) -> None:
        """Refuse the first sentence that has such a row.

        Raises:
            NoScoreError: there is one.
        """
        rows = [] if self.rows is None else self.rows.view(sentences, -1).any(1).nonzero().flatten().tolist()
        if rows:
            raise no_translation(place(rows[0]), math.nan, computed_in)


__all__ = [
    "NEVER",
    "NoScoreError",
    "NumbersWatch",
    "first_unsound",
    "half_precision_hint",
    "is_score",
    "no_translation",
]
