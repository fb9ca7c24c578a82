"""Folders are written whole or not at all: first to a temporary folder, then moved into place.

After a full disk or a killed process, the old content is still there, or, if it happened between two moves, the
folder's manifest shows that it is incomplete.
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
        output: as in `new_folder`.
        about: as in `write_manifest`.

    Raises:
        FileExistsError: as in `require_empty_folder`.
    """
    with new_folder(output) as beside:
        yield beside
        write_manifest(beside, about)


@contextmanager
def new_folder(output: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder that becomes `output` at the end of the block; if the block fails, there is no `output`.

    Args:
        output: the folder to make; may exist if it is empty. Parent folders are made too, and removed on failure.

    Raises:
        FileExistsError: as in `require_empty_folder`.
        DiskFullError: the disk is full.
    """
    require_empty_folder(output)
    output = Path(output).resolve()  # a link stays, and its target is made
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
    """Remove `beside` afterwards and, if the block fails, the folders that were made for it, innermost first."""
    done = False
    try:
        yield
        done = True
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        for folder in () if done else made:
            with suppress(OSError):  # another process wrote there meanwhile
                folder.rmdir()


def require_empty_folder(output: str | os.PathLike[str]) -> None:
    """Refuse an output that is not empty or cannot become a new folder, before long work is done.

    Raises:
        FileExistsError: `output` is a file, a folder that is not empty, the current folder, or a mount point.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"A new folder is needed, but {output} exists and is not empty. Name another.")
    where = output.resolve()
    if where == Path.cwd() or os.path.ismount(where):
        what = "a mount point" if os.path.ismount(where) else "the current folder"
        raise FileExistsError(f"A new folder is needed, but {output} is {what}. Name one inside it.")


@contextmanager
def replaced_files(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder for a model's files, which then replace those in `folder`, all or none.

    Other files of the folder stay. Inside a folder that is itself temporary (`staged_in`), files are written directly.
    The folder has no manifest afterwards, since other files of the model, such as its tokenizer, are written later.

    Args:
        folder: the folder to write to; made if it does not exist.

    Raises:
        NotADirectoryError: `folder` is a file.
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
    kept = "" if made else "what was there is unchanged"
    with _left_without_trace(beside, made), writing_to(folder, kept=kept):
        beside.mkdir(parents=True)
        yield beside
        move_files(beside, folder)
        (folder / MANIFEST_NAME).unlink(missing_ok=True)


@contextmanager
def replaced_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file that replaces the file `path` at the end of the block, whole or not at all.

    Args:
        path: the file; for a link, its target is replaced; a device or a pipe is written to directly.

    Raises:
        DiskFullError: the disk is full; the file is unchanged.
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
    """Whether a path must be written to rather than replaced, such as /dev/null or a named pipe."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


_staging: ContextVar[Path | None] = ContextVar("staging", default=None)


@contextmanager
def staged_in(folder: Path) -> Iterator[None]:
    """Mark `folder` as temporary within the block: whoever made it moves it into place, or deletes it."""
    token = _staging.set(folder.resolve())
    try:
        yield
    finally:
        _staging.reset(token)


def move_files(staged: Path, folder: Path) -> None:
    """Move the content of `staged` to `folder`, weights late, and remove the weights of an old save.

    The manifest of the new files is put into `folder` first. It does not match until the last file is there, so the
    folder never passes for complete in between. Calling this again finishes an interrupted move.

    Args:
        staged: a folder on the same disk as `folder`; empty afterwards. It is sealed here if it is not sealed yet.
        folder: the destination; made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (staged / MANIFEST_NAME).is_file() or any(map(_is_weights, folder.iterdir())):
        _put_manifest_first(staged, folder)
    else:  # without weights the folder cannot pass for complete
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
