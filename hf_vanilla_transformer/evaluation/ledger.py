"""The score ledger: a JSON file in a model's folder that holds everything needed to reproduce its scores.

An entry is one decoding of one test set: the translations, the fingerprints of sources, references and weights, the
settings of decoding and scoring, and the scores. References are left out unless they may be shared; their
fingerprint identifies them.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..model.json_files import LARGEST_TABLE, read_json, to_json
from ..model.manifest import damaged_files, read_manifest, renew_entry, sha256_of_file
from .results import fingerprint, write_atomically
from .scores import METRIC_NAMES, PERCENTILES_MARK, MetricScore, TranslationScores, evaluate_translations

LEDGER_NAME = "score_ledger.json"
N_BOOTSTRAP = 1000
"""Bootstrap resamples for the intervals in a ledger; sacreBLEU's default."""

_FORMAT = 1


@dataclass(frozen=True)
class LedgerEntry:
    """One test set, decoded in one way.

    Attributes:
        test_set: display name of the test set.
        hypotheses: the exact translations.
        metrics: the scores.
        decoding: as in `Translator.decoding`.
        scoring: arguments of `evaluate_translations`: `target_lang`, `tokenize`, `n_bootstrap`.
        fingerprints: SHA-256 of `hypotheses`, of `sources` and of each set of `references`, equal to `sha256sum` of a
            file with these lines.
        weights: `weights_fingerprint` of the model that translated; `None` if unknown.
        origin: where the test set is: `dataset_name` with `split` and languages, or the paths `source` and
            `references`.
        settings: further information: device, dtype, batch size.
        averaged_checkpoints: names of the checkpoints that the weights are an average of.
        sources, references: the test set itself, if it may be shared; references are one list per sentence.
    """

    test_set: str
    hypotheses: tuple[str, ...]
    metrics: tuple[MetricScore, ...]
    decoding: Mapping[str, Any]
    scoring: Mapping[str, Any]
    fingerprints: Mapping[str, Any]
    weights: str | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    averaged_checkpoints: tuple[str, ...] = ()
    sources: tuple[str, ...] | None = None
    references: tuple[tuple[str, ...], ...] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Identifies test set and decoding: entries of the same test set, decoded the same way, have equal keys."""
        found = {name: value for name, value in self.fingerprints.items() if name != "hypotheses"}
        return json.dumps(found, sort_keys=True), json.dumps(dict(self.decoding), sort_keys=True, default=str)

    @property
    def id(self) -> str:
        """A short identifier: the first eight hexadecimal digits of the key's SHA-256."""
        return hashlib.sha256("\n".join(self.key).encode()).hexdigest()[:8]

    def recompute(
        self, references: Sequence[Sequence[str]], hypotheses: Sequence[str] | None = None
    ) -> TranslationScores:
        """Score the stored translations, or others, by the same metrics and settings.

        Args:
            references: a list of references per sentence, matching the fingerprints.
            hypotheses: other translations of the same sentences.
        """
        return evaluate_translations(
            self.hypotheses if hypotheses is None else hypotheses,
            [list(each) for each in references],
            metrics=[metric.name for metric in self.metrics],
            **self.scoring,
        )

    def without_paths(self) -> "LedgerEntry":
        """The entry for publication: paths are reduced to file names."""
        origin = dict(self.origin)
        if "source" in origin:
            origin["source"] = Path(origin["source"]).name
            origin["references"] = [Path(path).name for path in origin["references"]]
        elif "dataset_name" in origin and Path(origin["dataset_name"]).is_absolute():
            origin["dataset_name"] = Path(origin["dataset_name"]).name
        return replace(self, origin=origin)


def decoding_in_words(decoding: Mapping[str, Any]) -> str:
    """List the settings of a decoding as text."""
    return ", ".join(f"{name} {value}" for name, value in decoding.items())


def make_entry(
    test_set: str,
    hypotheses: Sequence[str],
    scores: TranslationScores,
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    keep_references: bool = False,
    **known: Any,
) -> LedgerEntry:
    """Make a ledger entry and compute its fingerprints.

    Args:
        test_set, hypotheses: as in `LedgerEntry`.
        scores: scores of these hypotheses.
        sources: one per hypothesis.
        references: a list of references per sentence.
        keep_references: store sources and references in the entry.
        known: the other attributes of `LedgerEntry`.
    """
    fingerprints = {
        "hypotheses": fingerprint(hypotheses),
        "sources": fingerprint(sources),
        "references": [fingerprint(stream) for stream in zip(*references, strict=True)],
    }
    return LedgerEntry(
        test_set,
        tuple(hypotheses),
        scores.metrics,
        fingerprints=fingerprints,
        sources=tuple(sources) if keep_references else None,
        references=tuple(map(tuple, references)) if keep_references else None,
        **known,
    )


def weights_fingerprint(folder: str | os.PathLike[str]) -> str | None:
    """The SHA-256 of the safetensors file that holds the weights; `None` if there is none.

    For sharded weights, the SHA-256 over the names and SHA-256s of all shards.
    """
    files = sorted(Path(folder).glob("model*.safetensors"))
    return combined_fingerprint({path.name: sha256_of_file(path) for path in files})


def combined_fingerprint(digests: Mapping[str, str]) -> str | None:
    """The fingerprint of weights from the SHA-256 of each of their files, as listed in a manifest."""
    if len(digests) == 1:
        return f"sha256:{next(iter(digests.values()))}"
    return fingerprint([f"{name} {digests[name]}" for name in sorted(digests)]) if digests else None


def read_ledger(folder: str | os.PathLike[str]) -> tuple[LedgerEntry, ...]:
    """Read the ledger of a model's folder; without a ledger there are no entries.

    Raises:
        ValueError: the file is not a valid ledger. It is untrusted, so every field is checked.
    """
    path = Path(folder) / LEDGER_NAME
    try:
        record = read_json(path, LARGEST_TABLE)
    except FileNotFoundError:
        return ()
    try:
        if record["format"] != _FORMAT:
            raise ValueError(f"its format is {record['format']!r}")
        return tuple(_parse(entry) for entry in record["entries"])
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(
            f"{path} must be a score ledger of format {_FORMAT}, but it is damaged ({type(error).__name__}: {error}). "
            "Download it again, or delete it and evaluate again."
        ) from error


def write_ledger(folder: str | os.PathLike[str], entries: Sequence[LedgerEntry]) -> Path:
    """Write a complete ledger, replacing an existing one."""
    path = Path(folder) / LEDGER_NAME
    record = {"format": _FORMAT, "entries": [_as_json(entry) for entry in entries]}
    write_atomically(path, to_json(record, indent=1) + "\n")
    return path


def add_to_ledger(folder: str | os.PathLike[str], entry: LedgerEntry) -> Path:
    """Add an entry to a folder's ledger; it replaces one with the same test set and decoding, whatever its weights."""
    others = [other for other in read_ledger(folder) if other.key != entry.key]
    return _replace_ledger(Path(folder), [*others, entry])


def remove_from_ledger(folder: str | os.PathLike[str], *wanted: str) -> tuple[LedgerEntry, ...]:
    """Remove entries from a folder's ledger, and thereby from cards written later.

    Args:
        folder: the model's folder.
        wanted: the `id` of each entry, or the name of its test set if only one entry has that name.

    Returns:
        The removed entries.

    Raises:
        ValueError: there is no such entry, or several have that name. The message lists all entries; none is removed.
    """
    entries = read_ledger(folder)
    found = tuple(_find(entries, each, folder) for each in wanted)
    _replace_ledger(Path(folder), [entry for entry in entries if entry not in found])
    return found


def _find(entries: Sequence[LedgerEntry], wanted: str, folder: str | os.PathLike[str]) -> LedgerEntry:
    found = [entry for entry in entries if entry.id == wanted] or [e for e in entries if e.test_set == wanted]
    if len(found) == 1:
        return found[0]
    those = ", ".join(f"{entry.id} ({entry.test_set})" for entry in found or entries) or "none"
    many = f"{len(found)} entries named" if found else "no entry"
    raise ValueError(
        f"A ledger's entries are removed by id, but that of {folder} has {many} {wanted!r}. Its entries: {those}."
    )


def _replace_ledger(folder: Path, entries: Sequence[LedgerEntry]) -> Path:
    """Rewrite the ledger, and its entry in the folder's manifest if that matched the old ledger.

    If the old ledger differed from the manifest, the new one does too: it must not pass as verified.
    """
    manifest = read_manifest(folder)
    follows = manifest is not None and LEDGER_NAME in manifest["files"] and not damaged_files(folder, [LEDGER_NAME])
    path = write_ledger(folder, entries)
    if follows:
        renew_entry(folder, LEDGER_NAME)
    return path


def _as_json(entry: LedgerEntry) -> dict[str, Any]:
    fields = {name: value for name, value in asdict(entry).items() if value not in (None, (), {})}
    return {**fields, "metrics": [metric.to_dict() for metric in entry.metrics]}


def _parse(record: Mapping[str, Any]) -> LedgerEntry:
    metrics = tuple(_parse_metric(metric) for metric in record["metrics"])
    sources, references = record.get("sources"), record.get("references")
    entry = LedgerEntry(
        test_set=_text(record["test_set"]),
        hypotheses=tuple(map(_text, record["hypotheses"])),
        metrics=metrics,
        decoding=_mapping(record["decoding"]),
        scoring=_mapping(record["scoring"]),
        fingerprints=_mapping(record["fingerprints"]),
        weights=None if record.get("weights") is None else _text(record["weights"]),
        origin=_mapping(record.get("origin", {})),
        settings=_mapping(record.get("settings", {})),
        averaged_checkpoints=tuple(map(_text, record.get("averaged_checkpoints", ()))),
        sources=None if sources is None else tuple(map(_text, sources)),
        references=None if references is None else tuple(tuple(map(_text, each)) for each in references),
    )
    if unknown := set(entry.scoring) - {"target_lang", "tokenize", "n_bootstrap"}:
        raise ValueError(f"unknown settings of scoring: {', '.join(sorted(unknown))}")
    prints = entry.fingerprints
    if not isinstance(prints.get("hypotheses"), str) or not isinstance(prints.get("references"), list):
        raise ValueError("fingerprints of hypotheses and references are missing")
    if not 0 <= entry.scoring.get("n_bootstrap", 0) <= 100 * N_BOOTSTRAP:
        raise ValueError("n_bootstrap out of range")
    return entry


def _parse_metric(record: Mapping[str, Any]) -> MetricScore:
    if record["name"] not in METRIC_NAMES:
        raise ValueError(f"no metric is called {record['name']!r}")
    # versions before percentiles wrote impossible bounds, such as a BLEU of 143: these are dropped
    interval = record.get("interval") if PERCENTILES_MARK in _text(record["signature"]) else None
    low_high = None if interval is None else (float(interval[0]), float(interval[1]))
    return MetricScore(
        name=_text(record["name"]),
        label=_text(record["label"]),
        value=float(record["value"]),
        signature=_text(record["signature"]),
        higher_is_better=bool(record["higher_is_better"]),
        interval=low_high,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text was expected, but there is {type(value).__name__}")
    return value


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"an object was expected, but there is {type(value).__name__}")
    return value
