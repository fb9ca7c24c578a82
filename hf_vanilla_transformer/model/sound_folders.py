"""Folders are read whole or not at all: every sealed file that changes an output is the one that was saved.

The one place that decides this, for `from_pretrained`, the loaders of models and tokenizers behind all commands,
`Translator` and the pipeline. A folder that is replaced while it is read is read once more. Left out: folders without
a manifest, of which nobody can know; that is said once.
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

PAUSE = 0.1  # seconds in which a save moves the rest of its files into place

ADAPTER_CONFIG = "adapter_config.json"
"""PEFT's name for the config of adapters, which are trained beside the weights of another folder."""

VOCABULARY_FILE = re.compile(r"tokenizer\.json|tekken\.json|.*vocab.*|.*\.(model|spm|tiktoken|bpe|gguf)|merges\.txt")
"""The names under which the tokenizers of transformers keep their vocabularies."""

_OF_TOKENIZERS = re.compile(
    r"(tokenizer|tokenizer_config|added_tokens|special_tokens_map|vocab|tekken)\.json|vocab\.txt|merges\.txt"
    r"|(source|target|spiece|sentencepiece\.bpe|tokenizer)\.(spm|model)|vocab-(src|tgt)\.json"
)
_READ_BY_LOADERS = re.compile(
    rf"{_OF_TOKENIZERS.pattern}|(adapter_|generation_)?config\.json"
    r"|model(-.+)?\.safetensors(\.index\.json)?|adapter_model\.safetensors"
)
"""Files that change an output although no manifest lists them: they were added to a sealed folder."""

_WITHOUT_EFFECT = re.compile(
    r".+/.+|.*\.(md|html|png|svg|pdf|jsonl|yaml|pt|pth)|\..*|LICENSE.*|(optimizer|training_args)\.bin"
    r"|(averaged_checkpoints|score_ledger|stream|trainer_state|training_args)\.json"
)
"""Listed files that change no output: texts, pictures, scores, and the state of a training."""


class UnsoundFolderError(ValueError):
    """A model's folder that does not hold what was saved there, or whose weights are no model's."""


def require_sound_files(
    folder: str | os.PathLike[str], *, download: bool = False, tokenizer_alone: bool = False
) -> None:
    """Compare what changes an output, the tokenizer beside a model too, with the folder's manifest.

    A folder without a manifest is let pass, and that is said once.

    Args:
        folder: a model's folder, or a tokenizer's.
        download: of the Hub's cache, which holds only the files that were asked for.
        tokenizer_alone: no other file is read; the folder of a run may hold a tokenizer and no model yet.

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
            else "Copy the folder again; or, if the change is meant: vanilla-transformer doctor "
            f"--model {folder} --seal {' '.join(f'--accept {name}' for name in problems)}"
        )
        raise UnsoundFolderError(
            f"{folder} must hold what was saved there, but {', '.join(list(problems.values())[:3])}{more}, by its "
            f"{MANIFEST_NAME}. {remedy}"
        )


def unsound_files(folder: Path, *, download: bool = False, tokenizer_alone: bool = False) -> dict[str, str] | None:
    """What is wrong with the files that change an output: a phrase for each name; None if there is no manifest.

    Args:
        folder, download, tokenizer_alone: as of `require_sound_files`.

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
        # one at a time, for the name of each
        problems = {name: problem for name in names for problem in damaged_files(folder, [name])}
    except ValueError as error:
        raise UnsoundFolderError(str(error)) from error
    added = [name for name in _added(folder, sealed) if _is_of_tokenizer(name) or not tokenizer_alone]
    return problems | {name: f"{name} was added" for name in added}


def _is_of_tokenizer(name: str) -> bool:
    return bool(_OF_TOKENIZERS.fullmatch(name) or VOCABULARY_FILE.fullmatch(name))


def _added(folder: Path, sealed: Iterable[str]) -> list[str]:
    """A tokenizer may join a model that was sealed without one."""
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
    """The names of what is sealed of a folder that has no manifest: all but texts, pictures, scores and the like."""
    found = sorted(path.name for path in folder.iterdir() if path.is_file())
    return [name for name in found if not _WITHOUT_EFFECT.fullmatch(name) and name != MANIFEST_NAME]


def require_sound_download(repository: str, options: Mapping[str, Any]) -> None:
    """As `require_sound_files`, for what was just downloaded of a repository.

    Args:
        repository: its name on the Hub.
        options: of `from_pretrained`; what says where and which revision is used.
    """
    from huggingface_hub import hf_hub_download  # takes a second, which a folder need not wait for
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
    except (EntryNotFoundError, HfHubHTTPError):  # there is none, or no way to it
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
    """What `read` makes of a sound folder; once more if the folder was written to meanwhile.

    Args:
        folder: a model's folder, or a tokenizer's.
        read: reads its files. The loaders that it calls do not check this folder again.
        tokenizer_alone: as of `require_sound_files`.

    Raises:
        UnsoundFolderError: as of `require_sound_files`; or somebody wrote to the folder both times.
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
    """Somebody wrote to a folder while it was read."""


@contextmanager
def unchanged(folder: str | os.PathLike[str]) -> Iterator[None]:
    """See that nobody writes to a folder while the block reads it.

    Raises:
        FolderChangedError: somebody did; also in place of whatever the block raised.
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
            f"{folder} was written to while it was read, so that what was read may be of two models. Wait until it is "
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
    """Loaders take this folder as it is: it was checked already, or is to be examined."""
    token = _trusted.set(_place(Path(folder)))
    try:
        yield
    finally:
        _trusted.reset(token)


def _place(folder: Path) -> Path:
    return Path(os.path.realpath(folder))


def _identities(folder: Path) -> dict[str, tuple[int, ...]]:
    """By name, what tells a file from any that is put in its place."""
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
