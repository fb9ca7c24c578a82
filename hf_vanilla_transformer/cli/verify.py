"""Recompute every score on a model's card from its score ledger, or with the model itself."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .options import new_parser

if TYPE_CHECKING:
    from ..translation import Translator

DESCRIPTION = """Recompute every score of a model from the translations in its score ledger, and compare it with the
card (metadata and table) and the ledger. With --decode, also translate the test sets again with the model.

A score that differs by more than 0.01 or cannot be computed is reported; the exit code is 0 only if all scores agree.
References are found in the ledger, in the dataset that it names, or where `evaluate` read them on this machine;
otherwise give the files. Files are matched by fingerprint, and a file that belongs to no test set in the ledger is an
error."""


def build_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = new_parser("verify", DESCRIPTION)
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="model folder, or its name on the Hub")
    parser.add_argument("--decode", action="store_true", help="also translate the test sets with the model")
    parser.add_argument(
        "--device", help="for --decode: cpu, cuda, cuda:1, ... (default: the accelerator if there is one)"
    )
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit of a model on the Hub")
    parser.add_argument(
        "--source", nargs="+", default=[], metavar="FILE", help="sources of the test sets, for --decode"
    )
    parser.add_argument("--reference", nargs="+", default=[], metavar="FILE", help="references of the test sets")
    parser.add_argument(
        "--compare_with",
        metavar="DIR_OR_ID",
        help="also test whether another model's scores on the same test sets differ significantly",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the options, fetch the model, recompute, report."""
    parser = build_parser()
    options = parser.parse_args(argv)
    for name in ("source", "device"):
        if getattr(options, name) and not options.decode:
            parser.error(f"--{name} is for --decode, without which nothing is translated")

    from ..hub_access import require_copy_or_hub

    require_copy_or_hub(options.model, options.revision)  # before seconds of imports

    from ..evaluation import read_ledger
    from ..hub.comparison import compare_ledgers
    from ..hub.ledger_texts import TestSets, require_wanted
    from ..hub.verification import verify

    folder, is_local = _folder(options.model, options.revision, options.decode)
    entries = read_ledger(folder)
    if entries:
        require_wanted(options.reference, entries, "reference")
        require_wanted(options.source, entries, "source")
    test_sets = TestSets([*options.source, *options.reference], is_local)
    result = verify(folder, test_sets, _translator(options, folder) if options.decode else None)
    for check in result.checks:
        print(check)
    if options.compare_with is not None:
        other, _ = _folder(options.compare_with, None, False)
        print(f"\nCompared with {options.compare_with}, paired bootstrap:")
        print("\n".join(compare_ledgers(folder, other, test_sets)))
    for line in (*result.notes, *result.problems):
        sys.stderr.write(f"{line}\n")
    differing = sum(check.differs for check in result.checks)
    print(
        f"{len(result.checks)} scores recomputed, {differing} differ by more than 0.01"
        + (f"; {len(result.problems)} problems, listed on stderr" if result.problems else "")
    )
    return 0 if result.passed else 1


def _folder(model: str, revision: str | None, whole: bool) -> tuple[Path, bool]:
    """The folder of the model's files, and whether it is a local folder rather than a Hub download."""
    from ..hub.fetching import fetch
    from ..hub_access import HUB_ID

    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"--revision is for a model on the Hub, but {model} is a local folder. Leave it out.")
        return folder, True
    if not HUB_ID.fullmatch(model):
        raise FileNotFoundError(f"There is no model folder {model}. Check the path.")
    return fetch(model, revision, whole=whole), False


def _translator(options: argparse.Namespace, folder: Path) -> "Translator":
    from ..translation import Translator

    return Translator.from_pretrained(folder, device=options.device)
