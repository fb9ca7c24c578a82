"""Plot a run's loss, learning rate and BLEU by optimizer step."""

from .options import new_parser

DESCRIPTION = """Plot a run's loss, learning rate, BLEU and chrF by optimizer step, from its metrics.jsonl.

The run may still be in progress. Training draws the same picture when it ends."""


def main(argv: list[str] | None = None) -> int:
    """Parse the options, draw, print where the picture is."""
    parser = new_parser("curves", DESCRIPTION)
    parser.add_argument("--run", required=True, metavar="DIR", help="run folder that holds metrics.jsonl")
    parser.add_argument(
        "--output",
        metavar="FILE.png",
        help="output picture; an existing file is replaced (default: training_curves.png in the run folder)",
    )
    options = parser.parse_args(argv)

    from ..training.curves import draw_training_curves

    print(f"The curves are in {draw_training_curves(options.run, options.output)}.")
    return 0
