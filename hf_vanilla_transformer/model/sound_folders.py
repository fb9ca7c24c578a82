"""Folders are read whole or not at all: every sealed file that affects outputs must be the one that was saved.

This is the only place that decides it, for `from_pretrained`, the loaders behind all commands, `Translator` and the
pipeline. A folder that is replaced while it is read is read once more. A folder without a manifest cannot be checked,
which is logged once.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from .manifest import MANIFEST_NAME, damaged_files, read_manifest

logger = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE = 0.1  # seconds, enough for a save to move the rest of its files into place

ADAPTER_CONFIG = "adapter_config.json"
"""PEFT's name for the config of adapters, which need the weights of another folder."""

VOCABULARY_FILE = re.compile(r"tokenizer\.json|tekken\.json|.*vocab.*|.*\.(model|spm|tiktoken|bpe|gguf)|merges\.txt")
"""File names of vocabularies of tokenizers in `transformers`."""

_OF_TOKENIZERS = re.compile(
    r"(tokenizer|tokenizer_config|added_tokens|special_tokens_map|vocab|tekken)\.json|vocab\.txt|merges\.txt"
    r"|(source|target|spiece|sentencepiece\.bpe|tokenizer)\.(spm|model)|vocab-(src|tgt)\.json"
)
_READ_BY_LOADERS = re.compile(
    rf"{_OF_TOKENIZERS.pattern}|(adapter_|generation_)?config\.json"
    r"|model(-.+)?\.safetensors(\.index\.json)?|adapter_model\.safetensors"
)
"""Files that affect outputs even if the manifest does not list them, because they were added to a sealed folder."""

_WITHOUT_EFFECT = re.compile(
    r".+/.+|.*\.(md|html|png|svg|pdf|jsonl|yaml|pt|pth)|\..*|LICENSE.*|(optimizer|training_args)\.bin"
    r"|(averaged_checkpoints|score_ledger|stream|trainer_state|training_args)\.json"
)
"""Listed files that do not affect outputs: texts, pictures, scores, and training state."""


class UnsoundFolderError(ValueError):
    """A model folder that does not hold what was saved there, or whose weights cannot be a whole model's."""


def require_sound_files(
    folder: str | os.PathLike[str], *, download: bool = False, tokenizer_alone: bool = False
) -> None:
    """Compare the files that affect outputs, including the tokenizer's, with the folder's manifest.

    A folder without a manifest is accepted, which is logged once.

    Args:
        folder: folder of a model or a tokenizer.
        download: the folder is in the Hub's cache, which holds only the files that were downloaded.
        tokenizer_alone: check only the tokenizer; the folder of a run may not hold a model yet.

    Raises:
        UnsoundFolderError: such a file is missing, differs or was added, or the manifest is damaged.
    """
    folder = Path(folder)
    if _trusted.get() == _place(folder):
        return
    problems = unsound_files(folder, download=download, tokenizer_alone=tokenizer_alone)
    if problems is None:
        has_weights = any(name.endswith(".safetensors") for name in files_that_loaders_read(folder))
        if has_weights and not (download or tokenizer_alone):
            _say_once_that_nothing_is_sealed(folder)
        return
    if problems:
        more = f", and {len(problems) - 3:,} more" if len(problems) > 3 else ""
        remedy = (
            "Delete it from the cache and download it again."
            if download
            else "Copy the folder again; or, if the change is intended: vanilla-transformer doctor "
            f"--model {folder} --seal {' '.join(f'--accept {name}' for name in problems)}"
        )
        raise UnsoundFolderError(
            f"{folder} must hold what was saved there, but {', '.join(list(problems.values())[:3])}{more}, according "
            f"to its {MANIFEST_NAME}. {remedy}"
        )


def unsound_files(folder: Path, *, download: bool = False, tokenizer_alone: bool = False) -> dict[str, str] | None:
    """What is wrong with the files that affect outputs, a phrase for each name; None if there is no manifest.

    Args:
        folder, download, tokenizer_alone: as in `require_sound_files`.

    Raises:
        UnsoundFolderError: the manifest itself is damaged.
    """
    try:
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        sealed = manifest["files"]
        names = [name for name in sealed if not _WITHOUT_EFFECT.fullmatch(name)]
        if download:
            names = [name for name in names if (folder / name).is_file()]
        if tokenizer_alone:
            names = [name for name in names if _is_of_tokenizer(name)]
        # one at a time, to get a phrase for each name
        problems = {name: problem for name in names for problem in damaged_files(folder, [name])}
    except ValueError as error:
        raise UnsoundFolderError(str(error)) from error
    added = [name for name in _added(folder, sealed) if _is_of_tokenizer(name) or not tokenizer_alone]
    return problems | {name: f"{name} was added" for name in added}


def _is_of_tokenizer(name: str) -> bool:
    return bool(_OF_TOKENIZERS.fullmatch(name) or VOCABULARY_FILE.fullmatch(name))


def _added(folder: Path, sealed: Iterable[str]) -> list[str]:
    """Files that were added to a sealed folder; a tokenizer may be added to a model that was sealed without one."""
    has_tokenizer = any(map(VOCABULARY_FILE.fullmatch, sealed))
    found = [name for name in files_that_loaders_read(folder) if name not in sealed]
    return found if has_tokenizer else [name for name in found if not _OF_TOKENIZERS.fullmatch(name)]


def files_that_loaders_read(folder: Path) -> list[str]:
    """The names of configs, weights and vocabularies in a folder, in order."""
    try:
        return sorted(path.name for path in folder.iterdir() if _READ_BY_LOADERS.fullmatch(path.name))
    except OSError:
        return []


def files_that_change_outputs(folder: Path) -> list[str]:
    """Names of the files to seal in a folder without a manifest: all but texts, pictures, scores and the like."""
    found = sorted(path.name for path in folder.iterdir() if path.is_file())
    return [name for name in found if not _WITHOUT_EFFECT.fullmatch(name) and name != MANIFEST_NAME]


def require_sound_download(repository: str, options: Mapping[str, Any]) -> None:
    """As `require_sound_files`, for files of a repository that were just downloaded.

    Args:
        repository: name of the repository on the Hub.
        options: arguments of `from_pretrained`, of which location and revision are used.
    """
    from huggingface_hub import hf_hub_download  # takes a second, which local folders save
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    known = ("cache_dir", "revision", "subfolder", "token", "local_files_only")
    given = {name: options[name] for name in known if options.get(name) is not None}
    try:
        manifest = hf_hub_download(repository, MANIFEST_NAME, **given)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except (EntryNotFoundError, HfHubHTTPError):  # there is no manifest, or it cannot be reached
        return
    require_sound_files(Path(manifest).parent, download=True)


_said_of: set[Path] = set()


def _say_once_that_nothing_is_sealed(folder: Path) -> None:
    place = _place(folder)
    if place not in _said_of:
        _said_of.add(place)
        logger.warning(
            f"{folder} has no {MANIFEST_NAME}: nobody can tell whether its files are those that were saved. To seal "
            f"them as they are: vanilla-transformer doctor --model {folder} --seal"
        )


# A folder that is replaced while it is read

_trusted: ContextVar[Path | None] = ContextVar("trusted", default=None)


def read_whole(folder: str | os.PathLike[str], read: Callable[[], T], *, tokenizer_alone: bool = False) -> T:
    """The result of `read` on a checked folder; reads once more if the folder was written to meanwhile.

    Args:
        folder: folder of a model or a tokenizer.
        read: reads the folder's files. The loaders that it calls do not check this folder again.
        tokenizer_alone: as in `require_sound_files`.

    Raises:
        UnsoundFolderError: as in `require_sound_files`, or the folder was written to both times.
    """
    folder = Path(folder)
    if _trusted.get() == _place(folder):  # inside another `read_whole`
        return read()
    try:
        with unchanged(folder):
            return _check_and_read(folder, read, tokenizer_alone)
    except FolderChangedError:
        logger.info(f"{folder} was written to while it was read: reading it again.")
        time.sleep(PAUSE)
    with unchanged(folder):
        return _check_and_read(folder, read, tokenizer_alone)


class FolderChangedError(UnsoundFolderError):
    """A folder was written to while it was read."""


@contextmanager
def unchanged(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Check that a folder is not written to while the block reads it.

    Raises:
        FolderChangedError: it was written to; raised even if the block raised another error.
    """
    folder = Path(folder)
    before = _identities(folder)
    error: Exception | None = None
    try:
        yield
    except Exception as raised:
        error = raised
    if _identities(folder) != before:
        raise FolderChangedError(
            f"{folder} was written to while it was read, so the files read may be from two models. Wait until it is "
            "written, and load it again."
        ) from error
    if error is not None:
        raise error


def _check_and_read(folder: Path, read: Callable[[], T], tokenizer_alone: bool) -> T:
    require_sound_files(folder, tokenizer_alone=tokenizer_alone)
    with trusting(folder):
        return read()


@contextmanager
def trusting(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Within the block, loaders do not check this folder: it was checked already, or is being examined."""
    token = _trusted.set(_place(Path(folder)))
    try:
        yield
    finally:
        _trusted.reset(token)


def _place(folder: Path) -> Path:
    return Path(os.path.realpath(folder))


def _identities(folder: Path) -> dict[str, tuple[int, ...]]:
    """For each file name, values that differ if the file is replaced or written to."""
    found: dict[str, tuple[int, ...]] = {}
    for name in [MANIFEST_NAME, *files_that_loaders_read(folder)]:
        try:
            status = (folder / name).stat()
        except OSError:
            continue
        found[name] = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return found


__all__ = [
    "ADAPTER_CONFIG",
    "VOCABULARY_FILE",
    "FolderChangedError",
    "UnsoundFolderError",
    "files_that_change_outputs",
    "files_that_loaders_read",
    "read_whole",
    "require_sound_download",
    "require_sound_files",
    "trusting",
    "unchanged",
    "unsound_files",
]
