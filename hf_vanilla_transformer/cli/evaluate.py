"""Score a model's translations of a test set: BLEU, chrF and TER with their signatures; translations are kept."""

import argparse
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_decoding_options,
    add_length_option,
    add_model_options,
    add_precision_option,
    decoding_settings,
    load_translator,
    new_parser,
)
from .recording import check_pairs, check_test_set, is_inside, record, show_ledger

if TYPE_CHECKING:
    from datasets import Dataset

    from ..evaluation import TranslationScores
    from ..translation import Translator

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
    """Parse, translate, score, keep, print."""
    parser = build_parser()
    options = parser.parse_args(argv)
    _check_usage(parser, options)
    if options.entries or options.forget:
        return show_ledger(Path(options.model), options.forget or ())
    output_dir = _output_dir(parser, options)

    from ..evaluation import refuse_existing_results

    if not options.overwrite:
        _refuse_with_flag(output_dir, refuse_existing_results)
    sources, references = _read_test_set(options)
    check_test_set(options, sources, references)
    training = _read_training_pairs(options)
    translator = load_translator(options)
    check_pairs(options, translator, sources, references)
    hypotheses, seconds, unfinished = _translate(translator, sources, options)

    from ..evaluation import N_BOOTSTRAP, evaluate_translations, write_scores

    scoring = {"target_lang": options.target_lang, "n_bootstrap": N_BOOTSTRAP}
    scores = evaluate_translations(hypotheses, references, sources=sources, **scoring)
    baseline = None if training is None else _baseline(sources, references, training, options)
    settings = _settings(translator, options, len(sources) / seconds, unfinished, baseline)
    write_scores(output_dir, scores, hypotheses, references, sources, settings, overwrite=options.overwrite)
    print(_report(scores, settings, baseline, output_dir))
    record(options, output_dir, hypotheses, scores, sources, references, scoring, settings)
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


def _output_dir(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Path:
    if options.output_dir is not None:
        output_dir = Path(options.output_dir)
        if (output_dir / "config.json").is_file() and not is_inside(output_dir, Path(options.model)):
            parser.error(f"--output_dir is for results, but {output_dir} is the folder of another model")
        return output_dir
    if not Path(options.model).is_dir():
        parser.error(
            f"there is no model folder {options.model}; if it is a name on the Hub, give --output_dir for the results"
        )
    if options.dataset_name is None:
        name = Path(options.reference[0]).name
        name = Path(name).stem or name
    else:
        parts = (Path(options.dataset_name).name, options.dataset_config_name, options.split)
        name = "-".join(re.sub(r"[^\w.-]+", "_", part) for part in parts if part)
    return Path(options.model) / "evaluation" / name


def _refuse_with_flag(output_dir: Path, refuse: Any) -> None:
    try:
        refuse(output_dir)
    except FileExistsError as error:
        message = str(error).replace("pass overwrite=True", "give --overwrite")
        raise FileExistsError(message.replace("another output_dir", "another --output_dir")) from None


def _read_test_set(options: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """Sources, and for each of them its references."""
    from ..data import load_parallel_corpus

    if options.dataset_name is None:
        sides = [load_parallel_corpus(options.source, reference) for reference in options.reference]
    else:
        sides = [_load_named(options.dataset_name, options.split, options)]
    references = zip(*(list(side["target"]) for side in sides), strict=True)
    return list(sides[0]["source"]), [list(each) for each in references]


def _read_training_pairs(options: argparse.Namespace) -> "Dataset | None":
    from ..data import load_parallel_corpus

    if options.nearest_neighbour_from is None:
        return None
    if len(options.nearest_neighbour_from) == 2:
        return load_parallel_corpus(*options.nearest_neighbour_from)
    return _load_named(options.nearest_neighbour_from[0], "train", options)


def _load_named(name: str, split: str, options: argparse.Namespace) -> "Dataset":
    from ..data import load_parallel_corpus

    languages = {"source_lang": options.source_lang, "target_lang": options.target_lang}
    if options.source_lang is None:  # --target_lang alone is for the Moses tokeniser
        languages = {}
    return load_parallel_corpus(
        dataset_name=name, dataset_config_name=options.dataset_config_name, split=split, **languages
    )


def _translate(
    translator: "Translator", sources: list[str], options: argparse.Namespace
) -> tuple[list[str], float, int]:
    """The translations, the seconds they took, and how many ran into their length limit."""
    from tqdm import tqdm

    start = time.perf_counter()
    with tqdm(total=len(sources), unit=" sentences", disable=None) as bar:
        translations = translator.translate(
            sources,
            batch_tokens=options.batch_tokens,
            first_line=1,
            progress=bar.update,
            max_source_tokens=options.max_source_tokens,
            **decoding_settings(options),
        )
    seconds = time.perf_counter() - start
    return [each.text for each in translations], seconds, sum(not each.finished for each in translations)


def _baseline(
    sources: list[str], references: list[list[str]], training: "Dataset", options: argparse.Namespace
) -> "TranslationScores":
    from ..evaluation import evaluate_translations, nearest_neighbour_translations

    copied = nearest_neighbour_translations(sources, list(training["source"]), list(training["target"]))
    return evaluate_translations(copied, references, target_lang=options.target_lang, metrics=("bleu", "chrf"))


def _settings(
    translator: "Translator",
    options: argparse.Namespace,
    speed: float,
    unfinished: int,
    baseline: "TranslationScores | None",
) -> dict[str, Any]:
    """What `scores.json` says of how the translations were made."""
    settings = {
        "model": options.model,
        "test_set": options.dataset_name and f"{options.dataset_name}, {options.split}",
        "source": options.source,
        "references": options.reference,
        "decoding": translator.decoding(**decoding_settings(options)),
        "batch_tokens": options.batch_tokens,
        "device": str(translator.model.device),
        "dtype": str(translator.model.dtype).removeprefix("torch."),
        "sentences_per_second": round(speed, 2),
        "translations_at_length_limit": unfinished,
        "nearest_neighbour": baseline and {metric.name: metric.value for metric in baseline},
    }
    return {name: value for name, value in settings.items() if value is not None}


def _report(
    scores: "TranslationScores", settings: dict[str, Any], baseline: "TranslationScores | None", output_dir: Path
) -> str:
    decoding = ", ".join(f"{name} {value}" for name, value in settings["decoding"].items())
    lines = [
        f"{settings['model']}: {decoding}",
        f"{settings['sentences_per_second']:,} sentences per second ({settings['device']}, {settings['dtype']}, "
        f"batches of {settings['batch_tokens']:,} source tokens); "
        f"{settings['translations_at_length_limit']:,} translations ran into their length limit",
        scores.table(),
    ]
    if baseline is not None:
        figures = ", ".join(f"{metric.label} {metric.value:.2f}" for metric in baseline)
        lines.append(f"nearest neighbour in the training text: {figures}")
    return "\n".join([*lines, f"kept in {output_dir}"])
