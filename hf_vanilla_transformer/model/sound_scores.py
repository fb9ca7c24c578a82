"""Which scores are none: what is no number, and what means that there is no such hypothesis.

Tokens at minus infinity are usual, where settings forbid them; a whole hypothesis is judged here.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from transformers.generation import LogitsProcessor

NEVER = -1.0e9
"""What beam search scores a hypothesis with that there is none of."""
LEAST = -1.0e8
"""No sum of log-probabilities is below; one that holds `NEVER` is."""
HALF = ("float16", "bfloat16", "bf16", "int8")


class NoScoreError(ValueError):
    """A sentence has no hypothesis with a score."""


def is_score(score: float, normaliser: float = 1.0) -> bool:
    """Whether a score can be one of a hypothesis.

    Args:
        score: a sum of log-probabilities, divided by
        normaliser: of as many tokens.
    """
    return math.isfinite(score) and score != NEVER and score * normaliser > LEAST


def no_translation(place: str, score: float, computed_in: Any) -> NoScoreError:
    """The error of a sentence none of whose hypotheses has a score.

    Args:
        place: names the sentence.
        score: of the best.
        computed_in: the precision, by torch's name or a snapshot's.
    """
    return NoScoreError(
        f"The model has no translation for {place}: every hypothesis has a score of {score}, which is none."
        f"{half_precision_hint(computed_in)} Check its weights with `doctor`, and that the settings do not forbid all "
        "tokens."
    )


def half_precision_hint(computed_in: Any) -> str:
    """What to try first where 16 bits or fewer were computed in, for the middle of a message."""
    name = str(computed_in).removeprefix("torch.")
    return f" {name} overflows where float32 need not: try float32." if name in HALF else ""


def first_unsound(scores: torch.Tensor) -> int | None:
    """The first sentence whose best score is none; asked once a call, since a device is waited for.

    Args:
        scores: (sentences,), or log-probabilities of tokens, (sentences, tokens); of these minus infinity may be.
    """
    unsound = scores.isnan().any(1) if scores.dim() == 2 else scores.isnan() | (scores == NEVER)
    rows = unsound.nonzero()
    return int(rows[0, 0]) if len(rows) else None


class NumbersWatch(LogitsProcessor):
    """Changes nothing: remembers rows whose best next token has no finite score.

    For where `transformers` decodes and is not asked for scores; `rows` is read when all is decoded.
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
            ValueError: as `no_translation`.
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
