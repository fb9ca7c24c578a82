"""Selects the source and target columns of a table.

A column is identified by its path of keys: `("en",)` in a flat table, `("translation", "en")` in the Hub's nested
feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NESTED = "translation"  # the Hub's name for a column that holds {"en": ..., "de": ...}
Key = tuple[str, ...]


@dataclass(frozen=True)
class ColumnChoice:
    """The caller's choice of the two columns; `None` where unspecified.

    `languages_name_columns` refuses columns called `source` and `target`, whose languages are unknown.
    """

    source_column: str | None = None
    target_column: str | None = None
    source_lang: str | None = None
    target_lang: str | None = None
    languages_name_columns: bool = False

    def __post_init__(self) -> None:
        for source, target, what in (
            (self.source_column, self.target_column, "column"),
            (self.source_lang, self.target_lang, "lang"),
        ):
            if (source is None) != (target is None):
                given, missing = ("source", "target") if target is None else ("target", "source")
                raise ValueError(
                    f"source_{what} and target_{what} go together, but only {given}_{what}={source or target!r} was "
                    f"given. Give {missing}_{what} too."
                )
            if source is not None and source == target:
                raise ValueError(
                    f"source_{what} and target_{what} must differ, but both are {source!r}. Name the other side."
                )


def choose_columns(
    choice: ColumnChoice, columns: Sequence[str], languages: Sequence[str], origin: str, hint: str = ""
) -> tuple[Key, Key]:
    """Find source and target by, in this order: named columns, languages, `source`/`target`, the only two columns.

    Args:
        choice: the caller's choice.
        columns: names of the table's columns, in order.
        languages: keys of its `translation` column; empty for a flat table.
        origin: file or dataset, for messages.
        hint: a sentence to append to the message if columns are not found.

    Returns:
        The keys of source and target.

    Raises:
        ValueError: there is no such column or language (the message lists the existing ones), or the two sides cannot
            be told apart.
    """
    flat = _flat_columns(choice, columns)
    if flat:
        missing = [name for name in flat if name not in columns]
        if missing:
            raise ValueError(_not_found(missing, columns, languages, origin, hint))
        return (flat[0],), (flat[1],)
    if languages:
        return _nested_columns(choice, languages, origin)
    wanted = [choice.source_lang, choice.target_lang] if choice.source_lang else ["source", "target"]
    if choice.languages_name_columns:
        hint += " If its languages are different, give source_lang and target_lang."
    raise ValueError(
        _not_found([name for name in wanted if name and name not in columns], columns, languages, origin, hint)
    )


def text_at(fields: object, key: Key, origin: Path | str, number: int) -> str:
    """The string at `key` of row `number` of `origin`; a null is an empty sentence, for the filters to count."""
    value = fields
    for name in key:
        if not isinstance(value, dict) or name not in value:
            raise ValueError(f"Every row of {origin} must have {'.'.join(key)!r}, but row {number:,} does not.")
        value = value[name]
    if value is not None and not isinstance(value, str):
        raise ValueError(
            f"{'.'.join(key)!r} must hold text, but in row {number:,} of {origin} it holds {type(value).__name__}."
        )
    return value or ""


def _flat_columns(choice: ColumnChoice, columns: Sequence[str]) -> tuple[str, str] | None:
    """The names of two flat columns, or `None` if neither the choice nor convention selects any."""
    if choice.source_column is not None and choice.target_column is not None:
        return choice.source_column, choice.target_column
    langs = choice.source_lang, choice.target_lang
    if langs[0] is not None and langs[1] is not None and set(langs) <= set(columns):
        return langs[0], langs[1]
    if {"source", "target"} <= set(columns) and not choice.languages_name_columns:
        return "source", "target"
    # with languages given, two columns of other names could be either way round: better ask than guess
    return (columns[0], columns[1]) if len(columns) == 2 and langs[0] is None and NESTED not in columns else None


def _nested_columns(choice: ColumnChoice, languages: Sequence[str], origin: str) -> tuple[Key, Key]:
    have = ", ".join(languages)
    if choice.source_lang is None or choice.target_lang is None:
        raise ValueError(
            f"The {NESTED} column of {origin} holds the languages {have}. Say which is which by source_lang and "
            "target_lang."
        )
    for language in (choice.source_lang, choice.target_lang):
        if language not in languages:
            raise ValueError(
                f"source_lang and target_lang must be among the languages of the {NESTED} column of {origin}, but "
                f"{language!r} is not; it holds {have}."
            )
    return (NESTED, choice.source_lang), (NESTED, choice.target_lang)


def _not_found(
    missing: Sequence[str], columns: Sequence[str], languages: Sequence[str], origin: str, hint: str
) -> str:
    nested = f" ({NESTED} holds {', '.join(languages)})" if languages else ""
    return (
        f"{origin} must have the column(s) {', '.join(map(repr, missing))}, but it has "
        f"{', '.join(map(repr, columns)) or 'none'}{nested}. Name the two by source_column and target_column.{hint}"
    )
