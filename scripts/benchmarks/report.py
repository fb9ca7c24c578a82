"""Measure tables and write them into the README files, each with its provenance.

    python scripts/benchmark.py report                 every table that needs no files from you and has a block
    python scripts/benchmark.py report training        one table
    python scripts/benchmark.py report corpus --source TRAIN_SRC TRAIN_TGT VAL_SRC VAL_TGT [TEST_SRC TEST_TGT]

A block of a README is replaced only after its table was measured. Progress goes to stderr, the new block to stdout.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from . import decoding, lines, memory, planning, starting, trained_models, training
from .markdown import SUMMARY, Figures, files_with_block, table, write_blocks
from .provenance import Provenance, find_provenance
from .rounds import SCRIPT, positive

ROUNDS = 3


@dataclass(frozen=True)
class Table:
    """A table that can be measured.

    Attributes:
        measure: maps settings to figures.
        settings: default settings of the measurement.
        options: names of the settings that `report` has an option for.
        sources: allowed numbers of files for --source.
        source_names: names of these files in messages.
        on_gpu: whether it is measured on a GPU if there is one.
        packages: packages whose versions the caption states.
    """

    measure: Callable[[argparse.Namespace], Figures]
    settings: Mapping[str, Any]
    options: Sequence[str] = ("rounds",)
    sources: Sequence[int] = (0,)
    source_names: str = ""
    on_gpu: bool = False
    packages: Sequence[str] = ("torch", "transformers")


def _defaults(module: Any, **settings: Any) -> dict[str, Any]:
    """The default settings of a module's sub-command."""
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return {**vars(parser.parse_args([])), "rounds": ROUNDS, **settings}


TABLES = {
    "quickstart": Table(trained_models.quickstart_table, {"folder": None}, ["folder"], on_gpu=True),
    "corpus": Table(
        trained_models.corpus_table,
        {"folder": None, "recipe": "multi30k-en-de", "name": None},
        ["folder", "recipe", "name"],
        sources=(4, 6),
        source_names="TRAIN_SRC TRAIN_TGT VAL_SRC VAL_TGT [TEST_SRC TEST_TGT]",
        on_gpu=True,
    ),
    "training": Table(
        training.training_table,
        _defaults(training),
        ["rounds", "steps"],
        sources=(0, 2),
        source_names="SRC TGT",
        on_gpu=True,
    ),
    "memory": Table(memory.memory_table, _defaults(memory)),
    "planning": Table(planning.planning_table, _defaults(planning), packages=("torch",)),
    "decoding": Table(
        decoding.decoding_table,
        {"rounds": ROUNDS, "model": None, "sentences": 1000},
        ["rounds", "model", "sentences"],
        sources=(0, 2),
        source_names="SRC REF",
        packages=("torch", "transformers", "CTranslate2"),
    ),
    "startup": Table(starting.startup_table, {"rounds": 5}),
    "check": Table(starting.check_table, {"rounds": 5}),
    "lines": Table(lines.lines_table, _defaults(lines), ["model", "lines"]),
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `report`; they override the table's own settings."""
    command.add_argument("table", nargs="?", metavar="TABLE", help=f"one of {', '.join(TABLES)}")
    command.add_argument("--source", nargs="+", default=[], metavar="FILE", help="your own text to measure with")
    command.add_argument(
        "--rounds", type=positive, help=f"rounds per figure with a spread (default: {ROUNDS}; startup: 5)"
    )
    command.add_argument("--steps", type=positive, help="training: steps per round")
    command.add_argument("--model", metavar="DIR", help="decoding, lines: a trained model")
    command.add_argument(
        "--sentences", type=positive, help="decoding: number of sentences of the --source file (default: 1000)"
    )
    command.add_argument("--lines", type=positive, nargs="+", help="lines: numbers of lines (default: 10000 100000)")
    command.add_argument("--recipe", help="corpus: name or file of the recipe (default: multi30k-en-de)")
    command.add_argument("--name", help="corpus: display name (default: the recipe's)")
    command.add_argument("--folder", metavar="DIR", help="quickstart, corpus: folder to keep and resume the run in")
    command.add_argument("--output", metavar="FILE", help="write all figures to this JSON file")
    command.add_argument("--dry_run", action="store_true", help="only show the block; do not write it to a README")


def report(options: argparse.Namespace, root: Path = SCRIPT.parents[1]) -> None:
    """Measure tables, print them, and write them to the README files.

    Raises:
        ValueError: before any work, if a table or its block does not exist, or options or files do not fit it.
    """
    chosen = tables_to_measure(options, root)
    sources = [
        find_provenance(root, command_of(name, options), TABLES[name].on_gpu, TABLES[name].packages) for name in chosen
    ]
    kept = {}
    for name, source in zip(chosen, sources, strict=True):
        with contextlib.redirect_stdout(sys.stderr):
            print(f"{name}: measuring", flush=True)
            figures = TABLES[name].measure(argparse.Namespace(**settings_of(name, options)))
        block = rendered(figures, source)
        print(block, end="\n\n", flush=True)
        if not options.dry_run:
            write_blocks(root, name, block, figures.headlines, source.when())
        kept[name] = {**source.to_dict(), "headlines": figures.headlines, "figures": figures.raw}
        if options.output:
            text = json.dumps(kept, indent=1, ensure_ascii=False)
            Path(options.output).write_text(f"{text}\n", encoding="utf-8")


def rendered(figures: Figures, source: Provenance) -> str:
    """The content of a block: the table and its caption."""
    return f"{table(figures.header, figures.rows)}\n\n{source.caption(figures.notes)}"


def tables_to_measure(options: argparse.Namespace, root: Path) -> list[str]:
    """The requested table, or all that need no files and have a block."""
    if options.table is not None:
        require_fit(options.table, options)
        if not options.dry_run:
            require_blocks([options.table, SUMMARY], root)
        return [options.table]
    alone = [name for name in TABLES if 0 in TABLES[name].sources]
    given = {name for name in _given(options) if name != "rounds"}
    if given or options.source:
        raise ValueError(
            f"{_flags([*sorted(given), *(['source'] if options.source else [])])} fits one table: name it."
        )
    if options.dry_run:
        return alone
    require_blocks([SUMMARY], root)
    found = [name for name in alone if files_with_block(root, name)]
    if not found:
        require_blocks(alone[:1], root)
    return found


def require_fit(name: str, options: argparse.Namespace) -> None:
    """Check that a table exists and that the options fit it.

    Raises:
        ValueError: they do not; the message lists what exists.
    """
    if name not in TABLES:
        nearest = get_close_matches(name, TABLES, 1)
        meant = f" Did you mean {nearest[0]}?" if nearest else ""
        raise ValueError(f"There is no table {name!r}; there are {', '.join(TABLES)}.{meant}")
    known = TABLES[name]
    others = sorted(_given(options).keys() - set(known.options))
    if others:
        raise ValueError(f"The table {name} takes {_flags(known.options)}, not {_flags(others)}. Leave it out.")
    if len(options.source) not in known.sources:
        wanted = " or ".join(str(count) for count in known.sources if count)
        files = f"{wanted} files: {known.source_names}" if wanted else "no file"
        raise ValueError(f"--source of the table {name} names {files}; got {len(options.source)}.")


def require_blocks(names: Sequence[str], root: Path) -> None:
    """Check before long work that every table has a block.

    Raises:
        ValueError: a block is missing.
    """
    for name in names:
        if not files_with_block(root, name):
            raise ValueError(
                f"A table replaces what stands between `<!-- report {name} -->` and `<!-- end of report {name} -->`, "
                "each on a line of its own, in README.md or hf_vanilla_transformer/*/README.md, but no file has these "
                "lines. Put them where the table belongs, or give --dry_run to see it."
            )


def command_of(name: str, options: argparse.Namespace) -> list[str]:
    """The arguments that repeat the measurement of a table."""
    arguments = ["report", name]
    if options.source:
        arguments += ["--source", *options.source]
    for option, value in _given(options).items():
        arguments += [f"--{option}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return arguments


def settings_of(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The settings of a table's measurement."""
    return {**TABLES[name].settings, **_given(options), "source": options.source}


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that the user gave."""
    names = sorted({option for known in TABLES.values() for option in known.options})
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _flags(names: Sequence[str]) -> str:
    return ", ".join(f"--{name}" for name in names)
