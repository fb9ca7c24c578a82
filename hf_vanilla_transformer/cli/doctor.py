"""Check whether a checkpoint of any sequence-to-sequence model is sound."""

import argparse
import os
import sys
from textwrap import TextWrapper
from typing import TYPE_CHECKING

from ..model.json_files import to_json
from .options import new_parser

if TYPE_CHECKING:
    from ..doctor import Finding

DESCRIPTION = """Check whether a checkpoint of any sequence-to-sequence model is sound.

Checks its files (manifest, finite and complete weights, tied weights, saving and loading), its vocabulary and
generation settings, tokenization on both sides, and decoding: greedy search equals a beam of 1; results are the same
with and without a cache, in a batch or alone, with padding on either side; translations end before the length limit.
Nothing is changed.

Only --seal writes: it adds a manifest to a folder that passes the checks of its files. Whatever loads the folder
later compares it with that manifest. Name a file that differs from an existing manifest with --accept.

The exit code is 1 if a check fails, or with --seal if nothing is sealed. A note is for information only; it is not a
failure."""


def main(argv: list[str] | None = None) -> int:
    """Parse the options, run the checks, report."""
    parser = new_parser("doctor", DESCRIPTION)
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="model folder, or its name on the Hub")
    parser.add_argument(
        "--text",
        action="append",
        default=[],
        metavar="SENTENCE",
        help="a source sentence to test with; repeat for more (default: words of the model's vocabulary)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--seal", action="store_true", help="write the folder's manifest if its files are sound")
    parser.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="FILE",
        help="with --seal: a file that differs from the manifest on purpose; repeat for more",
    )
    options = parser.parse_args(argv)
    if options.accept and not options.seal:
        parser.error("--accept is for --seal")
    if not all(text.strip() for text in options.text):
        parser.error("--text needs a sentence, but one of them is empty")

    from ..hub_access import require_copy_or_hub

    if not options.seal:  # which is for folders
        require_copy_or_hub(options.model)  # before seconds of imports

    from ..doctor import examine, require_sealable, seal

    folder = os.path.expanduser(options.model)
    if options.seal:
        require_sealable(folder, options.accept)
    findings = []
    for finding in examine(options.model, tuple(options.text), options.accept):
        findings.append(finding)
        if not options.json:
            _print_row(finding)
    sealed = seal(folder, options.accept, findings) if options.seal else None
    failures = sum(finding.outcome == "fail" for finding in findings)
    if options.seal:
        print(f"\nSealed: {sealed}." if sealed else "\nNot sealed: its files are not whole.", file=sys.stderr)
    if options.json:
        _print_json(options, findings)
    elif failures:
        print(f"\n{failures} of {len(findings)} checks failed.")
    else:
        print(f"\n{options.model} is sound.")
    return int(not sealed) if options.seal else int(failures > 0)


def _print_row(finding: "Finding") -> None:
    mark = finding.outcome.upper() if finding.outcome == "fail" else finding.outcome
    lines = TextWrapper(width=80, break_long_words=False, break_on_hyphens=False)
    first = f"{finding.check:<24} {mark:<13}"
    text = finding.found + (f" ({finding.remedy})" if finding.outcome == "note" and finding.remedy else "")
    found = lines.wrap(text) or [""]
    print(first + found[0])
    for line in found[1:]:
        print(" " * len(first) + line)
    if finding.outcome == "fail" and finding.remedy:
        for line in lines.wrap(f"-> {finding.remedy}"):
            print(" " * len(first) + line)
    sys.stdout.flush()


def _print_json(options: argparse.Namespace, findings: "list[Finding]") -> None:
    from dataclasses import asdict

    sound = all(finding.outcome != "fail" for finding in findings)
    report = {"model": options.model, "sound": sound, "checks": [asdict(finding) for finding in findings]}
    print(to_json(report, indent=1))
