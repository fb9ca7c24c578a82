"""Write an offline page that shows how a model translates a sentence, and figures for papers and slides."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_decoding_options, decoding_settings, new_parser

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..illustration import Illustration

DESCRIPTION = """Write an HTML page that shows step by step how a model translates a sentence.

The page follows Jay Alammar's article "The Illustrated Transformer". It is a single file, works offline, and shows the
model's own numbers: embeddings, attention step by step, the inside of a layer, all heads, each decoding step, the
beam. With --target it also shows the training objective.

With --figures, also write PNG and SVG files for papers and slides: attention of every layer and head, positional
encodings, the learning rate, the smoothed target, token probabilities."""


DEFAULT_OUTPUT = "illustration.html"
OUTPUT_HELP = f"""output page; replaces an earlier page but no other file (default: {DEFAULT_OUTPUT} in the current
folder, or no page if --figures is given)"""


def main(argv: list[str] | None = None) -> int:
    """Parse the options, illustrate, print where everything is."""
    options = _parse(argv)

    from tqdm import tqdm

    from ..hub_access import require_copy_or_hub
    from ..illustration import check_place

    if options.output is not None:
        check_place(options.output)  # before minutes of work
    require_copy_or_hub(options.model)  # before seconds of imports
    # one line with the current step, on a terminal only
    with tqdm(bar_format="{desc} [{elapsed}]", leave=False, disable=None) as line:
        _illustrate(options, line)
    return 0


def _illustrate(options: argparse.Namespace, line: "tqdm[Any]") -> None:
    """Write the page and figures, and print where they are."""
    progress = line.set_description_str
    progress("loading the model")
    from ..illustration import illustrate
    from ..translation import choose_device, load_model_and_tokenizer

    model, tokenizer = load_model_and_tokenizer(options.model)
    model.to(choose_device(options.device))
    illustration = illustrate(
        model, tokenizer, options.text, options.target, progress=progress, **decoding_settings(options)
    )
    if options.output is not None:
        progress("writing the page")
        place = illustration.save(options.output)
        line.write(f"The page is {place}: {len(illustration.html) / 1e6:.1f} MB, for any browser.")
    if options.figures is not None:
        paths = _with_rates(illustration, options.model).draw_figures(
            options.figures, lambda name: progress(f"drawing {name}")
        )
        line.write(f"{len(paths)} figures are in {options.figures}.")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = new_parser("illustrate", DESCRIPTION)
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="model folder, or its name on the Hub")
    parser.add_argument("--text", required=True, metavar="SENTENCE", help="source sentence, at most 128 tokens")
    parser.add_argument(
        "--target", metavar="SENTENCE", help="its reference translation, to show the training objective"
    )
    parser.add_argument("--output", metavar="FILE.html", help=OUTPUT_HELP)
    parser.add_argument("--figures", metavar="DIR", help="folder for figures; created if missing")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the accelerator if there is one, else cpu)")
    add_decoding_options(parser)
    options = parser.parse_args(argv)
    if options.output is None and options.figures is None:
        options.output = DEFAULT_OUTPUT
    if options.output is not None:
        from ..illustration import check_ending

        try:
            check_ending(options.output)
        except ValueError as error:
            parser.error(f"--output: {error}")
    return options


def _with_rates(illustration: "Illustration", model: str) -> "Illustration":
    """Add the learning rates that the model's run logged, if its folder has them."""
    from dataclasses import replace

    from ..training.curves import METRICS_NAME, read_curves

    folder = Path(model)
    if not (folder / METRICS_NAME).is_file():
        return illustration
    rates = read_curves(folder).get("learning_rate", {})
    return replace(illustration, learning_rates=sorted(rates.items()))
