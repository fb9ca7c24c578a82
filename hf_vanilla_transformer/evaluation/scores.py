"""Score a corpus of translations: BLEU, chrF and TER by sacreBLEU, each score with its signature.

The scores come from the `evaluate` module `translation_scores.py` beside this file, loaded by its path, so that no
network is needed. Its docstring defines each score. Left out: neural metrics, which need a model of their own.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .corpus_checks import check_references, check_same_length, check_texts

logger = logging.getLogger(__name__)

METRIC_FILE = Path(__file__).with_name("translation_scores.py")
METRIC_NAMES = ("bleu", "chrf", "ter", "moses_bleu")
PERCENTILES_MARK = "|ci:percentile|"
"""Part of the signature of a score with a percentile interval."""
WRITTEN_WITHOUT_SPACES = frozenset({"bo", "ja", "km", "lo", "my", "th", "yue", "zh"})


@dataclass(frozen=True)
class MetricScore:
    """One score and what is needed to reproduce it.

    Attributes:
        name: short name: `bleu`, `chrf`, `ter` or `moses_bleu`.
        label: display name.
        value: 0 to 100; TER may exceed 100.
        signature: sacreBLEU's signature, its version included; Moses-tokenised BLEU adds sacremoses' language and
            version.
        higher_is_better: false only for TER.
        interval: bounds of the 95 % bootstrap interval, percentiles of the resampled scores (`ci:percentile` in the
            signature); `None` if not requested.
    """

    name: str
    label: str
    value: float
    signature: str
    higher_is_better: bool
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        return f"{self.label}: {self.figure()}  {self.signature}"

    def to_dict(self) -> dict[str, Any]:
        """Return the score as a dict for JSON."""
        return {**asdict(self), "interval": None if self.interval is None else list(self.interval)}

    def figure(self) -> str:
        """The value and its interval, if any, to two decimals."""
        if self.interval is None:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} [{self.interval[0]:.2f}, {self.interval[1]:.2f}]"


@dataclass(frozen=True)
class TranslationScores:
    """The scores of one corpus; `scores["bleu"].value` gives one value.

    Attributes:
        metrics: the scores, in the order BLEU, chrF, TER, Moses-tokenised BLEU.
        sentences: number of sentences.
        references_per_sentence: number of references per sentence.
        empty_hypotheses: number of translations without a visible character.
        copied_sources: number of translations equal to their source, ignoring surrounding space; `None` if no sources
            were given.
    """

    metrics: tuple[MetricScore, ...]
    sentences: int
    references_per_sentence: int
    empty_hypotheses: int
    copied_sources: int | None

    def __getitem__(self, name: str) -> MetricScore:
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(f"No metric {name!r} was computed; there are {', '.join(m.name for m in self.metrics)}.")

    def __iter__(self) -> Iterator[MetricScore]:
        return iter(self.metrics)

    def table(self) -> str:
        """Return the scores as readable text, one per line with its signature, and the counts below."""
        width = max(len(metric.label) for metric in self.metrics)
        figures = [metric.figure() for metric in self.metrics]
        wide = max(6, *map(len, figures))
        lines = [
            f"{metric.label:<{width}}  {figure:>{wide}}  {metric.signature}"
            for metric, figure in zip(self.metrics, figures, strict=True)
        ]
        counts = f"{self.sentences:,} sentences, {self.references_per_sentence} reference(s) each; "
        counts += f"{self.empty_hypotheses:,} translations empty"
        if self.copied_sources is not None:
            counts += f", {self.copied_sources:,} equal to their source"
        return "\n".join([*lines, counts])

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as plain dicts, lists, strings and numbers, for JSON."""
        return {**asdict(self), "metrics": [metric.to_dict() for metric in self.metrics]}


def load_metric() -> Any:
    """Load the `evaluate` module of this package from its file; needs no network.

    `evaluate` copies the file into its modules cache (`HF_MODULES_CACHE`); a damaged copy is replaced. Sentences are
    kept in memory, not in a cache file, so processes that score at the same time share nothing.

    Returns:
        An `evaluate.Metric`; `.compute(predictions=..., references=...)` gives a dict per metric.
    """
    import evaluate  # takes seconds

    _drop_damaged_copy()
    return evaluate.load(str(METRIC_FILE), keep_in_memory=True)


def _drop_damaged_copy() -> None:
    """Delete a damaged copy: `evaluate` does not notice that it is incomplete."""
    from evaluate.config import HF_MODULES_CACHE
    from evaluate.loading import files_to_hash
    from filelock import FileLock

    for copy in Path(HF_MODULES_CACHE).rglob(f"{files_to_hash([str(METRIC_FILE)])}/{METRIC_FILE.name}"):
        with FileLock(f"{copy.parent.parent}.lock"):  # the lock that `evaluate` uses
            if copy.read_bytes() != METRIC_FILE.read_bytes():
                logger.warning("The cached copy %s is damaged; it is made again.", copy)
                copy.unlink()


def evaluate_translations(
    hypotheses: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    sources: Sequence[str] | None = None,
    target_lang: str | None = None,
    metrics: Sequence[str] | None = None,
    tokenize: str = "13a",
    n_bootstrap: int = 0,
) -> TranslationScores:
    """Score translations against references.

    Args:
        hypotheses: one translation per sentence, plain text: detokenised, in its own case, without subword marks.
        references: one reference per sentence, or a list of references per sentence, all of the same length.
        sources: the source sentences, to count translations that merely copy them.
        target_lang: language code for the Moses tokeniser, such as "de" or "pt-BR"; `None` means English rules, and
            the signature says so.
        metrics: names out of "bleu", "chrf", "ter", "moses_bleu"; `None` means all. TER is slow on long sentences.
        tokenize: sacreBLEU's tokeniser for "bleu": "13a", "intl", or "zh" and "char" for text without spaces.
        n_bootstrap: resamples of the corpus for each score's 95 % interval, which the signature then names; 1,000
            are usual. The bounds are reproducible (the seed is sacreBLEU's, 12345). 0 computes no interval.

    Returns:
        Each score with its signature, and counts of suspicious translations.

    Raises:
        TypeError: something is not a string.
        ValueError: the corpus is empty, the numbers of sentences or of references per sentence differ, or an option
            is unknown.
    """
    hypothesis_list = check_texts("hypotheses", hypotheses)
    reference_lists = check_references(references)
    check_same_length("hypotheses", hypothesis_list, "references", reference_lists)
    _warn_about_unsegmented_text(target_lang, tokenize)
    copied = None if sources is None else _count_copies(hypothesis_list, check_texts("sources", sources))

    figures = load_metric().compute(
        predictions=hypothesis_list,
        references=reference_lists,
        metrics=metrics,
        tokenize=tokenize,
        target_lang=target_lang,
        n_bootstrap=n_bootstrap,
    )
    return TranslationScores(
        metrics=tuple(_metric_score(name, figure) for name, figure in figures.items()),
        sentences=len(hypothesis_list),
        references_per_sentence=len(reference_lists[0]),
        empty_hypotheses=sum(not hypothesis.strip() for hypothesis in hypothesis_list),
        copied_sources=copied,
    )


def _metric_score(name: str, figure: dict[str, Any]) -> MetricScore:
    return MetricScore(
        name=name,
        label=figure["label"],
        value=float(figure["score"]),
        signature=figure["signature"],
        higher_is_better=figure["higher_is_better"],
        interval=None if figure["interval"] is None else tuple(figure["interval"]),
    )


def _count_copies(hypotheses: list[str], sources: list[str]) -> int:
    check_same_length("hypotheses", hypotheses, "sources", sources)
    return sum(
        hypothesis.strip() == source.strip() != "" for hypothesis, source in zip(hypotheses, sources, strict=True)
    )


def _warn_about_unsegmented_text(target_lang: str | None, tokenize: str) -> None:
    language = str(target_lang).replace("_", "-").split("-")[0].lower()
    if language in WRITTEN_WITHOUT_SPACES and tokenize in ("13a", "intl"):
        logger.warning(
            "BLEU counts words, and the tokeniser %r finds none in text written without spaces (%s): pass "
            "tokenize='zh' for Chinese or tokenize='char', and trust chrF more than tokenised lower-cased BLEU.",
            tokenize,
            target_lang,
        )
