"""The options of `convert` and `export`, built from the tables in `conversion/formats.py`."""

import argparse
import textwrap
from collections.abc import Mapping

from ..conversion.formats import Format, FormatOption

_WIDTH = 119


def describe_formats(formats: Mapping[str, Format]) -> str:
    """List the formats and the purpose of each, as a section of a command's description."""
    column = 4 + max(map(len, formats))
    lines = ["formats:"]
    for name, row in formats.items():
        lines += textwrap.wrap(
            row.purpose,
            _WIDTH,
            initial_indent=f"  {name:<{column - 2}}",
            subsequent_indent=" " * column,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def add_format_options(parser: argparse.ArgumentParser, flag: str, formats: Mapping[str, Format], help: str) -> None:
    """Add the options for the format, the model and the output, and every option of any format."""
    parser.add_argument(flag, required=True, choices=tuple(formats), dest="format", help=help)
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="model folder, or its name on the Hub")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder to create; if it exists, it must be empty"
    )
    for name in _option_names(formats):
        rows = [row for row in formats.values() if row.has_option(name)]
        texts = [f"{_described(row.option(name))} ({row.name} only)" for row in rows]
        parser.add_argument(f"--{name}", metavar=rows[0].option(name).metavar, help="; ".join(texts))


def format_options(
    parser: argparse.ArgumentParser, options: argparse.Namespace, formats: Mapping[str, Format]
) -> dict[str, str]:
    """The given options that belong to a format; one of another format is a usage error."""
    given = {name: value for name in _option_names(formats) if (value := getattr(options, name)) is not None}
    row = formats[options.format]
    for name, value in given.items():
        if not row.has_option(name):
            others = " and ".join(other.name for other in formats.values() if other.has_option(name))
            parser.error(f"--{name} is for {others}: leave it out for {row.name}")
        choices = row.option(name).choices
        if choices and value not in choices:
            parser.error(f"--{name} must be one of {', '.join(choices)}, got {value!r}")
    if not options.model:
        parser.error("--model must not be empty")
    return given


def _option_names(formats: Mapping[str, Format]) -> list[str]:
    return list(dict.fromkeys(option.name for row in formats.values() for option in row.options))


def _described(option: FormatOption) -> str:
    return f"{option.help}: {', '.join(option.choices)}" if option.choices else option.help
