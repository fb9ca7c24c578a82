"""Make a model of another format ours."""

import os

from ..conversion.formats import IMPORT_FORMATS
from .formats import add_format_options, describe_formats, format_options
from .options import new_parser

DESCRIPTION = f"""Make a checkpoint of another format a complete model folder of ours, which translates by itself.

{describe_formats(IMPORT_FORMATS)}

The function stays the same: the same logits from the same weights. Every tensor must find its place, and what has no
counterpart here is refused by name. The tokenizer and the generation settings come along."""


def main(argv: list[str] | None = None) -> int:
    """Parse, convert, say where the model is."""
    parser = new_parser("convert", DESCRIPTION)
    add_format_options(parser, "--from", IMPORT_FORMATS, help="what --model is")
    options = parser.parse_args(argv)
    chosen = format_options(parser, options, IMPORT_FORMATS)

    from ..model.hub_access import require_copy_or_hub

    require_copy_or_hub(options.model)  # before seconds of imports

    from ..conversion.folders import convert_folder

    output = os.path.expanduser(options.output)
    model = convert_folder(options.model, options.format, output, **chosen)
    positions = model.config.positional_encoding
    print(f"The model is in {output}: {model.num_parameters():,} parameters, {positions} positions.")
    return 0
