"""Publish a model on the Hub: weights, configs, tokenizer, code, a card that can be checked, and nothing else."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .options import new_parser

DESCRIPTION = """Publish a model's folder on the Hub, in one commit.

Published are weights, configs, tokenizer, the model's code, its manifest, the score ledger, illustration.html if there
is one, and a card filled by what is known of the model: never the state of training, its arguments, or other files.
Scores come from the ledger that `evaluate` writes.

The access token is that of `hf auth login`, or HF_TOKEN. A push that failed is finished by the same command."""

DETAILS = ("license", "source_lang", "target_lang", "datasets", "data", "limits")


def build_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = new_parser("push", DESCRIPTION)
    parser.add_argument("--model", required=True, metavar="DIR", help="a model's folder")
    parser.add_argument("--repo_id", required=True, metavar="NAME", help="owner/name on the Hub; made if not there")
    parser.add_argument("--private", action="store_true", help="if it is made, only its owner sees it")
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch; it must exist")
    parser.add_argument(
        "--card",
        choices=("ask", "keep", "replace"),
        help="what becomes of a card that was changed on the Hub since the last push (default: an error asks)",
    )
    parser.add_argument("--dry_run", metavar="DIR", help="write what would be published to this folder, push nothing")
    card = parser.add_argument_group("the card", "what no file knows; what is not given is called unknown")
    card.add_argument("--license", metavar="ID", help="licence of the weights as the Hub names it, such as apache-2.0")
    card.add_argument("--source_lang", metavar="xx", help="language of the source; else that of the run")
    card.add_argument("--target_lang", metavar="yy", help="likewise")
    card.add_argument("--datasets", nargs="+", metavar="ID", help="names on the Hub of the training data")
    card.add_argument("--data", metavar="TEXT", help="the training data in words: release, size, licence")
    card.add_argument("--limits", metavar="TEXT", help="what the model was not trained for")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse, push, say where it is."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.dry_run is not None:
        for name in ("private", "revision", "card"):
            if getattr(options, name):
                parser.error(f"--{name} is for a push, and --dry_run pushes nothing: leave out one of them")
    details: dict[str, Any] = {name: value for name in DETAILS if (value := getattr(options, name)) is not None}
    if "datasets" in details:
        details["datasets"] = tuple(details["datasets"])

    from ..hub import push_to_hub, write_publication

    if options.dry_run is not None:
        output = Path(options.dry_run).expanduser()
        notes = write_publication(options.model, options.repo_id, output, **details)
        _print_notes(notes)
        print(f"What would be published as {options.repo_id} is in {output}; nothing was pushed.")
        return 0
    pushed = push_to_hub(
        options.model,
        options.repo_id,
        private=options.private,
        revision=options.revision,
        card=options.card or "ask",
        **details,
    )
    _print_notes(pushed.notes)
    what = f"{len(pushed.files)} files are" if pushed.changed else "Nothing has changed since the last push: all is"
    print(f"{what} at {pushed.url} (commit {pushed.commit[:12]}).")
    return 0


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        sys.stderr.write(f"{note}\n")
