"""All checks, ordered so that the first failure is probably the cause of later ones."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from ..model.sound_folders import trusting
from ..tokenization import load_tokenizer
from ..translation.loading import load_model_and_report
from .decoding import check_batch, check_cache, check_end, check_greedy, check_padding
from .files import check_complete_weights, check_finite_weights, check_manifest, check_ties
from .findings import Finding, Patient
from .saving import check_saving
from .settings import check_settings
from .text import check_source_text, check_target_text, check_vocabulary

Examined = TypeVar("Examined")
Check = Callable[[Patient], Finding]

AS_SAVED: dict[str, Check] = {
    "complete weights": check_complete_weights,
    "ties": check_ties,
    "save and load": check_saving,
    "vocabulary": check_vocabulary,
    "generation settings": check_settings,
}
IN_FLOAT32: dict[str, Check] = {
    "source text": check_source_text,
    "target text": check_target_text,
    "end of sentence learned": check_end,
    "greedy = beam 1": check_greedy,
    "cached = uncached": check_cache,
    "batch = single": check_batch,
    "padding on either side": check_padding,
}
CHECKS = ("manifest", "finite weights", "loads", *AS_SAVED, *IN_FLOAT32)


def examine(
    folder_or_id: str | os.PathLike[str], texts: tuple[str, ...] = (), accept: Sequence[str] = ()
) -> Iterator[Finding]:
    """Examine any sequence-to-sequence model.

    Args:
        folder_or_id: a model folder, or a name on the Hub.
        texts: source sentences for the checks; by default, sentences made from the vocabulary.
        accept: files that may differ from the folder's manifest.

    Yields:
        The finding of each check, one by one; `CHECKS` names them.

    Raises:
        FileNotFoundError, NotADirectoryError: no such folder or Hub name.
    """
    folder = folder_of(folder_or_id)
    yield guarded("manifest", lambda folder: check_manifest(folder, accept), folder)
    yield guarded("finite weights", check_finite_weights, folder)
    try:
        with trusting(folder):  # differing files were reported above, and are examined all the same
            model, report = load_model_and_report(folder_or_id)
            tokenizer = load_tokenizer(folder_or_id)
    except (ValueError, FileNotFoundError) as error:
        yield Finding("loads", "fail", str(error), "Fix this first: nothing else can be examined.")
        for name in (*AS_SAVED, *IN_FLOAT32):
            yield Finding(name, "not examined", "the model does not load")
        return
    yield Finding("loads", "pass", f"{type(model).__name__}, {model.num_parameters():,} parameters, {model.dtype}")
    patient = Patient(str(folder_or_id), folder, model, tokenizer, report, texts)
    for name, check in AS_SAVED.items():
        yield guarded(name, check, patient)
    model.float()
    for name, check in IN_FLOAT32.items():
        yield guarded(name, check, patient)


def folder_of(folder_or_id: str | os.PathLike[str]) -> Path:
    """The folder with a model's files, downloaded if necessary."""
    folder = Path(folder_or_id).expanduser()
    if folder.exists():
        if not folder.is_dir():
            raise NotADirectoryError(f"A model is examined in its folder, but {folder} is a file. Give its folder.")
        return folder
    from transformers.utils import cached_file

    load_model_and_report(folder_or_id)  # raises for an unknown name, and downloads
    return Path(str(cached_file(str(folder_or_id), "config.json", local_files_only=True))).parent


def guarded(name: str, check: Callable[[Examined], Finding], patient: Examined) -> Finding:
    """Run a check; an error in it is a failure too."""
    try:
        with quiet():
            return check(patient)
    except Exception as error:  # whatever a broken model raises is a finding
        message = str(error).strip().split("\n")[0]
        found = f"{type(error).__name__}: {message}" if message else type(error).__name__
        return Finding(name, "fail", f"cannot be examined: {found}", "Fix the failures above first.")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings of `transformers` and this package: the table of findings replaces them."""
    loggers = [logging.getLogger(name) for name in ("transformers", __package__.split(".")[0])]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
