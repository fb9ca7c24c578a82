"""Convert a model of another format to ours."""

import os

from ..conversion.formats import IMPORT_FORMATS
from .formats import add_format_options, describe_formats, format_options
from .options import new_parser

DESCRIPTION = f"""Convert a checkpoint of another format to a complete model folder of this package.

{describe_formats(IMPORT_FORMATS)}

The converted model computes the same logits from the same weights. Every tensor must have a counterpart here; one
without is an error that names it. The tokenizer and the generation settings are converted too."""


def main(argv: list[str] | None = None) -> int:
    """Parse the options, convert, print where the model is."""
    parser = new_parser("convert", DESCRIPTION)
    add_format_options(parser, "--from", IMPORT_FORMATS, help="format of --model")
    options = parser.parse_args(argv)
    chosen = format_options(parser, options, IMPORT_FORMATS)

    from ..hub_access import require_copy_or_hub

    require_copy_or_hub(options.model)  # before seconds of imports

    from ..conversion.folders import convert_folder

    output = os.path.expanduser(options.output)
    model = convert_folder(options.model, options.format, output, **chosen)
    positions = model.config.positional_encoding
    print(f"The model is in {output}: {model.num_parameters():,} parameters, {positions} positions.")
    return 0
