"""Average the newest checkpoints of a run into one model (section 6.1)."""

from .options import new_parser, positive

DESCRIPTION = """Average the weights of the newest checkpoints of a run into a complete model folder.

Section 6.1 averages the last 5 checkpoints of a base model and the last 20 of a big one, written every 10 minutes."""


def main(argv: list[str] | None = None) -> int:
    """Parse, average, say where the model is."""
    parser = new_parser("average", DESCRIPTION)
    parser.add_argument("--checkpoints", required=True, metavar="DIR", help="folder of a run, with checkpoint-N in it")
    parser.add_argument("--last", type=positive, default=5, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to make; must not hold anything")
    options = parser.parse_args(argv)

    from ..training.averaging import average_checkpoints

    folder = average_checkpoints(options.checkpoints, options.output, options.last)
    print(f"The average of {options.last} checkpoints is in {folder}.")
    return 0
