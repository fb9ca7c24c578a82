"""Which scores of `evaluate` enter a ledger, and which: a model's own, that of the results' folder, or none."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..evaluation import LedgerEntry, TranslationScores
    from ..translation import Translator

_ANYHOW = (
    "Mend the test set; or give --record to score it and enter it in the model's ledger all the same, or --no_record "
    "to score it only."
)


def check_test_set(options: argparse.Namespace, sources: list[str], references: list[list[str]]) -> None:
    """Refuse a test set that cannot be one of the model's pair, unless that was asked for.

    Raises:
        ValueError: says what is wrong with it.
    """
    from ..evaluation.plausibility import faults_of_languages, faults_of_test_set, require_text
    from ..hub.facts import recorded_languages

    require_text(sources, references)
    model = recorded_languages(Path(options.model))
    faults = faults_of_languages(model, _languages(options), options.source, options.reference or ())
    _refuse([*faults, *faults_of_test_set(sources, references)], options)


def check_pairs(
    options: argparse.Namespace, translator: "Translator", sources: list[str], references: list[list[str]]
) -> None:
    """The same by what the model itself finds probable.

    Raises:
        ValueError: says what is wrong with the test set.
    """
    from ..evaluation.plausibility import faults_by_probability, validation_bleu_of

    bleu = validation_bleu_of(options.model)
    faults = faults_by_probability(
        translator.model, translator.tokenizer, sources, references, options.batch_tokens, bleu
    )
    _refuse(faults, options)


def _refuse(faults: Sequence[str], options: argparse.Namespace) -> None:
    if faults and not (options.record or options.no_record):
        raise ValueError(f"This is no test set of the model's pair. {' '.join(faults)} {_ANYHOW}")
    for fault in faults:
        sys.stderr.write(f"{fault}\n")


def _languages(options: argparse.Namespace) -> tuple[str | None, str | None]:
    from ..data.builtin import BUILTIN_NAME

    if options.source_lang is None and options.dataset_name == BUILTIN_NAME:
        return "fr", "en"
    return options.source_lang, options.target_lang


def record(
    options: argparse.Namespace,
    output_dir: Path,
    hypotheses: list[str],
    scores: "TranslationScores",
    sources: list[str],
    references: list[list[str]],
    scoring: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    """Put the results into the ledger that they belong to, if they may be what they seem; say which, or why none."""
    from ..evaluation import averaged_checkpoints, make_entry, weights_fingerprint
    from ..evaluation.plausibility import doubts_of_scores, validation_bleu_of

    doubts = doubts_of_scores(scores, validation_bleu_of(options.model))
    if options.no_record or (doubts and not options.record):
        again = "" if options.no_record else " Nothing was entered in a ledger; --record (with --overwrite) does it."
        if doubts:
            sys.stderr.write(f"{' '.join(doubts)}{again}\n")
        return
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
    _enter(entry, model, output_dir, options.record)


def _enter(entry: "LedgerEntry", model: Path, output_dir: Path, forced: bool) -> None:
    from ..evaluation import add_to_ledger

    elsewhere = model.is_dir() and not is_inside(output_dir, model) and not forced
    folder = model if model.is_dir() and not elsewhere else output_dir
    try:
        print(f"recorded in {add_to_ledger(folder, entry)}")
    except OSError as error:
        sys.stderr.write(f"The ledger of {folder} cannot be written ({error.strerror}); the results are kept.\n")
    if elsewhere:
        print(f"the ledger of {model} is as it was; --record enters a score there")


def is_inside(output_dir: Path, model: Path) -> bool:
    """Whether results are kept in the folder of their model."""
    return model.is_dir() and output_dir.resolve().is_relative_to(model.resolve())


def _test_set_name(options: argparse.Namespace) -> str:
    if options.dataset_name is None:
        name = Path(options.reference[0]).name
        return Path(name).stem or name
    parts = (Path(options.dataset_name).name, options.dataset_config_name, options.split)
    return ", ".join(part for part in parts if part)


def _origin(options: argparse.Namespace) -> dict[str, Any]:
    """Where the test set is, so that `verify` finds it."""
    languages = {"source_lang": options.source_lang, "target_lang": options.target_lang} if options.source_lang else {}
    if options.dataset_name is None:
        paths = [str(Path(path).absolute()) for path in options.reference]
        return {"source": str(Path(options.source).absolute()), "references": paths, **languages}
    local = Path(options.dataset_name)
    found = {
        "dataset_name": str(local.absolute()) if local.exists() else options.dataset_name,
        "dataset_config_name": options.dataset_config_name,
        "split": options.split,
        **languages,
    }
    return {name: value for name, value in found.items() if value is not None}


def show_ledger(model: Path, forget: Sequence[str]) -> int:
    """Take entries out of a model's ledger, and list what it holds then; the exit code.

    Raises:
        FileNotFoundError: there is no such folder, or no ledger in it.
        ValueError: one of the entries is not there; nothing is taken out.
    """
    from ..evaluation import LEDGER_NAME, read_ledger, remove_from_ledger, weights_fingerprint

    if not read_ledger(model):
        raise FileNotFoundError(
            f"Entries are listed and taken out of {LEDGER_NAME} in a model's folder, but {model} has none."
        )
    for entry in remove_from_ledger(model, *forget) if forget else ():
        print(f"taken out: {entry.id}  {entry.test_set}. A card that was pushed has it until the next push.")
    weights = weights_fingerprint(model)
    for entry in read_ledger(model):
        decoding = ", ".join(f"{name} {value}" for name, value in entry.decoding.items())
        earlier = "; of other weights" if weights and entry.weights != weights else ""
        print(f"{entry.id}  {entry.test_set}, {len(entry.hypotheses):,} sentences ({decoding}){earlier}")
        print("\n".join(f"          {metric}" for metric in entry.metrics))
    return 0
