"""The pair of languages that a run records: from its options, or else from the names of its files or columns.

A recipe's languages describe the recipe's text. If an option replaces that text, they are kept only if the new text
has columns with these names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.builtin import BUILTIN_NAME
from ..data.columns import ColumnChoice
from ..data.files import TABLE_SUFFIXES
from ..data.languages import language_of_words, languages_of_files, other_language, same_language
from ..data.reading import keys_of_table

_NAMES = ("source_lang", "target_lang")
_TEXT = ("train_source", "train_target", "dataset_name", "dataset_config_name")

Pair = tuple[Any, Any]


def is_text_replaced(recipe: Mapping[str, Any], explicit: Mapping[str, Any]) -> bool:
    """Whether the options name a different training text than the recipe."""
    return any(name in explicit and explicit[name] != recipe.get(name) for name in _TEXT)


def settle_languages(
    recipe: dict[str, Any], explicit: Mapping[str, Any], claimed: Pair, is_replaced: bool
) -> tuple[list[str], bool]:
    """Set the languages of the text in a recipe's settings.

    Args:
        recipe: the recipe's settings, changed in place.
        explicit: the given options.
        claimed: the recipe's languages.
        is_replaced: whether options replace the recipe's text.

    Returns:
        Messages for the user, and whether the text must have columns named by the languages, because these are still
        the recipe's.
    """
    if not is_replaced and any(claimed):
        return [], False
    for name in _NAMES:
        recipe.pop(name, None)
    settings = {**recipe, **explicit}
    given = settings.get("source_lang"), settings.get("target_lang")
    found, where = _languages_of_text(settings, claimed)
    if all(given):
        return _warn_of_other_names(given, found, where), False
    if found is None:
        if not any(given):
            recipe.update(zip(_NAMES, claimed, strict=True))
        return [], not any(given)
    settled = given[0] or found[0], given[1] or found[1]
    if all(settled):
        recipe.update({name: code for name, code in zip(_NAMES, settled, strict=True) if name not in explicit})
    return _tell(settings, settled, claimed, where), False


def require_validation_of_the_pair(settings: Mapping[str, Any]) -> None:
    """Refuse swapped validation files, judged by their names and the languages of the training text.

    Args:
        settings: settings of the recipe and the options, after `settle_languages`.

    Raises:
        ValueError: the file names give the opposite pair of languages.
    """
    names = ("validation_source", "validation_target", *_NAMES)
    words = [value for name in names if isinstance(value := settings.get(name), str)]
    if len(words) < len(names):
        return
    found, pair = languages_of_files(words[0], words[1]), words[2:]
    if all(name and same_language(said, name) for said, name in zip(pair, reversed(found), strict=True)):
        raise ValueError(
            f"The text is {pair[0]} to {pair[1]}, but by the names of its files the validation text is {found[0]} to "
            f"{found[1]}. Swap `--validation_source` and `--validation_target`."
        )


def _languages_of_text(settings: Mapping[str, Any], claimed: Pair) -> tuple[Pair | None, str]:
    """The pair as far as names tell, and whether files or columns tell it; None if the text must be read first."""
    source, target, dataset = (settings.get(name) for name in ("train_source", "train_target", "dataset_name"))
    columns = tuple(settings.get(name) for name in ("source_column", "target_column"))
    if isinstance(source, str) and isinstance(target, str):
        return languages_of_files(source, target), "files"
    if all(columns):
        return (_code(columns[0]), _code(columns[1])), "columns"
    table = source or dataset
    if isinstance(table, str) and Path(table).suffix.lower() in TABLE_SUFFIXES:
        return _languages_of_table(Path(table), claimed), "columns"
    if dataset == BUILTIN_NAME:
        return (claimed if set(claimed) == {"fr", "en"} else ("fr", "en")), "columns"
    if isinstance(dataset, str) and all(claimed):
        return None, "columns"
    return (None, None), "columns"


def _languages_of_table(path: Path, claimed: Pair) -> Pair:
    choices = [ColumnChoice(source_lang=claimed[0], target_lang=claimed[1])] if all(claimed) else []
    for choice in (*choices, ColumnChoice()):
        try:
            columns = [key[-1] for key in keys_of_table(path, choice)]
        except (OSError, ValueError):  # reported when the text is read
            continue
        if all(_code(column) == column for column in columns):  # so that the columns are found again by these codes
            return columns[0], columns[1]
        break
    return None, None


def _code(column: Any) -> str | None:
    return language_of_words(str(column).replace("_", "-").split("-"))


def _warn_of_other_names(given: Pair, found: Pair | None, where: str) -> list[str]:
    if not found or not any(name and other_language(said, name) for said, name in zip(given, found, strict=True)):
        return []
    named = " and ".join(name or "?" for name in found)
    return [f"The languages are recorded as {given[0]} and {given[1]}; the names of the {where} say {named}."]


def _tell(settings: Mapping[str, Any], settled: Pair, claimed: Pair, where: str) -> list[str]:
    own = f"the recipe's {claimed[0]} and {claimed[1]} are those of its own text" if all(claimed) else ""
    if all(settled):
        by = f"The text is {settled[0]} to {settled[1]} by the names of its {where}"
        return [] if settled == claimed else [f"{by}; {own}." if own else f"{by}."]
    if not (settings.get("train_source") or settings.get("dataset_name")):
        return []
    reason = f" ({own})" if own else ""
    return [
        f"The languages of the text are unknown{reason}, so the model card will not name them: give --source_lang "
        "and --target_lang."
    ]
