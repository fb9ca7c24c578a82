"""Where a test set comes from, and its texts: aligned files, or a split of a dataset."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Texts(NamedTuple):
    """The texts of a test set.

    Attributes:
        sources: one per sentence.
        references: a list of references per sentence.
    """

    sources: list[str]
    references: list[list[str]]


@dataclass(frozen=True)
class Origin:
    """Where a test set comes from: aligned files or a dataset.

    Attributes:
        source: path of the source file.
        references: paths of the reference files.
        dataset_name: a dataset instead of files: `builtin-fr-en`, a Hub name, a folder or a table.
        dataset_config_name: configuration of a Hub dataset.
        split: split of the dataset.
        source_lang, target_lang: languages. Together they name the columns of a dataset; `target_lang` alone only
            chooses the tokenisation rules of the metrics.

    Raises:
        ValueError: neither files nor a dataset are given, or both.
    """

    source: str | os.PathLike[str] | None = None
    references: tuple[str | os.PathLike[str], ...] = ()
    dataset_name: str | None = None
    dataset_config_name: str | None = None
    split: str = "test"
    source_lang: str | None = None
    target_lang: str | None = None

    def __post_init__(self) -> None:
        in_files = self.source is not None and bool(self.references)
        in_part = self.source is not None or bool(self.references)
        if in_files == (self.dataset_name is not None) or in_part != in_files:
            raise ValueError(
                "A test set is files, `source` and `references`, or a split of a dataset, `dataset_name`; got "
                f"source {self.source}, references {list(self.references)} and dataset_name {self.dataset_name}."
            )

    @property
    def files(self) -> list[str]:
        """Paths of the source file and the reference files; empty for a dataset."""
        return [os.fspath(path) for path in (self.source, *self.references) if path is not None]

    @property
    def name(self) -> str:
        """Display name of the test set."""
        return ", ".join(self._parts())

    @property
    def folder_name(self) -> str:
        """Name of the folder for its results."""
        return "-".join(re.sub(r"[^\w.-]+", "_", part) for part in self._parts()) if self.dataset_name else self.name

    def _parts(self) -> list[str]:
        if self.dataset_name is None:
            file = Path(self.references[0])
            return [Path(file.name).stem or file.name]
        parts = (Path(self.dataset_name).name, self.dataset_config_name, self.split)
        return [part for part in parts if part]

    @property
    def languages(self) -> tuple[str | None, str | None]:
        """Source and target language, as given or as the built-in dataset defines them."""
        from ..data.builtin import BUILTIN_NAME

        if self.source_lang is None and self.dataset_name == BUILTIN_NAME:
            return "fr", "en"
        return self.source_lang, self.target_lang

    def as_record(self) -> dict[str, Any]:
        """The origin for a ledger, with absolute paths, so that `verify` finds the test set."""
        languages = {"source_lang": self.source_lang, "target_lang": self.target_lang} if self.source_lang else {}
        if self.dataset_name is None:
            source, *references = (str(Path(path).absolute()) for path in self.files)
            return {"source": source, "references": references, **languages}
        local = Path(self.dataset_name)
        found = {
            "dataset_name": str(local.absolute()) if local.exists() else self.dataset_name,
            "dataset_config_name": self.dataset_config_name,
            "split": self.split,
            **languages,
        }
        return {name: value for name, value in found.items() if value is not None}

    def read(self) -> Texts:
        """Read the texts.

        Raises:
            FileNotFoundError, ConnectionError, ValueError: as in `load_parallel_corpus`.
        """
        from ..data.reading import load_parallel_corpus

        if self.dataset_name is None:
            sides = [load_parallel_corpus(self.source, reference) for reference in self.references]
        else:
            corpus = load_parallel_corpus(
                dataset_name=self.dataset_name,
                dataset_config_name=self.dataset_config_name,
                split=self.split,
                source_lang=self.source_lang,
                # alone it names no column
                target_lang=None if self.source_lang is None else self.target_lang,
            )
            sides = [corpus]
        references = zip(*(list(side["target"]) for side in sides), strict=True)
        return Texts(list(sides[0]["source"]), [list(each) for each in references])
