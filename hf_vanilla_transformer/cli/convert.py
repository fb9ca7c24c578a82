"""Make a Marian (OPUS-MT) or FSMT (WMT19) model ours."""

import os

from .options import new_parser

DESCRIPTION = """Make a checkpoint of another format a complete model folder of ours, which translates by itself.

The function stays the same: the same logits from the same weights. Every tensor must find its place, and what has no
counterpart here is refused by name. The tokenizer and the generation settings come along.

positions:
  OPUS-MT models were trained by Marian C++ with the sinusoids of Tensor2Tensor; transformers computes them a little
  differently. Without the option the folder does what transformers does; --positions tensor2tensor takes those that
  the model was trained with."""


def main(argv: list[str] | None = None) -> int:
    """Parse, convert, say where the model is."""
    parser = new_parser("convert", DESCRIPTION)
    parser.add_argument("--from", required=True, choices=("marian", "fsmt"), dest="kind", help="what --model is")
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="model folder, or its name on the Hub")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to make; must not hold anything")
    parser.add_argument("--positions", choices=("tensor2tensor",), help="of Marian C++ (marian only; see above)")
    options = parser.parse_args(argv)
    if not options.model:
        parser.error("--model must not be empty")
    if options.positions and options.kind != "marian":
        parser.error(f"--positions is for marian: the positions of {options.kind} are known")
    output = os.path.expanduser(options.output)

    from transformers.utils.logging import disable_progress_bar

    from ..conversion.folders import require_its_tokenizer, save_converted
    from ..conversion.fsmt import from_fsmt
    from ..conversion.marian import from_marian
    from ..model.whole_folders import require_empty_folder
    from ..tokenization import load_tokenizer

    disable_progress_bar()  # reading a file of weights is no long work
    require_empty_folder(output)
    model = from_fsmt(options.model) if options.kind == "fsmt" else from_marian(options.model, options.positions)
    tokenizer = load_tokenizer(options.model)
    require_its_tokenizer(model.config, tokenizer, options.model)
    about = {"format": options.kind, "positions": model.config.positional_encoding}
    folder = save_converted(model, tokenizer, output, {"converted_from": about})
    print(f"The model is in {folder}: {model.num_parameters():,} parameters, {about['positions']} positions.")
    return 0
