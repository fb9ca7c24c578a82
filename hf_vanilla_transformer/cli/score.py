"""Compute the log-probability of given translations, with one forward pass for each."""

import math
import sys

from .options import add_length_option, add_model_options, load_translator, new_parser
from .streams import open_output, refuse_existing

DESCRIPTION = r"""Compute the log-probability of given translations (forced decoding).

Writes one line per pair, in order: log-probability, number of tokens and log-probability per token, separated by
tabs. Logarithms are natural; tokens are those of the target, end of sentence included. The last column is the negative
of the model's loss on that pair. The totals go to stderr."""

CHUNK_PAIRS = 2000


def main(argv: list[str] | None = None) -> int:
    """Parse the options, load the model, score."""
    parser = new_parser("score", DESCRIPTION)
    add_model_options(parser)
    add_length_option(parser)
    parser.add_argument("--source", required=True, metavar="FILE", help="source text: UTF-8, one sentence per line")
    parser.add_argument("--target", required=True, metavar="FILE", help="its translations, line by line")
    parser.add_argument("--output", metavar="FILE", help="output file, written when all is scored (default: stdout)")
    parser.add_argument("--overwrite", action="store_true", help="replace an output file that exists")
    options = parser.parse_args(argv)
    if options.overwrite and options.output is None:
        parser.error("--overwrite is for --output, which is not given")
    refuse_existing(options.output, options.overwrite)

    from ..hub_access import require_copy_or_hub

    require_copy_or_hub(options.model)  # before seconds of imports

    from tqdm import tqdm

    from ..data import load_parallel_corpus
    from ..translation import target_log_probabilities

    corpus = load_parallel_corpus(options.source, options.target)
    translator = load_translator(options)
    total, tokens = 0.0, 0
    on_screen = options.output is None and sys.stdout.isatty()  # lines would break the bar
    with (
        open_output(options.output, options.overwrite) as output,
        tqdm(total=len(corpus), unit=" pairs", disable=True if on_screen else None) as bar,
    ):
        for start in range(0, len(corpus), CHUNK_PAIRS):
            pairs = corpus[start : start + CHUNK_PAIRS]
            scores = target_log_probabilities(
                translator.model,
                translator.tokenizer,
                pairs["source"],
                pairs["target"],
                options.batch_tokens,
                first_line=start + 1,
                progress=bar.update,
                max_tokens=options.max_source_tokens,
            )
            for score in scores:
                output.write(f"{score.log_probability:.6f}\t{score.tokens}\t{score.mean:.6f}\n".encode())
                total += score.log_probability
                tokens += score.tokens
    sys.stderr.write(
        f"{len(corpus):,} pairs, {tokens:,} tokens: {total / tokens:.4f} per token, "
        f"perplexity {math.exp(min(-total / tokens, 700)):.2f}\n"
    )
    return 0
