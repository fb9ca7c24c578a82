"""Find the test set of a ledger entry by its fingerprints.

It may be in the entry itself, in a dataset that the entry names, in the files that were scored on this machine, or in
files that the user gives. Texts without the entry's fingerprint are not used.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ..data.builtin import BUILTIN_NAME
from ..data.files import examine_text, text_lines
from ..data.reading import load_parallel_corpus
from ..evaluation import LedgerEntry
from ..evaluation.results import fingerprint
from ..evaluation.run_records import OWNER_AND_NAME

logger = logging.getLogger(__name__)


def require_wanted(files: Sequence[str | Path], entries: Sequence[LedgerEntry], side: str) -> None:
    """Refuse files that belong to no test set in a ledger: they would be ignored.

    Args:
        files: text files.
        entries: the ledger's entries.
        side: what the files are given as, `"reference"` or `"source"`.

    Raises:
        FileNotFoundError: one of the files does not exist.
        ValueError: a file is not UTF-8 or belongs to no test set; the message lists the test sets.
    """
    wanted = {digest: name for entry in entries for digest, name in _texts_of(entry, side)}
    for file in map(Path, files):
        examine_text(file)
        digest = fingerprint(list(text_lines(file)))
        if digest not in wanted:
            those = "; ".join(f"{name}, fingerprint {known}" for known, name in wanted.items()) or "none"
            raise ValueError(
                f"{file} is not the {side} of a test set in the ledger (its fingerprint is {digest}), so it would be "
                f"ignored. Give one of these: {those}."
            )


def _texts_of(entry: LedgerEntry, side: str) -> list[tuple[str, str]]:
    """Fingerprints and names of an entry's references, or of its source."""
    if side == "source":
        digests, names = [entry.fingerprints.get("sources")], [entry.origin.get("source")]
    else:
        digests, names = entry.fingerprints["references"], entry.origin.get("references") or []
    files = [f" ({Path(name).name})" if isinstance(name, str) else "" for name in names]
    files += [""] * (len(digests) - len(files))
    return [(str(digest), entry.test_set + file) for digest, file in zip(digests, files, strict=False) if digest]


class TestSets:
    """Sources and references of test sets, found by fingerprint.

    Args:
        files: text files of any test sets, sources and references.
        is_local: whether the ledger was written on this machine, so that the paths in it may be opened.

    Raises:
        FileNotFoundError: one of the files does not exist.
        ValueError: one is not UTF-8.
    """

    __test__ = False

    def __init__(self, files: Sequence[str | Path] = (), is_local: bool = False) -> None:
        self.is_local = is_local
        self._texts: dict[str, list[str]] = {}
        for file in files:
            examine_text(Path(file))
            self._add(list(text_lines(Path(file))))

    def _add(self, lines: list[str]) -> None:
        self._texts[fingerprint(lines)] = lines

    def references(self, entry: LedgerEntry) -> list[list[str]] | None:
        """A list of references per sentence, or `None` if they cannot be found."""
        streams = [self._find(entry, wanted) for wanted in entry.fingerprints.get("references", ())]
        found = [stream for stream in streams if stream is not None]
        if not found or len(found) < len(streams):
            return None
        return [list(each) for each in zip(*found, strict=True)]

    def sources(self, entry: LedgerEntry) -> list[str] | None:
        """The source sentences, or `None` if they cannot be found."""
        wanted = entry.fingerprints.get("sources")
        return None if wanted is None else self._find(entry, wanted)

    def _find(self, entry: LedgerEntry, wanted: str) -> list[str] | None:
        for lines in self._places(entry, wanted):
            self._add(lines)
            if wanted in self._texts:
                break
        return self._texts.get(wanted)

    def _places(self, entry: LedgerEntry, wanted: str) -> Iterator[list[str]]:
        """Yield candidates for the wanted text, the cheapest to read first."""
        if wanted in self._texts:
            return
        if entry.sources is not None:
            yield list(entry.sources)
        if entry.references is not None:
            yield from ([*stream] for stream in zip(*entry.references, strict=True))
        yield from self._texts_of_dataset(entry.origin)
        if self.is_local and "source" in entry.origin:
            for path in map(Path, chain([entry.origin["source"]], entry.origin["references"])):
                if path.is_file():
                    yield list(text_lines(path))

    def _texts_of_dataset(self, origin: Mapping[str, Any]) -> Iterator[list[str]]:
        name = origin.get("dataset_name")
        is_named = name == BUILTIN_NAME or (isinstance(name, str) and OWNER_AND_NAME.fullmatch(name) is not None)
        if not (is_named or (self.is_local and name is not None)):
            return
        options = ("dataset_name", "dataset_config_name", "split", "source_lang", "target_lang")
        try:
            corpus = load_parallel_corpus(**{option: origin[option] for option in options if option in origin})
        except (OSError, ValueError) as error:
            logger.warning(f"The dataset {name} cannot be read: {error}")
            return
        yield from (list(corpus["source"]), list(corpus["target"]))
