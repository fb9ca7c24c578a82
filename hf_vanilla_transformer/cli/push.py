"""Publish a model on the Hub: weights, configs, tokenizer, code and a verifiable model card, and nothing else."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .options import new_parser

DESCRIPTION = """Publish a model folder on the Hub, in a single commit.

It publishes the weights, configs, tokenizer, model code, manifest, score ledger, illustration.html if there is one,
and a model card generated from these files; never the training state, the training arguments or other files. Scores
come from the ledger that `evaluate` writes.

The access token is that of `hf auth login`, or HF_TOKEN. To complete a push that failed, run the same command
again."""

DETAILS = ("license", "source_lang", "target_lang", "datasets", "data", "limits")


def build_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = new_parser("push", DESCRIPTION)
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder")
    parser.add_argument("--repo_id", required=True, metavar="NAME", help="owner/name on the Hub; created if missing")
    parser.add_argument("--private", action="store_true", help="create the repository as private")
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch, which must exist")
    parser.add_argument(
        "--card",
        choices=("ask", "keep", "replace"),
        help="what to do with a card that was edited on the Hub since the last push (default: ask, which is an error)",
    )
    parser.add_argument("--dry_run", metavar="DIR", help="write what would be published to this folder; push nothing")
    card = parser.add_argument_group("model card", "facts that no file holds; the card says unknown if not given")
    card.add_argument("--license", metavar="ID", help="licence of the weights, by its Hub id such as apache-2.0")
    card.add_argument("--source_lang", metavar="xx", help="source language (default: that of the run)")
    card.add_argument("--target_lang", metavar="yy", help="target language (default: that of the run)")
    card.add_argument("--datasets", nargs="+", metavar="ID", help="Hub ids of the training data")
    card.add_argument("--data", metavar="TEXT", help="description of the training data: release, size, licence")
    card.add_argument("--limits", metavar="TEXT", help="uses that the model was not trained for")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the options, push, print where the model is."""
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
    what = f"{len(pushed.files)} files are" if pushed.changed else "Nothing has changed since the last push: it is"
    print(f"{what} at {pushed.url} (commit {pushed.commit[:12]}).")
    return 0


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        sys.stderr.write(f"{note}\n")
