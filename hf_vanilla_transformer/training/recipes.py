"""A recipe: a YAML file of settings in sections, overridden by the command line.

A section is one of the groups in `arguments.GROUPS`, or `training` (`TranslationTrainingArguments`). The file and the
command line go through one parser, the file first, so that values have the same meaning in both and options win.
"""

from argparse import ArgumentParser
from collections.abc import Container, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import yaml

from .arguments import GROUPS, check_finite
from .checkpoints import SETTINGS_NAME
from .overrides import settle
from .recipe_files import did_you_mean, find_recipe


@dataclass
class Settings:
    """The settings of a run: one dataclass per group (see `arguments`), messages about overrides, and given values.

    `languages_name_columns`: the languages come from a recipe whose text was replaced, so the new text must have
    columns with these names.
    """

    model: Any
    tokenizer: Any
    data: Any
    decoding: Any
    training: Any
    notes: list[str]
    given: dict[str, Any]
    languages_name_columns: bool = False

    def as_recipe(self) -> dict[str, dict[str, Any]]:
        """The values given by recipe and command line, and the chosen precision, by section; without access tokens."""
        given = self.given | {"precision": self.training.precision}
        names = {name: vars(getattr(self, name)) for name in (*GROUPS, "training")}
        return {
            section: {name: value for name, value in given.items() if name in known and name not in SECRETS}
            for section, known in names.items()
        }


SECRETS = {"hub_token"}
_LANGUAGES = ("source_lang", "target_lang")
_TEXT_TYPES = ("str", "str | None", "<class 'str'>", "typing.Optional[str]")


def read_recipe(path: Path, sections: dict[str, set[str]]) -> dict[str, dict[str, Any]]:
    """Read the sections of a recipe file and check their keys.

    Raises:
        ValueError: not YAML, not sections of keys, or an unknown section or key; the message gives the nearest known
            name.
    """
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"The recipe {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(recipe, dict) or not all(isinstance(section or {}, dict) for section in recipe.values()):
        raise ValueError(f"The recipe {path} must hold sections of keys ({', '.join(sections)}); see recipes/*.yaml.")
    for section, settings in recipe.items():
        if section not in sections:
            raise ValueError(f"The recipe {path} has an unknown section {section!r}{did_you_mean(section, sections)}.")
        for key in settings or {}:
            if key not in sections[section]:
                known = {name: other for other, names in sections.items() for name in names}
                near = did_you_mean(key, sections[section]) or did_you_mean(key, known)
                elsewhere = f" (it belongs to section {known[key]!r})" if key in known else near
                raise ValueError(f"The recipe {path} has an unknown key {key!r} in section {section!r}{elsewhere}.")
    return {
        section: {name: _language(value) if name in _LANGUAGES else value for name, value in (settings or {}).items()}
        for section, settings in recipe.items()
    }


def _language(value: Any) -> Any:
    return "no" if value is False else value  # YAML reads a bare no, here Norwegian, as False


def parse_settings(recipe: str | None, options: list[str]) -> Settings:
    """Settings of a run: defaults, then the recipe, then command-line options.

    Args:
        recipe: name or file; None for the defaults, which are the paper's base model.
        options: `--name value` pairs and `--flag`s.

    Raises:
        FileNotFoundError: there is no such recipe.
        ValueError: an unknown key or option, or a value of the wrong type.
    """
    from .trainer_arguments import TranslationTrainingArguments

    groups = {**GROUPS, "training": TranslationTrainingArguments}
    sections = {name: {field.name for field in fields(group) if field.init} for name, group in groups.items()}
    from_recipe: dict[str, Any] = {}
    for settings in (read_recipe(find_recipe(recipe), sections) if recipe else {}).values():
        from_recipe |= settings
    options = [part for option in options for part in _split_equals(option)]
    texts = {field.name for group in groups.values() for field in fields(group) if str(field.type) in _TEXT_TYPES}
    explicit = _given_options(options, set().union(*sections.values()), texts)
    check_finite({**from_recipe, **explicit})
    own_record = Path(str(explicit.get("output_dir", ""))) / SETTINGS_NAME
    is_own = recipe is not None and own_record.is_file() and find_recipe(recipe).resolve() == own_record.resolve()
    notes, languages_name_columns = settle(from_recipe, explicit, is_own)
    parser = _OneSentenceParser(list(groups.values()), allow_abbrev=False)
    *parsed, left_over = parser.parse_args_into_dataclasses(
        [*_as_options(from_recipe), *options], return_remaining_strings=True
    )
    if left_over:
        raise ValueError(
            f"Settings are given as `--name value`, but {' '.join(map(repr, left_over))} belongs to no setting: each "
            "takes one value. Put a value with spaces in quotes."
        )
    return Settings(
        **dict(zip(groups, parsed, strict=True)),
        notes=notes,
        given=from_recipe | explicit,
        languages_name_columns=languages_name_columns,
    )


def _split_equals(option: str) -> list[str]:
    return option.split("=", 1) if option.startswith("--") else [option]


def _given_options(options: list[str], known: Iterable[str], texts: Container[str]) -> dict[str, Any]:
    """The options by name, with values parsed as YAML except for text settings; a flag without a value is True."""
    given: dict[str, Any] = {}
    name = ""
    for option in options:
        if option.startswith("--"):
            name = option[2:].replace("-", "_")
            if name not in known and name.removeprefix("no_") not in known:
                raise ValueError(f"There is no option --{name}{did_you_mean(name, known)}.")
            given[name] = True
        elif name:
            value = option if name in texts else _scalar(option)
            given[name] = value if given[name] is True else [*_as_list(given[name]), value]
    return given


def _scalar(text: str) -> Any:
    """A command-line value as a number or boolean, if YAML reads it as one; otherwise the text."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, bool | int | float):
        return value
    try:
        return float(text)  # YAML reads 1e-4 as text
    except ValueError:
        return text


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _as_options(settings: dict[str, Any]) -> list[str]:
    """Settings as command-line arguments."""
    options: list[str] = []
    for name, value in settings.items():
        if value is None:
            continue
        if value is False and name.endswith("_strategy"):
            value = "no"  # YAML reads a bare no as False
        options += [f"--{name}", *(str(item) for item in _as_list(value))]
    return options


class _OneSentenceParser:
    """`HfArgumentParser` that raises `ValueError` instead of printing usage and exiting."""

    def __new__(cls, groups: list[Any], **kwargs: Any) -> Any:
        from transformers import HfArgumentParser

        def refuse(self: ArgumentParser, message: str) -> NoReturn:
            raise ValueError(f"The settings do not parse: {message}.")

        return type("OneSentenceParser", (HfArgumentParser,), {"error": refuse})(groups, **kwargs)
