"""Write one offline page that walks a sentence through a model, and figures for papers and slides."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_decoding_options, decoding_settings, new_parser

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..illustration import Illustration

DESCRIPTION = """Write one HTML page that walks a sentence through a model, in the order of Jay Alammar's article.

The page is one file, works offline, and shows the model's own numbers: embeddings, attention step by step, a layer
from inside, all heads, each step of decoding, the beam; with --target also what training sees.

With --figures, PNG and SVG files for papers and slides: attention of every layer and head, positional encodings, the
learning rate, the smoothed target, token probabilities."""


DEFAULT_OUTPUT = "illustration.html"
OUTPUT_HELP = f"""where the page goes, replacing an earlier page but no other file (default: {DEFAULT_OUTPUT} in the
current folder, or no page if --figures is given)"""


def main(argv: list[str] | None = None) -> int:
    """Parse, illustrate, say where everything is."""
    options = _parse(argv)

    from ..model.hub_access import require_copy_or_hub

    require_copy_or_hub(options.model)  # before seconds of imports

    from tqdm import tqdm

    from ..illustration import check_place

    if options.output is not None:
        check_place(options.output)  # before minutes of work
    # one line that says what is done now, on a terminal alone
    with tqdm(bar_format="{desc} [{elapsed}]", leave=False, disable=None) as line:
        _illustrate(options, line)
    return 0


def _illustrate(options: argparse.Namespace, line: "tqdm[Any]") -> None:
    """Do the work, and say where everything is."""
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
    parser.add_argument("--text", required=True, metavar="SENTENCE", help="the sentence, at most 128 tokens")
    parser.add_argument("--target", metavar="SENTENCE", help="a translation of it, to show what training sees")
    parser.add_argument("--output", metavar="FILE.html", help=OUTPUT_HELP)
    parser.add_argument("--figures", metavar="DIR", help="where figures go; the folder is made if it is not there")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; the accelerator if there is one")
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
    """The same, with the learning rates that the model's run logged, if its folder has them."""
    from dataclasses import replace

    from ..training.curves import METRICS_NAME, read_curves

    folder = Path(model)
    if not (folder / METRICS_NAME).is_file():
        return illustration
    rates = read_curves(folder).get("learning_rate", {})
    return replace(illustration, learning_rates=sorted(rates.items()))
