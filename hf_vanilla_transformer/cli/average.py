"""Average the newest checkpoints of a run into one model (section 6.1)."""

from .options import new_parser, positive

DESCRIPTION = """Average the weights of a run's newest checkpoints into a complete model folder.

The paper (section 6.1) averages the last 5 checkpoints of a base model and the last 20 of a big one, written every 10
minutes."""


def main(argv: list[str] | None = None) -> int:
    """Parse the options, average, print where the model is."""
    parser = new_parser("average", DESCRIPTION)
    parser.add_argument(
        "--checkpoints", required=True, metavar="DIR", help="run folder that holds checkpoint-N folders"
    )
    parser.add_argument(
        "--last", type=positive, default=5, metavar="N", help="number of checkpoints (default: %(default)s)"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder to create; if it exists, it must be empty"
    )
    options = parser.parse_args(argv)

    from ..training.averaging import average_checkpoints

    folder = average_checkpoints(options.checkpoints, options.output, options.last)
    print(f"The average of {options.last} checkpoints is in {folder}.")
    return 0
