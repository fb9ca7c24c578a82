"""Save what a score was computed from, `hypotheses.txt` and `scores.json`, so that anyone can reproduce it."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..model.json_files import to_json
from ..model.whole_folders import replaced_file
from .corpus_checks import check_references, check_same_length, check_texts
from .scores import TranslationScores

HYPOTHESES_FILE = "hypotheses.txt"
SCORES_FILE = "scores.json"
_LINE_BREAK = re.compile(r"\r\n|\r|\n")


def refuse_existing_results(output_dir: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Check that `write_scores` may write to a folder; call it before a long decoding too.

    Raises:
        FileExistsError: the folder already holds results and `overwrite` is false, or it is a file.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"Results are written to a folder, but {folder} is a file. Name another output_dir.")
    present = [name for name in (HYPOTHESES_FILE, SCORES_FILE) if (folder / name).exists()]
    if present and not overwrite:
        raise FileExistsError(
            f"Existing results are not overwritten, but {folder} already holds {' and '.join(present)}. "
            "Name another output_dir or pass overwrite=True."
        )


def write_scores(
    output_dir: str | os.PathLike[str],
    scores: TranslationScores,
    hypotheses: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    sources: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    r"""Write the translations and their scores. Each file is written atomically, `scores.json` last.

    `hypotheses.txt` holds translation n on line n. A line break inside a translation ("\n", "\r" or both) is written
    as one space, and `scores.json` keeps the exact text under `hypotheses_with_line_breaks`, by sentence number
    counted from 0. Fingerprints are SHA-256 over the lines in UTF-8, each ended by "\n", as `sha256sum` gives for such
    a file.

    Args:
        output_dir: the folder; created if it does not exist.
        scores: the scores of exactly these sentences.
        hypotheses: the translations.
        references: as given to `evaluate_translations`; not copied, only fingerprinted: one fingerprint for the first
            references of all sentences, one for the second, and so on.
        sources: the source sentences; only fingerprinted.
        settings: how the translations were made (model, beam size, length penalty, ...); any JSON value.
        overwrite: replace existing results.

    Returns:
        The path of `scores.json`.

    Raises:
        FileExistsError: the folder already holds results and `overwrite` is false, or it is a file.
        TypeError: a sentence is not a string, or JSON cannot hold the settings.
        ValueError: the numbers of sentences differ.
    """
    hypothesis_list = check_texts("hypotheses", hypotheses)
    lines = [_LINE_BREAK.sub(" ", hypothesis) for hypothesis in hypothesis_list]
    _check_scores_belong(scores, hypothesis_list)
    record = {
        **scores.to_dict(),
        "settings": _checked_settings(settings),
        "fingerprints": {
            HYPOTHESES_FILE: fingerprint(lines),
            "references": _reference_fingerprints(hypothesis_list, references),
            "sources": _source_fingerprint(hypothesis_list, sources),
        },
        "hypotheses_with_line_breaks": {
            str(number): text for number, text in enumerate(hypothesis_list) if lines[number] != text
        },
    }
    folder = Path(output_dir)
    refuse_existing_results(folder, overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / HYPOTHESES_FILE, "".join(f"{line}\n" for line in lines))
    write_atomically(folder / SCORES_FILE, to_json(record, indent=2) + "\n")
    return folder / SCORES_FILE


def _check_scores_belong(scores: TranslationScores, hypotheses: list[str]) -> None:
    if scores.sentences != len(hypotheses):
        raise ValueError(
            f"Scores must be saved with the sentences they were computed from, but they cover {scores.sentences:,} "
            f"sentences and {len(hypotheses):,} hypotheses were given. Score these hypotheses first."
        )


def _reference_fingerprints(hypotheses: list[str], references: Sequence[str] | Sequence[Sequence[str]]) -> list[str]:
    lists = check_references(references)
    check_same_length("hypotheses", hypotheses, "references", lists)
    return [fingerprint(stream) for stream in zip(*lists, strict=True)]


def _source_fingerprint(hypotheses: list[str], sources: Sequence[str] | None) -> str | None:
    if sources is None:
        return None
    checked = check_texts("sources", sources)
    check_same_length("hypotheses", hypotheses, "sources", checked)
    return fingerprint(checked)


def _checked_settings(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    checked = dict(settings or {})
    for key, value in checked.items():
        try:
            json.dumps({key: value}, allow_nan=False).encode("utf-8")
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"settings are written as JSON, which cannot hold {key!r} = {value!r} ({error}). "
                "Give numbers, strings, lists and dicts of these."
            ) from None
    return checked


def fingerprint(lines: Sequence[str]) -> str:
    r"""SHA-256 over lines in UTF-8, each ended by "\n", as `sha256sum` gives for such a file."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8") + b"\n")
    return f"sha256:{digest.hexdigest()}"


def write_atomically(path: Path, text: str) -> None:
    """Write to a temporary file, then rename it: a reader sees the old file or the new one, never a partial one."""
    with replaced_file(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")
