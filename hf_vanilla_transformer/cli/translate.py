r"""Translate files, pipes or typed lines, in order, one line of output for each line of input."""

import argparse
import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from ..model.json_files import to_json
from .options import (
    add_decoding_options,
    add_length_option,
    add_model_options,
    add_precision_option,
    decoding_settings,
    load_translator,
    new_parser,
    positive,
)
from .streams import count_lines, line_chunks, one_line, open_input, open_output, refuse_existing, require_stdin
from .typed_lines import typed_lines

if TYPE_CHECKING:
    from ..translation import Translation, Translator

DESCRIPTION = r"""Translate text, one sentence per line, from a file or stdin to a file or stdout.

Line n of the output belongs to line n of the input. Only \n ends a line; any other line break inside a
translation is written as a space. A line without text gives an empty line. Lines from a pipe are translated
as soon as they arrive.

formats:
  text              the best translation
  text, --n_best K  one line per hypothesis, best first: "index ||| hypothesis ||| score"; the index of the input
                    line counts from 0 (a hypothesis may itself contain |||)
  jsonl             one object per input line: {"source", "hypotheses": [{"text", "score", "finished"}, ...]};
                    finished is false if the hypothesis reached the length limit

A score is the sum of the tokens' log-probabilities (natural logarithm), divided by
((5 + tokens) / 6) ** gnmt_length_penalty or, if that is not set, by tokens ** length_penalty."""

INTERACTIVE_HELP = """translate lines as you type them, with the editing keys of a shell; the history is kept in
~/.local/state/vanilla-transformer/history"""
Formatter = Callable[[int, str, "Translation"], str]
JSON_LINE_BREAKS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}


def build_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = new_parser("translate", DESCRIPTION)
    add_model_options(parser)
    add_length_option(parser)
    parser.add_argument("--input", metavar="FILE", help="source text, UTF-8 (default: stdin)")
    parser.add_argument(
        "--output", metavar="FILE", help="output file, written when all is translated (default: stdout)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an output file that exists")
    parser.add_argument(
        "--format", choices=("text", "jsonl"), default="text", help="output format (default: %(default)s)"
    )
    parser.add_argument("--n_best", type=positive, default=1, metavar="K", help="hypotheses per line (default: 1)")
    parser.add_argument("--interactive", action="store_true", help=INTERACTIVE_HELP)
    add_decoding_options(parser)
    add_precision_option(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the options, load the model, translate."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.interactive and (options.input or options.output):
        parser.error("--interactive reads the keyboard and writes the screen: leave out --input and --output")
    if options.num_beams is not None and options.n_best > options.num_beams:
        parser.error(f"--n_best {options.n_best} needs as many beams, but --num_beams is {options.num_beams}")
    refuse_existing(options.output, options.overwrite)
    if options.interactive:
        require_stdin()
        return _translate_typed(load_translator(options), options)
    with open_input(options.input) as source:
        translator = load_translator(options)
        with open_output(options.output, options.overwrite) as target:
            unfinished, total = _translate_stream(translator, source, target, options)
    if unfinished:
        sys.stderr.write(
            f"{unfinished:,} of {total:,} translations ran into their length limit and may be cut short: "
            "raise --max_extra_tokens if that is not intended.\n"
        )
    return 0


def _translate_stream(
    translator: "Translator", source: BinaryIO, target: BinaryIO, options: argparse.Namespace
) -> tuple[int, int]:
    """The number of translations that reached the length limit, and of all translations."""
    from tqdm import tqdm

    formatter = _formatter(options)
    unfinished = total = 0
    on_screen = options.output is None and sys.stdout.isatty()  # lines would break the bar
    with tqdm(total=count_lines(options.input), unit=" lines", disable=True if on_screen else None) as bar:
        for lines in line_chunks(source, options.input or "stdin"):
            translations = translator.translate(
                lines,
                n_best=options.n_best,
                batch_tokens=options.batch_tokens,
                first_line=total + 1,
                progress=bar.update,
                max_source_tokens=options.max_source_tokens,
                **decoding_settings(options),
            )
            for offset, (line, translation) in enumerate(zip(lines, translations, strict=True)):
                target.write(formatter(total + offset, line, translation).encode("utf-8"))
                unfinished += not translation.finished
            target.flush()
            total += len(lines)
    return unfinished, total


def _formatter(options: argparse.Namespace) -> Formatter:
    if options.format == "jsonl":
        return as_json
    return as_text if options.n_best == 1 else as_n_best


def as_text(index: int, source: str, translation: "Translation") -> str:
    """The best hypothesis on a line of its own."""
    return one_line(translation.text) + "\n"


def as_n_best(index: int, source: str, translation: "Translation") -> str:
    """Each hypothesis on a line, in the format of Moses n-best lists."""
    return "".join(f"{index} ||| {one_line(h.text)} ||| {h.score:.6f}\n" for h in translation.hypotheses)


def as_json(index: int, source: str, translation: "Translation") -> str:
    """One JSON object on one line, with the exact text and no line break of any kind inside."""
    hypotheses = [{"text": h.text, "score": h.score, "finished": h.finished} for h in translation.hypotheses]
    row = to_json({"source": source, "hypotheses": hypotheses})
    return row.translate(JSON_LINE_BREAKS) + "\n"


def _translate_typed(translator: "Translator", options: argparse.Namespace) -> int:
    """Translate each typed line until the end of input; a line that cannot be translated does not stop it."""
    formatter = _formatter(options)
    settings = decoding_settings(options)
    translator.decoding(n_best=options.n_best, **settings)  # wrong settings do
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # an invalid byte makes a wrong line, not the end
    for index, typed in enumerate(typed_lines()):
        try:
            line = _text_of(typed, index + 1)
            translation = translator.translate(
                [line], n_best=options.n_best, max_source_tokens=options.max_source_tokens, **settings
            )[0]
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            continue
        sys.stdout.write(formatter(index, line, translation))
        sys.stdout.flush()
    return 0


def _text_of(typed: str, number: int) -> str:
    """The typed line, read like any other text."""
    from ..data.text import TextReader

    try:
        data = typed.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # the translator reports it
        return typed
    reader = TextReader("stdin")
    reader.lines = number - 1
    text = reader.decode(data).removesuffix("\n")
    reader.report()
    return text
