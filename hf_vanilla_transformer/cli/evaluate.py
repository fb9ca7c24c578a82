"""Score a model's translations of a test set: BLEU, chrF and TER with their signatures; translations are kept."""

import argparse
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_decoding_options,
    add_model_options,
    add_precision_option,
    decoding_settings,
    load_translator,
    new_parser,
)

if TYPE_CHECKING:
    from datasets import Dataset

    from ..evaluation import TranslationScores
    from ..translation import Translator

DESCRIPTION = """Translate a test set and score the translations.

The test set is two aligned text files (--source, --reference; several references are several files), or a split of a
dataset (--dataset_name), such as builtin-fr-en. Scores go to stdout; hypotheses.txt and scores.json, with signatures,
decoding and fingerprints of the texts, go to the output folder: by default MODEL/evaluation/NAME, NAME being the
reference's file name without its ending, or the dataset and split. The same goes into the model folder's
score_ledger.json, from which `push` makes the card and `verify` computes every figure again. Intervals are bootstrap
95 %, from 1,000 resamples."""


def build_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = new_parser("evaluate", DESCRIPTION)
    add_model_options(parser)
    parser.add_argument("--source", metavar="FILE", help="UTF-8 text, one sentence a line")
    parser.add_argument("--reference", nargs="+", metavar="FILE", help="its translation; several for several")
    parser.add_argument("--dataset_name", metavar="NAME", help="instead of files: builtin-fr-en, a Hub name, a folder")
    parser.add_argument("--dataset_config_name", metavar="NAME", help="configuration of a Hub dataset")
    parser.add_argument("--split", default="test", help="split of the dataset (default: %(default)s)")
    parser.add_argument("--source_lang", metavar="xx", help="language of the source, for a dataset that names them")
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
    add_decoding_options(parser)
    add_precision_option(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parse, translate, score, keep, print."""
    parser = build_parser()
    options = parser.parse_args(argv)
    _check_usage(parser, options)
    output_dir = _output_dir(parser, options)

    from ..evaluation import refuse_existing_results

    if not options.overwrite:
        _refuse_with_flag(output_dir, refuse_existing_results)
    sources, references = _read_test_set(options)
    training = _read_training_pairs(options)
    translator = load_translator(options)
    hypotheses, seconds, unfinished = _translate(translator, sources, options)

    from ..evaluation import N_BOOTSTRAP, evaluate_translations, write_scores

    scoring = {"target_lang": options.target_lang, "n_bootstrap": N_BOOTSTRAP}
    scores = evaluate_translations(hypotheses, references, sources=sources, **scoring)
    baseline = None if training is None else _baseline(sources, references, training, options)
    settings = _settings(translator, options, len(sources) / seconds, unfinished, baseline)
    write_scores(output_dir, scores, hypotheses, references, sources, settings, overwrite=options.overwrite)
    print(_report(scores, settings, baseline, output_dir))
    _record(options, output_dir, hypotheses, scores, sources, references, scoring, settings)
    return 0


def _record(
    options: argparse.Namespace,
    output_dir: Path,
    hypotheses: list[str],
    scores: "TranslationScores",
    sources: list[str],
    references: list[list[str]],
    scoring: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    """Put the results into the ledger of the model's folder, or of the results' where the model has none here."""
    from ..evaluation import add_to_ledger, averaged_checkpoints, make_entry, weights_fingerprint

    model = Path(options.model)
    entry = make_entry(
        _test_set_name(options),
        hypotheses,
        scores,
        sources,
        references,
        keep_references=options.keep_references,
        decoding=settings["decoding"],
        scoring={name: value for name, value in scoring.items() if value is not None},
        weights=weights_fingerprint(model),
        origin=_origin(options),
        settings={name: settings[name] for name in ("batch_tokens", "device", "dtype")},
        averaged_checkpoints=averaged_checkpoints(model),
    )
    folder = model if model.is_dir() else output_dir
    try:
        print(f"recorded in {add_to_ledger(folder, entry)}")
    except OSError as error:
        sys.stderr.write(f"The ledger of {folder} cannot be written ({error.strerror}); the results are kept.\n")


def _test_set_name(options: argparse.Namespace) -> str:
    if options.dataset_name is None:
        name = Path(options.reference[0]).name
        return Path(name).stem or name
    parts = (Path(options.dataset_name).name, options.dataset_config_name, options.split)
    return ", ".join(part for part in parts if part)


def _origin(options: argparse.Namespace) -> dict[str, Any]:
    """Where the test set is, so that `verify` finds it."""
    if options.dataset_name is None:
        paths = [str(Path(path).absolute()) for path in options.reference]
        return {"source": str(Path(options.source).absolute()), "references": paths}
    local = Path(options.dataset_name)
    found = {
        "dataset_name": str(local.absolute()) if local.exists() else options.dataset_name,
        "dataset_config_name": options.dataset_config_name,
        "split": options.split,
        "source_lang": options.source_lang,
        "target_lang": options.target_lang if options.source_lang else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _check_usage(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.dataset_name is None and (options.source is None or options.reference is None):
        parser.error("a test set is needed: give --source and --reference, or --dataset_name")
    if options.dataset_name is not None and (options.source is not None or options.reference is not None):
        parser.error("the test set comes from files or from a dataset: leave out one of them")
    if options.nearest_neighbour_from is not None and len(options.nearest_neighbour_from) > 2:
        parser.error("--nearest_neighbour_from takes two text files, or one table or dataset")


def _output_dir(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Path:
    if options.output_dir is not None:
        return Path(options.output_dir)
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
    if None in languages.values():  # --target_lang alone is for the Moses tokeniser
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
