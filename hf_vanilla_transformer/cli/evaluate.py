"""Score a model's translations of a test set: BLEU, chrF and TER with their signatures; translations are kept."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .options import (
    add_decoding_options,
    add_length_option,
    add_model_options,
    add_precision_option,
    decoding_settings,
    load_translator,
    new_parser,
)

if TYPE_CHECKING:
    from ..evaluation import EvaluationResult, Origin

DESCRIPTION = """Translate a test set and score the translations.

The test set is two aligned text files (--source, --reference; several references are several files), or a split of a
dataset (--dataset_name), such as builtin-fr-en. Scores go to stdout; hypotheses.txt and scores.json, with signatures,
decoding and fingerprints of the texts, go to the output folder: by default MODEL/evaluation/NAME, NAME being the
reference's file name without its ending, or the dataset and split. The same goes into the model folder's
score_ledger.json, from which `push` makes the card and `verify` computes every figure again; with --output_dir outside
that folder it goes into a ledger there, and the model's stays as it is. Intervals are bootstrap 95 %, percentiles of
1,000 resamples.

What cannot be a score of the model's pair of languages (lines without text, swapped sides, languages that are not the
model's, sources for references) is refused; what hardly can (empty or copied translations, a figure far below the
model's validation) is kept and not entered in a ledger. --record enters it all the same, --no_record enters nothing.
--entries lists what a model's ledger holds, --forget takes an entry out."""

_OPTIONS = {
    "pass overwrite=True": "give --overwrite",
    "another output_dir": "another --output_dir",
    "pass record=True": "give --record",
    "record=False": "--no_record",
}
"""What messages call the arguments of `ModelEvaluation`, and what they are called here."""


def build_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = new_parser("evaluate", DESCRIPTION)
    add_model_options(parser)
    add_length_option(parser)
    parser.add_argument("--source", metavar="FILE", help="UTF-8 text, one sentence a line")
    parser.add_argument("--reference", nargs="+", metavar="FILE", help="its translation; several for several")
    parser.add_argument("--dataset_name", metavar="NAME", help="instead of files: builtin-fr-en, a Hub name, a folder")
    parser.add_argument("--dataset_config_name", metavar="NAME", help="configuration of a Hub dataset")
    parser.add_argument("--split", help="split of the dataset (default: test)")
    parser.add_argument("--source_lang", metavar="xx", help="language of the source; a dataset may name them")
    parser.add_argument("--target_lang", metavar="yy", help="likewise; also the rules of the Moses tokeniser")
    parser.add_argument("--output_dir", metavar="DIR", help="where hypotheses and scores are kept")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there")
    parser.add_argument(
        "--keep_references",
        action="store_true",
        help="put the test set itself into the ledger, so that anyone can verify; only if its licence lets you",
    )
    parser.add_argument(
        "--nearest_neighbour_from",
        nargs="+",
        metavar="TRAIN",
        help="also score copying the translation of the most similar training sentence: two text files, one table, "
        "or a dataset's name (its training split)",
    )
    ledger = parser.add_argument_group(
        "the ledger", "which figures `push` and `verify` know of"
    ).add_mutually_exclusive_group()
    ledger.add_argument("--record", action="store_true", help="enter the score in the model's ledger, whatever it is")
    ledger.add_argument("--no_record", action="store_true", help="enter it in no ledger")
    ledger.add_argument(
        "--entries", action="store_true", help="list the entries of the model's ledger, and do no more"
    )
    ledger.add_argument(
        "--forget",
        nargs="+",
        metavar="ENTRY",
        help="take these entries out of it, by their ids or test sets as --entries lists them, and do no more",
    )
    add_decoding_options(parser)
    add_precision_option(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse, evaluate, print."""
    parser = build_parser()
    options = parser.parse_args(argv)
    _check_usage(parser, options)
    if options.entries or options.forget:
        return show_ledger(Path(options.model), options.forget or ())
    origin = _origin(options)
    _check_results_folder(parser, options, origin)

    from ..model.hub_access import require_copy_or_hub

    require_copy_or_hub(options.model)  # before seconds of imports

    from tqdm import tqdm

    from ..evaluation import ModelEvaluation

    with _in_words_of_options():
        evaluation = ModelEvaluation(
            options.model,
            origin,
            options.output_dir,
            overwrite=options.overwrite,
            record=True if options.record else False if options.no_record else None,
            keep_references=options.keep_references,
            training_text=_training_text(options),
        )
        translator = load_translator(options)
        evaluation.check_pairs(translator, options.batch_tokens)
    for fault in evaluation.faults:
        sys.stderr.write(f"{fault}\n")
    with tqdm(total=len(evaluation.texts.sources), unit=" sentences", disable=None) as bar:
        result = evaluation.run(
            translator,
            batch_tokens=options.batch_tokens,
            max_source_tokens=options.max_source_tokens,
            progress=bar.update,
            **decoding_settings(options),
        )
    print(result.report())
    _print_ledger(options, result)
    return 0


def _check_usage(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse what does not go together, and options that would do nothing."""
    if options.entries or options.forget:
        given = [f"--{name}" for name, value in vars(options).items() if value != parser.get_default(name)]
        if others := set(given) - {"--model", "--entries", "--forget"}:
            parser.error(f"--entries and --forget evaluate nothing: leave out {', '.join(sorted(others))}")
        return
    if options.dataset_name is None and (options.source is None or options.reference is None):
        parser.error("a test set is needed: give --source and --reference, or --dataset_name")
    if options.dataset_name is not None and (options.source is not None or options.reference is not None):
        parser.error("the test set comes from files or from a dataset: leave out one of them")
    if options.nearest_neighbour_from is not None and len(options.nearest_neighbour_from) > 2:
        parser.error("--nearest_neighbour_from takes two text files, or one table or dataset")
    if options.source_lang is not None and options.target_lang is None:
        parser.error("--source_lang needs --target_lang")
    if options.dataset_name is None and options.split is not None:
        parser.error("--split is of a dataset, and the test set comes from files: leave it out")
    of_dataset = options.dataset_name is not None or len(options.nearest_neighbour_from or ()) == 1
    if options.dataset_config_name is not None and not of_dataset:
        parser.error("--dataset_config_name is of a dataset, and none is given: leave it out")
    if options.keep_references and options.no_record:
        parser.error("--keep_references is for the ledger, in which --no_record enters nothing: leave out one of them")
    options.split = options.split or "test"


def _origin(options: argparse.Namespace) -> "Origin":
    from ..evaluation import Origin

    languages = {"source_lang": options.source_lang, "target_lang": options.target_lang}
    if options.dataset_name is None:
        return Origin(options.source, tuple(options.reference), **languages)
    named = {"dataset_name": options.dataset_name, "dataset_config_name": options.dataset_config_name}
    return Origin(**named, split=options.split, **languages)


def _training_text(options: argparse.Namespace) -> "Origin | None":
    from ..evaluation import Origin

    if options.nearest_neighbour_from is None:
        return None
    name, *target = options.nearest_neighbour_from
    if target:
        return Origin(name, tuple(target))
    named = {"dataset_name": name, "dataset_config_name": options.dataset_config_name}
    return Origin(**named, split="train", source_lang=options.source_lang, target_lang=options.target_lang)


def _check_results_folder(parser: argparse.ArgumentParser, options: argparse.Namespace, origin: "Origin") -> None:
    from ..evaluation.evaluating import results_folder

    try:
        results_folder(options.model, origin, options.output_dir)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error).replace("output_dir", "--output_dir", 1))


@contextmanager
def _in_words_of_options() -> Iterator[None]:
    """Name options where the room names arguments."""
    from ..evaluation import ImplausibleTestSetError

    try:
        yield
    except (FileExistsError, ImplausibleTestSetError) as error:
        message = str(error)
        for argument, option in _OPTIONS.items():
            message = message.replace(argument, option)
        raise type(error)(message) from None


def _print_ledger(options: argparse.Namespace, result: "EvaluationResult") -> None:
    """Which ledger holds the figures now, or why none does."""
    if result.doubts and not options.record:
        again = "" if options.no_record else " Nothing was entered in a ledger; --record (with --overwrite) does it."
        sys.stderr.write(f"{' '.join(result.doubts)}{again}\n")
    if result.problem is not None:
        sys.stderr.write(f"{result.problem}\n")
    if result.ledger is None:
        return
    print(f"recorded in {result.ledger}")
    model = Path(options.model)
    if model.is_dir() and result.ledger.parent != model:
        print(f"the ledger of {model} is as it was; --record enters a score there")


def show_ledger(model: Path, forget: Sequence[str]) -> int:
    """Take entries out of a model's ledger, and list what it holds then; the exit code.

    Raises:
        FileNotFoundError: there is no such folder, or no ledger in it.
        ValueError: one of the entries is not there; nothing is taken out.
    """
    from ..evaluation import LEDGER_NAME, read_ledger, remove_from_ledger, weights_fingerprint
    from ..evaluation.ledger import decoding_in_words

    if not read_ledger(model):
        raise FileNotFoundError(
            f"Entries are listed and taken out of {LEDGER_NAME} in a model's folder, but {model} has none."
        )
    for entry in remove_from_ledger(model, *forget) if forget else ():
        print(f"taken out: {entry.id}  {entry.test_set}. A card that was pushed has it until the next push.")
    weights = weights_fingerprint(model)
    for entry in read_ledger(model):
        decoding = decoding_in_words(entry.decoding)
        earlier = "; of other weights" if weights and entry.weights != weights else ""
        print(f"{entry.id}  {entry.test_set}, {len(entry.hypotheses):,} sentences ({decoding}){earlier}")
        print("\n".join(f"          {metric}" for metric in entry.metrics))
    return 0
