"""Options shared by several commands, and their checks: a wrong value is refused before anything is loaded."""

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn

from ..model.setting_ranges import COUNTS, DECODING_OPTIONS, NUMBERS
from . import PROGRAM

if TYPE_CHECKING:
    from ..translation import Translator


LARGEST = 10**9
"""Upper bound of every whole number that a command takes."""


class CommandParser(argparse.ArgumentParser):
    """A parser that also accepts `--output-dir` for `--output_dir`, and reports wrong usage in two lines."""

    def parse_args(  # type: ignore[override] # argparse declares it for every type of namespace
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """As in argparse, but an unknown option is reported before any other error, with the nearest known one."""
        given = with_underscores(sys.argv[1:] if args is None else args)
        known = [*re.findall(r"--\w+", self.format_usage()), "--help"]  # usage has the short -h
        for option in option_names(given):
            if option not in known:
                self.error(unknown_option(option, known))
        return super().parse_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2.

        Args:
            message: the error, without a full stop.
        """
        self.exit(2, f"{self.prog}: error: {message.rstrip('.')}.\nList the options with: {self.prog} --help\n")


def new_parser(command: str, description: str) -> CommandParser:
    """A parser for one command; it lists `--debug`, which the dispatcher removes before the command is called."""
    parser = CommandParser(
        prog=f"{PROGRAM} {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def with_underscores(arguments: Iterable[str]) -> list[str]:
    """Write option names with underscores: `--num-beams=4` becomes `--num_beams=4`."""
    return [_with_underscores(argument) for argument in arguments]


def _with_underscores(argument: str) -> str:
    name, equals, value = argument.partition("=")
    # a value cannot begin with two hyphens unless it follows an equals sign
    return name[:2] + name[2:].replace("-", "_") + equals + value if _OPTION.fullmatch(name) else argument


_OPTION = re.compile(r"--[A-Za-z]\S*")


def option_names(arguments: Iterable[str]) -> list[str]:
    """The options among the arguments, without their values."""
    return [name for argument in arguments if _OPTION.fullmatch(name := argument.partition("=")[0])]


def unknown_option(option: str, known: Iterable[str]) -> str:
    """The message for an unknown option.

    Args:
        option: its name, with the two hyphens.
        known: the known options, also with hyphens.
    """
    near = get_close_matches(option, list(known), n=1)
    return f"there is no option {option}" + (f" (did you mean {near[0]}?)" if near else "")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _whole_number(text, least=1)


def not_negative(text: str) -> int:
    """A whole number of at least 0."""
    return _whole_number(text, least=0)


def _whole_number(text: str, least: int, most: int = LARGEST) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text or 'nothing'}")
    if number > most:
        raise argparse.ArgumentTypeError(f"must be at most {most:,}, got {text}")
    return number


def count_of(setting: str) -> Callable[[str], int]:
    """The argument type of a decoding setting that is a whole number in a range."""
    least, most = COUNTS[setting]
    return lambda text: _whole_number(text, least, most)


def number_of(setting: str) -> Callable[[str], float]:
    """The argument type of a decoding setting that is a finite number in a range."""
    least, most = NUMBERS[setting]

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"must be a number between {least:g} and {most:g}, got {text or 'nothing'}"
            )
        return value

    return number


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the model, the device and the batch size."""
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="model folder, or its name on the Hub")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the accelerator if there is one, else cpu)")
    parser.add_argument(
        "--batch_tokens",
        type=positive,
        default=4096,
        metavar="N",
        help="maximum tokens per batch on each side, padding included; lower it if memory runs out (default: "
        "%(default)s)",
    )


def add_length_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the longest line to accept."""
    parser.add_argument(
        "--max_source_tokens",
        type=positive,
        default=5000,
        metavar="N",
        help="maximum tokens per line; time and memory grow with the square of the length (default: %(default)s)",
    )


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """Add the decoding options; unset ones come from the model's generation config."""
    group = parser.add_argument_group("decoding", "unset options come from the model's generation config")
    group.add_argument("--num_beams", type=count_of("num_beams"), metavar="K", help="beam size; 1 is greedy search")
    penalty = group.add_mutually_exclusive_group()
    penalty.add_argument(
        "--gnmt_length_penalty",
        type=number_of("gnmt_length_penalty"),
        metavar="A",
        help="scores are divided by ((5 + tokens) / 6) ** A",
    )
    penalty.add_argument(
        "--length_penalty",
        type=number_of("length_penalty"),
        metavar="A",
        help="scores are divided by tokens ** A",
    )
    group.add_argument(
        "--coverage_penalty",
        type=number_of("coverage_penalty"),
        metavar="B",
        help="weight of the penalty for untranslated source tokens",
    )
    group.add_argument(
        "--max_extra_tokens",
        type=count_of("max_extra_tokens"),
        metavar="N",
        help="maximum length of a translation: the source's tokens plus N",
    )


def add_precision_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the precision on a CPU."""
    parser.add_argument(
        "--precision",
        choices=("auto", "model", "bf16", "int8"),
        default="model",
        help="precision of a vanilla_transformer model on a CPU. model (default) is that of the weights: translations "
        "depend neither on the machine nor on the rest of the batch. bf16 and int8 are faster but change a few "
        "translations; with int8 they also depend on the rest of the batch. auto is the fastest on this machine, "
        "named on stderr",
    )


def decoding_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The given decoding options, as arguments of `Translator.translate`."""
    return {name: value for name in DECODING_OPTIONS if (value := getattr(options, name)) is not None}


def load_translator(options: argparse.Namespace) -> "Translator":
    """The model and tokenizer of `--model` on `--device`."""
    from ..hub_access import require_copy_or_hub

    require_copy_or_hub(options.model)  # before seconds of imports

    from ..translation import Translator

    translator = Translator.from_pretrained(
        options.model, device=options.device, precision=getattr(options, "precision", None)
    )
    if getattr(options, "precision", None) == "auto" and translator.precision is not None:
        sys.stderr.write(f"Decoding in {translator.precision}, the fastest on this machine.\n")
    return translator
