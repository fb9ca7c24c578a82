"""Score a model's translations of a test set with BLEU, chrF and TER, and keep translations and signatures."""

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

The test set is a pair of aligned text files (--source, --reference; one file for each reference), or a split of a
dataset (--dataset_name) such as builtin-fr-en. Scores are printed to stdout. The output folder gets hypotheses.txt and
scores.json with signatures, decoding settings and fingerprints of the texts. Its default is MODEL/evaluation/NAME,
where NAME is the reference's file name without its suffix, or the dataset and split. Confidence intervals are 95 %,
bootstrapped with 1,000 resamples.

The score is also recorded in score_ledger.json in the model folder, from which `push` writes the model card and
`verify` recomputes every score. With an --output_dir outside the model folder, it is recorded in a ledger there, and
the model's ledger does not change.

A test set that cannot be right for the model (lines without text, swapped sides, other languages than the model's,
sources given as references) is refused. An implausible score (empty or copied translations, far below the model's
validation score) is kept but not recorded; --record records it anyway, --no_record records nothing. --entries lists a
model's ledger, --forget removes entries."""

_OPTIONS = {
    "pass overwrite=True": "give --overwrite",
    "another output_dir": "another --output_dir",
    "pass record=True": "give --record",
    "record=False": "--no_record",
}
"""How messages name the arguments of `ModelEvaluation`, and the option to name instead."""


def build_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = new_parser("evaluate", DESCRIPTION)
    add_model_options(parser)
    add_length_option(parser)
    parser.add_argument("--source", metavar="FILE", help="source text: UTF-8, one sentence per line")
    parser.add_argument("--reference", nargs="+", metavar="FILE", help="reference translations, one or more files")
    parser.add_argument(
        "--dataset_name", metavar="NAME", help="instead of files: builtin-fr-en, a Hub dataset or a folder"
    )
    parser.add_argument("--dataset_config_name", metavar="NAME", help="configuration of a Hub dataset")
    parser.add_argument("--split", help="split of the dataset (default: test)")
    parser.add_argument(
        "--source_lang", metavar="xx", help="source language (default: as the dataset says, if it does)"
    )
    parser.add_argument(
        "--target_lang", metavar="yy", help="target language; also selects the rules of the Moses tokenizer"
    )
    parser.add_argument("--output_dir", metavar="DIR", help="folder for hypotheses and scores")
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    parser.add_argument(
        "--keep_references",
        action="store_true",
        help="store the test set in the ledger, so that anyone can verify the scores; only if its licence allows it",
    )
    parser.add_argument(
        "--nearest_neighbour_from",
        nargs="+",
        metavar="TRAIN",
        help="also score a baseline that copies the translation of the most similar training sentence; TRAIN is two "
        "text files, one table, or a dataset name (its training split)",
    )
    ledger = parser.add_argument_group(
        "score ledger", "the scores that `push` and `verify` use"
    ).add_mutually_exclusive_group()
    ledger.add_argument("--record", action="store_true", help="record the score in the model's ledger in any case")
    ledger.add_argument("--no_record", action="store_true", help="record the score in no ledger")
    ledger.add_argument("--entries", action="store_true", help="list the entries of the model's ledger and exit")
    ledger.add_argument(
        "--forget",
        nargs="+",
        metavar="ENTRY",
        help="remove entries from the model's ledger, by the ids or test sets that --entries lists, and exit",
    )
    add_decoding_options(parser)
    add_precision_option(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse the options, evaluate, print."""
    parser = build_parser()
    options = parser.parse_args(argv)
    _check_usage(parser, options)
    if options.entries or options.forget:
        return show_ledger(Path(options.model), options.forget or ())
    origin = _origin(options)
    _check_results_folder(parser, options, origin)

    from ..hub_access import require_copy_or_hub

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
    """Refuse options that conflict, and options that would have no effect."""
    if options.entries or options.forget:
        given = [f"--{name}" for name, value in vars(options).items() if value != parser.get_default(name)]
        if others := set(given) - {"--model", "--entries", "--forget"}:
            parser.error(f"--entries and --forget evaluate nothing: leave out {', '.join(sorted(others))}")
        return
    if options.dataset_name is None and (options.source is None or options.reference is None):
        parser.error("a test set is needed: give --source and --reference, or --dataset_name")
    if options.dataset_name is not None and (options.source is not None or options.reference is not None):
        parser.error("the test set comes from files or from a dataset, not both: leave out one of them")
    if options.nearest_neighbour_from is not None and len(options.nearest_neighbour_from) > 2:
        parser.error("--nearest_neighbour_from takes two text files, or one table or dataset")
    if options.source_lang is not None and options.target_lang is None:
        parser.error("--source_lang needs --target_lang")
    if options.dataset_name is None and options.split is not None:
        parser.error("--split is for a dataset, but the test set comes from files: leave it out")
    of_dataset = options.dataset_name is not None or len(options.nearest_neighbour_from or ()) == 1
    if options.dataset_config_name is not None and not of_dataset:
        parser.error("--dataset_config_name is for a dataset, but none is given: leave it out")
    if options.keep_references and options.no_record:
        parser.error("--keep_references is for the ledger, but --no_record records nothing: leave out one of them")
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
    """Replace argument names in error messages by option names."""
    from ..evaluation import ImplausibleTestSetError

    try:
        yield
    except (FileExistsError, ImplausibleTestSetError) as error:
        message = str(error)
        for argument, option in _OPTIONS.items():
            message = message.replace(argument, option)
        raise type(error)(message) from None


def _print_ledger(options: argparse.Namespace, result: "EvaluationResult") -> None:
    """Print which ledger holds the scores now, or why none does."""
    if result.doubts and not options.record:
        again = "" if options.no_record else " Nothing was recorded; --record (with --overwrite) records it."
        sys.stderr.write(f"{' '.join(result.doubts)}{again}\n")
    if result.problem is not None:
        sys.stderr.write(f"{result.problem}\n")
    if result.ledger is None:
        return
    print(f"recorded in {result.ledger}")
    model = Path(options.model)
    if model.is_dir() and result.ledger.parent != model:
        print(f"the ledger of {model} is unchanged; --record records the score there")


def show_ledger(model: Path, forget: Sequence[str]) -> int:
    """Remove entries from a model's ledger, then list the rest. Returns the exit code.

    Raises:
        FileNotFoundError: there is no such folder, or no ledger in it.
        ValueError: one of the entries does not exist; nothing is removed.
    """
    from ..evaluation import LEDGER_NAME, read_ledger, remove_from_ledger, weights_fingerprint
    from ..evaluation.ledger import decoding_in_words

    if not read_ledger(model):
        raise FileNotFoundError(
            f"--entries and --forget need a {LEDGER_NAME} in the model folder, but {model} has none."
        )
    for entry in remove_from_ledger(model, *forget) if forget else ():
        print(f"removed: {entry.id}  {entry.test_set}. A pushed card shows it until the next push.")
    weights = weights_fingerprint(model)
    for entry in read_ledger(model):
        decoding = decoding_in_words(entry.decoding)
        earlier = "; of other weights" if weights and entry.weights != weights else ""
        print(f"{entry.id}  {entry.test_set}, {len(entry.hypotheses):,} sentences ({decoding}){earlier}")
        print("\n".join(f"          {metric}" for metric in entry.metrics))
    return 0
