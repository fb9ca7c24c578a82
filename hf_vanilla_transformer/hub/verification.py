"""Recompute every score in a model's card, from the translations in its ledger or from the model itself.

The card states its scores twice, in its metadata and in its table. Each must match an entry of the ledger, whose
translations are scored again. A score that cannot be recomputed is a problem too; its message says what is needed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results

from ..evaluation import LEDGER_NAME, LedgerEntry, MetricScore, read_ledger
from ..evaluation.ledger import combined_fingerprint, weights_fingerprint
from ..evaluation.results import fingerprint
from ..evaluation.scores import PERCENTILES_MARK
from ..model.manifest import read_manifest
from ..translation import Translator
from .card import RESULTS_HEADER, require_signatures, result_rows
from .files import CARD_NAME
from .ledger_texts import TestSets

TOLERANCE = 0.01
"""How much two scores may differ, in points."""

_SLACK = 1e-9  # for floating-point error, so that a difference of 0.01 itself passes
_FIGURE = re.compile(r"(-?[\d.]+)(?: \[(-?[\d.]+), (-?[\d.]+)\])?")
_FIGURE_COLUMN = RESULTS_HEADER.index("figure [95 % interval]")


@dataclass(frozen=True)
class Check:
    """A stated score compared with the recomputed one.

    Attributes:
        test_set: name of the test set.
        where: the source of the stated score: the ledger, the card, the card's table, or the stored translations.
        said, found: the stated and the recomputed score.
    """

    test_set: str
    where: str
    said: MetricScore
    found: MetricScore

    @property
    def differs(self) -> bool:
        """Whether the value or a bound of its interval differs by more than `TOLERANCE`."""
        pairs = [(self.said.value, self.found.value)]
        if self.said.interval is not None and self.found.interval is not None:
            pairs += zip(self.said.interval, self.found.interval, strict=True)
        return not all(abs(said - found) <= TOLERANCE + _SLACK for said, found in pairs)

    def __str__(self) -> str:
        verdict = "DIFFERS" if self.differs else "the same"
        figures = f"{self.said.figure()}, computed {self.found.figure()}"
        return f"{self.test_set}, {self.found.label}: {self.where} {figures}: {verdict}"


@dataclass
class Verification:
    """All checks of a model; `problems` lists what could not be checked, and faults other than scores."""

    checks: list[Check] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether at least one score was checked, and everything is correct."""
        return bool(self.checks) and not self.problems and not any(check.differs for check in self.checks)


def verify(folder: str | Path, test_sets: TestSets, translator: Translator | None = None) -> Verification:
    """Check the ledger of a folder, and its card if it has one.

    Args:
        folder: the model's folder; weights may be absent if its manifest lists them.
        test_sets: where references and sources come from.
        translator: if given, every test set is also translated again with it.

    Raises:
        FileNotFoundError: there is no ledger.
        ValueError: the ledger or the card cannot be read.
    """
    folder = Path(folder)
    entries = read_ledger(folder)
    if not entries:
        raise FileNotFoundError(
            f"Scores are verified from the translations in {LEDGER_NAME}, but {folder} has none. "
            "`vanilla-transformer evaluate` writes it."
        )
    result = Verification()
    computed = [found for entry in entries if (found := _check_entry(entry, test_sets, result)) is not None]
    _check_weights(folder, entries, result)
    if (folder / CARD_NAME).is_file():
        _check_card((folder / CARD_NAME).read_text(encoding="utf-8"), entries, computed, result)
    else:
        result.notes.append("There is no card yet: only the ledger's scores were checked.")
    if translator is not None:
        for entry in computed:
            _check_decoding(entry, test_sets, translator, result)
    return result


def _check_entry(entry: LedgerEntry, test_sets: TestSets, result: Verification) -> LedgerEntry | None:
    """The entry with recomputed scores; `None` if they cannot be recomputed."""
    if fingerprint(entry.hypotheses) != entry.fingerprints.get("hypotheses"):
        result.problems.append(f"{entry.test_set}: the stored translations are not those that were scored.")
        return None
    references = test_sets.references(entry)
    if references is None:
        files = ", ".join(str(name) for name in entry.origin.get("references", ())) or "its references"
        result.problems.append(
            f"{entry.test_set} cannot be computed without {files} (fingerprint "
            f"{', '.join(entry.fingerprints.get('references', ()))}). Give the files: --reference FILE."
        )
        return None
    figures = [
        (said, _without_other_interval(said, now))
        for said, now in zip(entry.metrics, entry.recompute(references), strict=True)
    ]
    for said, now in figures:
        _compare(entry, "the ledger says", said, now, result)
        _compare_signatures(entry, said, now, result)
    if any(_is_of_other_interval(said) for said, _ in figures):
        result.notes.append(
            f"{entry.test_set}: its intervals are of an earlier version, which computed their bounds differently, and "
            "were not checked. Evaluate again to update them."
        )
    return replace(entry, metrics=tuple(now for _, now in figures))


def _is_of_other_interval(said: MetricScore) -> bool:
    """Whether its interval comes from a version whose bounds were not percentiles."""
    return "|bs:" in said.signature and PERCENTILES_MARK not in said.signature


def _without_other_interval(said: MetricScore, now: MetricScore) -> MetricScore:
    return replace(now, interval=None) if _is_of_other_interval(said) else now


def _compare(entry: LedgerEntry, where: str, said: MetricScore, now: MetricScore, result: Verification) -> None:
    result.checks.append(Check(entry.test_set, where, said, now))


def _compare_signatures(entry: LedgerEntry, said: MetricScore, now: MetricScore, result: Verification) -> None:
    if _is_of_other_interval(said):
        now = replace(now, signature=now.signature.replace(PERCENTILES_MARK, "|"))
    if said.signature == now.signature:
        return
    message = f"{entry.test_set}, {now.label}: signature {said.signature}, computed with {now.signature}."
    only_versions = re.sub(r"version:[^|]+|sacremoses:[^|]+", "", said.signature)
    same = only_versions == re.sub(r"version:[^|]+|sacremoses:[^|]+", "", now.signature)
    (result.notes if same else result.problems).append(message)


def _check_weights(folder: Path, entries: Sequence[LedgerEntry], result: Verification) -> None:
    files = (read_manifest(folder) or {}).get("files", {})
    sealed = {name: entry["sha256"] for name, entry in files.items() if name.endswith(".safetensors")}
    weights = weights_fingerprint(folder) or combined_fingerprint(sealed)
    for entry in entries:
        if entry.weights is None or weights is None:
            result.notes.append(f"{entry.test_set}: it is unknown whether these weights were scored.")
        elif entry.weights != weights:
            result.problems.append(f"{entry.test_set} was scored with other weights than the model's.")


# The card


def _check_card(
    card: str, entries: Sequence[LedgerEntry], computed: Sequence[LedgerEntry], result: Verification
) -> None:
    try:
        require_signatures(card)
    except ValueError as error:
        result.problems.append(f"The card names a score without its signature: {error}")
    _check_metadata(card, entries, computed, result)
    _check_table(card, entries, computed, result)


def _check_metadata(
    card: str, entries: Sequence[LedgerEntry], computed: Sequence[LedgerEntry], result: Verification
) -> None:
    known = {(entry.fingerprints["hypotheses"], metric.name) for entry in entries for metric in entry.metrics}
    found = {
        (entry.fingerprints["hypotheses"], metric.name): (entry, metric)
        for entry in computed
        for metric in entry.metrics
    }
    for figure in _figures_of_metadata(card):
        arguments = figure.metric_args if isinstance(figure.metric_args, dict) else {}
        key = (arguments.get("hypotheses"), arguments.get("metric"))
        if key in found:
            entry, metric = found[key]
            _compare(entry, "the card says", _figure_of_metadata(figure, metric), metric, result)
        elif key not in known:
            name = f"{figure.dataset_name}, {figure.metric_name or figure.metric_type}"
            result.problems.append(f"{name}: the card says {figure.metric_value}, which is not in the ledger.")


def _figure_of_metadata(figure: Any, computed: MetricScore) -> MetricScore:
    interval = figure.metric_args.get("interval_95")
    try:
        bounds = None if interval is None else (float(interval[0]), float(interval[1]))
        return replace(computed, value=float(figure.metric_value), interval=bounds)
    except (TypeError, ValueError, LookupError) as error:
        raise ValueError(
            f"The card's score {figure.metric_value!r}, interval {interval!r}, must be numbers. Push the card again."
        ) from error


def _figures_of_metadata(card: str) -> list[Any]:
    match = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    try:
        metadata = yaml.safe_load(match[1]) if match else None
        index = metadata.get("model-index") if isinstance(metadata, dict) else None
        return model_index_to_eval_results(index)[1] if index else []
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"The metadata of the card cannot be read ({type(error).__name__}: {error}).") from error


def _check_table(
    card: str, entries: Sequence[LedgerEntry], computed: Sequence[LedgerEntry], result: Verification
) -> None:
    known = {_without_figure(row) for row in result_rows(entries)}
    # with the card's signatures, in case another version of sacreBLEU recomputes the scores
    signed = [_with_signatures_of(entries, entry) for entry in computed]
    figures = [(entry, metric) for entry in computed for metric in entry.metrics]
    found = {_without_figure(row): each for row, each in zip(result_rows(signed), figures, strict=True)}
    for row in _rows_of_table(card):
        match = _FIGURE.fullmatch(row[_FIGURE_COLUMN]) if len(row) == len(RESULTS_HEADER) else None
        key = _without_figure(row)
        if match is None or key not in known:
            result.problems.append(f"A row of the card's table is not in the ledger: {' | '.join(row)[:160]}")
        elif key in found:
            entry, metric = found[key]
            interval = (float(match[2]), float(match[3])) if match[2] else None
            said = replace(metric, value=float(match[1]), interval=interval)
            _compare(entry, "the card's table says", said, metric, result)


def _with_signatures_of(entries: Sequence[LedgerEntry], computed: LedgerEntry) -> LedgerEntry:
    original = next(entry for entry in entries if entry.fingerprints == computed.fingerprints)
    signatures = {metric.name: metric.signature for metric in original.metrics}
    return replace(
        computed, metrics=tuple(replace(metric, signature=signatures[metric.name]) for metric in computed.metrics)
    )


def _without_figure(row: Sequence[str]) -> tuple[str, ...]:
    return tuple(cell for column, cell in enumerate(row) if column != _FIGURE_COLUMN)


def _rows_of_table(card: str) -> Iterator[tuple[str, ...]]:
    """The cells of each row of the results table, without the header."""
    _, _, section = card.partition("\n## Results\n")
    for line in section.partition("\n## ")[0].split("\n"):
        row = tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        if row and row != RESULTS_HEADER and not all(re.fullmatch(r":?-+:?", cell) for cell in row):
            yield row


# The model


def _check_decoding(entry: LedgerEntry, test_sets: TestSets, translator: Translator, result: Verification) -> None:
    """Translate the test set again; differences are reported even if only rounding on another machine causes them."""
    sources, references = test_sets.sources(entry), test_sets.references(entry)
    if sources is None or references is None:
        result.problems.append(
            f"{entry.test_set} cannot be translated without its source text (fingerprint "
            f"{entry.fingerprints.get('sources')}). Give the file: --source FILE."
        )
        return
    settings = {name: value for name, value in entry.decoding.items() if name != "precision"}
    batch_tokens = entry.settings.get("batch_tokens")
    more: dict[str, Any] = {"batch_tokens": batch_tokens} if isinstance(batch_tokens, int) else {}
    hypotheses = [translation.text for translation in translator.translate(sources, **settings, **more)]
    others = sum(now != then for now, then in zip(hypotheses, entry.hypotheses, strict=True))
    if others:
        result.notes.append(
            f"{entry.test_set}: {others:,} of {len(hypotheses):,} translations differ from the stored."
        )
    for said, now in zip(entry.metrics, entry.recompute(references, hypotheses), strict=True):
        _compare(entry, "by the stored translations", said, _without_other_interval(said, now), result)
