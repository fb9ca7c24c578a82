"""Folders are written whole or not at all: beside their place first, moved there last.

A disk that is full or a process that is killed leaves what was there before, or, for a moment between two files, a
folder that says itself that it is not whole.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from .disk_space import writing_to
from .manifest import MANIFEST_NAME, flush, read_manifest, write_manifest


@contextmanager
def sealed_folder(output: str | os.PathLike[str], about: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """As `new_folder`, with a manifest.

    Args:
        output: as of `new_folder`.
        about: as of `write_manifest`.

    Raises:
        FileExistsError: as of `require_empty_folder`.
    """
    with new_folder(output) as beside:
        yield beside
        write_manifest(beside, about)


@contextmanager
def new_folder(output: str | os.PathLike[str]) -> Iterator[Path]:
    """Where to write what becomes the folder `output`, whole; if that fails there is no such folder.

    Args:
        output: the folder to make; may exist if it is empty. Folders above it are made too, and not left behind.

    Raises:
        FileExistsError: as of `require_empty_folder`.
        DiskFullError: the disk is full.
    """
    require_empty_folder(output)
    output = Path(output).resolve()  # a link stays, and what it points to is made
    made = [folder for folder in output.parents if not folder.exists()]  # innermost first
    beside = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    with _left_without_trace(beside, made), writing_to(output.parent), staged_in(beside):
        beside.mkdir(parents=True)
        yield beside
        if output.exists():
            output.rmdir()
        os.replace(beside, output)


@contextmanager
def _left_without_trace(beside: Path, made: list[Path]) -> Iterator[None]:
    """`beside` is gone afterwards; where the block fails, so are the folders made for it, innermost first."""
    done = False
    try:
        yield
        done = True
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        for folder in () if done else made:
            with suppress(OSError):  # somebody else wrote there meanwhile
                folder.rmdir()


def require_empty_folder(output: str | os.PathLike[str]) -> None:
    """Refuse to write where something is, or where no folder can be put, before long work is done.

    Raises:
        FileExistsError: `output` is a file, a folder that holds something, the folder that this process is in, or
            where a disk is mounted.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"A new folder is needed, but {output} exists and is not empty. Name another.")
    where = output.resolve()
    if where == Path.cwd() or os.path.ismount(where):
        what = "where a disk is mounted" if os.path.ismount(where) else "the folder you are in"
        raise FileExistsError(f"A new folder is needed, but {output} is {what}. Name one inside it.")


@contextmanager
def replaced_files(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Where to write a model's files that then take the place of those in `folder`, all or none.

    Other files of the folder stay, and in a folder that is not in its place yet (`staged_in`) they are written at
    once. The folder has no manifest afterwards: what else belongs to the model, such as its tokenizer, is written
    after it.

    Args:
        folder: may exist, and is made if it does not.

    Raises:
        NotADirectoryError: it is a file.
        DiskFullError: the disk is full; the folder holds what it held before.
    """
    folder = Path(folder)
    if folder.is_file():
        raise NotADirectoryError(f"A model is saved to a folder, but {folder} is a file. Name a folder.")
    staging = _staging.get()
    if staging is not None and staging in (folder.resolve(), *folder.resolve().parents):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]  # innermost first
    beside = folder / f".saving.{os.getpid()}.tmp"
    kept = "" if made else "what was there is as it was"
    with _left_without_trace(beside, made), writing_to(folder, kept=kept):
        beside.mkdir(parents=True)
        yield beside
        move_files(beside, folder)
        (folder / MANIFEST_NAME).unlink(missing_ok=True)


@contextmanager
def replaced_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Where to write what then takes the place of a file, whole or not at all.

    Args:
        path: of a link what it points to is replaced; a device or a pipe is written to as it is.

    Raises:
        DiskFullError: the disk is full; the file is what it was before.
    """
    path = Path(path)
    if is_device(path):
        yield path
        return
    place = Path(os.path.realpath(path))
    beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        with writing_to(place.parent):
            yield beside
            flush(beside)
            os.replace(beside, place)
    finally:
        beside.unlink(missing_ok=True)


def is_device(path: str | os.PathLike[str]) -> bool:
    """Whether a path is something to write into and not to replace, such as /dev/null or a named pipe."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


_staging: ContextVar[Path | None] = ContextVar("staging", default=None)


@contextmanager
def staged_in(folder: Path) -> Iterator[None]:
    """What is written in `folder` is not in its place yet: whoever made it moves it there, or deletes it."""
    token = _staging.set(folder.resolve())
    try:
        yield
    finally:
        _staging.reset(token)


def move_files(staged: Path, folder: Path) -> None:
    """Move what is in `staged` to `folder`, the weights late, and remove weights of an old save.

    The manifest is there first, and is of the new files: until the last of them is there it does not verify, so that
    in no moment the folder passes for whole. A move that was cut off is finished by the same call.

    Args:
        staged: on the same disk as `folder`; empty afterwards. It is sealed here unless it is sealed already.
        folder: made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (staged / MANIFEST_NAME).is_file() or any(map(_is_weights, folder.iterdir())):
        _put_manifest_first(staged, folder)
    else:  # without weights it passes for nothing
        for path in staged.iterdir():
            flush(path)
    new = sorted(staged.iterdir(), key=lambda path: (path.name == MANIFEST_NAME, _is_weights(path), path.name))
    names = {path.name for path in new}.union((read_manifest(staged) or {"files": {}})["files"])
    for path in new:
        if path.is_dir():
            shutil.rmtree(folder / path.name, ignore_errors=True)
        os.replace(path, folder / path.name)
    if any(map(_WEIGHTS.fullmatch, names)):  # not adapters alone
        for path in folder.iterdir():
            if _WEIGHTS.fullmatch(path.name) and path.name not in names:
                path.unlink()
    flush(folder)


def _put_manifest_first(staged: Path, folder: Path) -> None:
    if not (staged / MANIFEST_NAME).is_file():
        write_manifest(staged)
    beside = folder / f".{MANIFEST_NAME}.tmp"
    shutil.copyfile(staged / MANIFEST_NAME, beside)
    flush(beside)
    os.replace(beside, folder / MANIFEST_NAME)


_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


def _is_weights(path: Path) -> bool:
    return path.name.endswith((".safetensors", ".safetensors.index.json"))


__all__ = [
    "is_device",
    "move_files",
    "new_folder",
    "replaced_file",
    "replaced_files",
    "require_empty_folder",
    "sealed_folder",
    "staged_in",
]
