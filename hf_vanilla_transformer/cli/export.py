"""Export a model to another format."""

import os

from ..conversion.formats import EXPORT_FORMATS
from .formats import add_format_options, describe_formats, format_options
from .options import new_parser

DESCRIPTION = f"""Export a model and its tokenizer to a folder in another format.

{describe_formats(EXPORT_FORMATS)}

A feature that the other format does not support is an error that names it."""


def main(argv: list[str] | None = None) -> int:
    """Parse the options, export, print where the folder is."""
    parser = new_parser("export", DESCRIPTION)
    add_format_options(parser, "--to", EXPORT_FORMATS, help="output format")
    options = parser.parse_args(argv)
    chosen = format_options(parser, options, EXPORT_FORMATS)

    from ..hub_access import require_copy_or_hub

    require_copy_or_hub(options.model)  # before seconds of imports

    from ..conversion.folders import export_folder

    folder = export_folder(options.model, options.format, os.path.expanduser(options.output), **chosen)
    print(f"The model is in {folder}, for {options.format}.")
    return 0
