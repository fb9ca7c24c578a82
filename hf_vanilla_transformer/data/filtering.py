"""Filters that drop pairs unfit for training; every dropped pair is counted under one reason.

The reasons are those of common cleaning scripts: empty, too long, length ratio, duplicate, not translated. Left out:
language identification and scoring, which need models of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from .encoding import sequence_lengths

if TYPE_CHECKING:
    from datasets import Dataset

REASONS = ("empty", "too_long", "length_ratio", "duplicate", "identical")  # a pair counts under the first that holds
TEXT_ROWS = 10_000


@dataclass(frozen=True)
class FilterSettings:
    """The settings of all filters.

    Args:
        drop_empty: drop pairs with a side that is empty or only white space.
        max_tokens: drop pairs with more tokens than this on a side, EOS included; `None` is off.
        max_length_ratio: drop pairs whose longer side has more than this many times the tokens of the shorter one,
            EOS included; at least 1; `None` is off.
        drop_duplicates: drop every pair that repeats an earlier one on both sides.
        drop_identical: drop pairs whose target equals their source.

    Raises:
        ValueError: `max_tokens` or `max_length_ratio` is below 1.
    """

    drop_empty: bool = True
    max_tokens: int | None = None
    max_length_ratio: float | None = None
    drop_duplicates: bool = False
    drop_identical: bool = False

    def __post_init__(self) -> None:
        for name in ("max_tokens", "max_length_ratio"):
            value = getattr(self, name)
            if value is not None and not value >= 1:
                raise ValueError(f"{name} must be at least 1, or None to switch the filter off, but it is {value!r}.")

    def active_reasons(self) -> dict[str, str]:
        """The active reasons in the order in which they are checked, with their wording in the table."""
        wording = {
            "empty": "a side is empty" if self.drop_empty else None,
            "too_long": f"a side over {self.max_tokens:,} tokens" if self.max_tokens is not None else None,
            "length_ratio": f"length ratio over {self.max_length_ratio:g}"
            if self.max_length_ratio is not None
            else None,
            "duplicate": "duplicate of an earlier pair" if self.drop_duplicates else None,
            "identical": "both sides identical" if self.drop_identical else None,
        }
        return {reason: words for reason in REASONS if (words := wording[reason])}


@dataclass(frozen=True)
class FilterReport:
    """The numbers of pairs read, dropped for each reason, and kept.

    Args:
        total: pairs before filtering.
        dropped: dropped pairs by reason (see `REASONS`), each under the first reason that holds; inactive reasons are
            absent.
        settings: the filters that were applied.
        pool_size: for a stream, the number of pairs searched together for duplicates; `None` means all pairs.
    """

    total: int
    dropped: dict[str, int] = field(default_factory=dict)
    settings: FilterSettings = field(default_factory=FilterSettings)
    pool_size: int | None = None

    @property
    def kept(self) -> int:
        """Pairs after filtering."""
        return self.total - sum(self.dropped.values())

    def table(self) -> str:
        """A table with a line for the pairs read, one per active filter, and one for the pairs kept, with shares."""
        dropped = [(f"- {words}", self.dropped[reason]) for reason, words in self._wording().items()]
        rows = [("pairs read", self.total), *dropped, ("pairs kept", self.kept)]
        wide = max(len(label) for label, _ in rows)
        digits = len(f"{self.total:,}")
        shares = (100 * count / max(self.total, 1) for _, count in rows)
        return "\n".join(
            f"{label:<{wide}}  {count:>{digits},}  {share:6.2f} %"
            for (label, count), share in zip(rows, shares, strict=True)
        )

    def as_record(self) -> dict[str, int | dict[str, int]]:
        """The same counts for JSON: `pairs_read`, `left_out` by the wording of the reason, `pairs_kept`."""
        left_out = {words: self.dropped[reason] for reason, words in self._wording().items()}
        return {"pairs_read": self.total, "left_out": left_out, "pairs_kept": self.kept}

    def _wording(self) -> dict[str, str]:
        wording = self.settings.active_reasons()
        if self.pool_size is not None and "duplicate" in wording:
            wording["duplicate"] += f" of the same {self.pool_size:,}"
        return wording


def filter_pairs(corpus: Dataset, settings: FilterSettings) -> tuple[Dataset, FilterReport]:
    """Drop and count the pairs that a filter rejects.

    Args:
        corpus: string columns `source` and `target`; the filters that count tokens also need `input_ids` and `labels`.
        settings: which filters apply.

    Returns:
        The pairs kept, in their original order, and the report.

    Raises:
        ValueError: a filter counts tokens but the corpus is not encoded; or no pair is left (with the table).
    """
    kept, report = apply_filters(corpus, settings)
    require_pairs(report)
    return kept, report


def require_pairs(report: FilterReport) -> None:
    """Raise `ValueError` with the table if no pair was kept."""
    if not report.kept:
        raise ValueError(f"At least one pair must pass the filters, but none does; loosen them.\n{report.table()}")


def apply_filters(corpus: Dataset, settings: FilterSettings) -> tuple[Dataset, FilterReport]:
    """As `filter_pairs`, for a part of a corpus, of which no pair needs to be left."""
    reasons = np.full(len(corpus), -1, dtype=np.int8)  # index into REASONS, -1 for a pair that stays
    for reason, holds in _verdicts(corpus, settings).items():
        reasons[holds & (reasons < 0)] = REASONS.index(reason)
    dropped = {reason: int((reasons == REASONS.index(reason)).sum()) for reason in settings.active_reasons()}
    report = FilterReport(total=len(corpus), dropped=dropped, settings=settings)
    if report.kept == report.total:
        return corpus, report
    return corpus.select(np.flatnonzero(reasons < 0)), report


def _verdicts(corpus: Dataset, settings: FilterSettings) -> dict[str, np.ndarray]:
    """For each active reason, a mask of the pairs it rejects, shape (pairs,), in the order of `REASONS`."""
    verdicts = {}
    if settings.max_tokens is not None or settings.max_length_ratio is not None:
        verdicts.update(_length_verdicts(corpus, settings))
    if settings.drop_empty or settings.drop_duplicates or settings.drop_identical:
        verdicts.update(_text_verdicts(corpus, settings.drop_duplicates))
    return {reason: verdicts[reason] for reason in settings.active_reasons()}


def _length_verdicts(corpus: Dataset, settings: FilterSettings) -> dict[str, np.ndarray]:
    if not {"input_ids", "labels"} <= set(corpus.column_names):
        raise ValueError(
            "max_tokens and max_length_ratio count tokens, so the corpus must have the columns input_ids and labels, "
            f"but it has {', '.join(corpus.column_names)}. Call encode_corpus first."
        )
    source, target = (sequence_lengths(corpus, column) for column in ("input_ids", "labels"))
    longer, shorter = np.maximum(source, target), np.minimum(source, target)
    most = np.inf if settings.max_tokens is None else settings.max_tokens
    ratio = np.inf if settings.max_length_ratio is None else settings.max_length_ratio
    return {"too_long": longer > most, "length_ratio": longer > ratio * np.maximum(shorter, 1)}


def _text_verdicts(corpus: Dataset, find_duplicates: bool) -> dict[str, np.ndarray]:
    empty = np.zeros(len(corpus), dtype=bool)
    identical = np.zeros(len(corpus), dtype=bool)
    digests = np.zeros((len(corpus) if find_duplicates else 0, 2), dtype=np.uint64)
    row = 0
    for rows in corpus.select_columns(["source", "target"]).iter(batch_size=TEXT_ROWS):
        pairs = list(zip(rows["source"], rows["target"], strict=True))
        span = slice(row, row + len(pairs))
        empty[span] = [not source.strip() or not target.strip() for source, target in pairs]
        identical[span] = [source == target for source, target in pairs]
        if find_duplicates:
            digests[span] = np.frombuffer(b"".join(map(_digest, pairs)), dtype=np.uint64).reshape(-1, 2)
        row += len(pairs)
    verdicts = {"empty": empty, "identical": identical}
    return {**verdicts, "duplicate": _seen_before(digests)} if find_duplicates else verdicts


def _digest(pair: tuple[str, str]) -> bytes:
    """A 16-byte hash of a pair; the chance of any collision among a billion pairs is below 10^-20."""
    source, target = (side.encode() for side in pair)
    # the length distinguishes ("ab", "c") from ("a", "bc")
    return blake2b(b"%d:%b%b" % (len(source), source, target), digest_size=16).digest()


def _seen_before(digests: np.ndarray) -> np.ndarray:
    """True for each row of (pairs, 2) that equals an earlier row."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable, so equal rows keep their order
    ranked = digests[order]
    repeated = np.zeros(len(digests), dtype=bool)
    repeated[order[1:]] = (ranked[1:] == ranked[:-1]).all(axis=1)
    return repeated
