"""Draw loss, learning rate and BLEU of a run over its optimizer steps."""

from .options import new_parser

DESCRIPTION = """Draw loss, learning rate, BLEU and chrF of a run over its optimizer steps, from its metrics.jsonl.

The run may still be going on. Training draws the same picture when it ends."""


def main(argv: list[str] | None = None) -> int:
    """Parse, draw, say where the picture is."""
    parser = new_parser("curves", DESCRIPTION)
    parser.add_argument("--run", required=True, metavar="DIR", help="folder of a run, with metrics.jsonl in it")
    parser.add_argument(
        "--output",
        metavar="FILE.png",
        help="where the picture goes, replacing what is there (default: training_curves.png in the run's folder)",
    )
    options = parser.parse_args(argv)

    from ..training.curves import draw_training_curves

    print(f"The curves are in {draw_training_curves(options.run, options.output)}.")
    return 0
