"""Full disks: one clear message with the folder, the free space and what to do, however a library reports the error.

Python's own calls name no folder, safetensors and tokenizers raise their own errors, torch reports a position in a
file, NumPy a number of items. This module alone decides what counts as a full disk and what the message says.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PathLike = str | os.PathLike[str]

_QUOTA = getattr(errno, "EDQUOT", errno.ENOSPC)  # Windows has no quota error
_NUMBERS = (errno.ENOSPC, _QUOTA, errno.EFBIG)
_SYSTEM = r"os error (39|112)\b" if os.name == "nt" else rf"os error {errno.ENOSPC}\b"  # Rust, in any language
_WORDS = (
    (_QUOTA, r"dis[ck] quota exceeded"),
    (errno.EFBIG, r"file too large"),
    (
        errno.ENOSPC,
        rf"no space left on device|not enough space on the disk|not enough disk space|disk is full|{_SYSTEM}",
    ),
)
# reported for a full disk, but for other failures too
_UNSURE = re.compile(
    r"PytorchStreamWriter|inline_container.*unexpected pos|iostream error|requested and \d+ written"
    r"|no usable temporary directory|encoder error",
    re.IGNORECASE | re.DOTALL,
)
_SHARED_MEMORY = re.compile(r"/torch_\w+")
_PROBE_BYTES = 1 << 20


class DiskFullError(OSError):
    """A full disk, an exhausted quota, or a file larger than allowed; `filename` is the folder.

    `str(error)` is the complete message for users.
    """

    def __str__(self) -> str:
        return str(self.strerror)


def full_disk(error: BaseException, *folders: PathLike, kept: str = "") -> str | None:
    """The message for an error that means a full disk.

    Args:
        error: the error that was raised; its causes are examined too.
        folders: where the program was writing, if known; named if the error names no folder, or one inside them.
        kept: what is not lost, as the end of a sentence.

    Returns:
        One or two sentences, or None if the error means something else.
    """
    full = _diagnose(error, folders, kept)
    return None if full is None else str(full)


@contextmanager
def writing_to(folder: PathLike, kept: str = "") -> Iterator[None]:
    """Raise any error in the block that means a full disk as `DiskFullError`, which is an `OSError`.

    Args:
        folder: where the block writes.
        kept: as in `full_disk`.

    Raises:
        DiskFullError: the disk is full.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        full = _diagnose(error, (folder,), kept)
        if full is None:
            raise
        raise full from error


def _diagnose(error: BaseException, folders: tuple[PathLike, ...], kept: str) -> DiskFullError | None:
    links = list(_chain(error))
    for link in links:
        if isinstance(link, DiskFullError):
            return link
    for link in links:
        number = _number_of(link)
        if number:
            folder = _named_folder(link, folders) or _refusing_folder(link, folders) or next(iter(folders), None)
            return _full(number, folder, kept)
    if any(_UNSURE.search(str(link)) for link in links):
        folder = _refusing_folder(error, folders)
        return None if folder is None else _full(_refusal_of(folder), folder, kept)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and the chain of errors that caused it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _number_of(error: BaseException) -> int:
    """ENOSPC, EDQUOT, EFBIG, or 0."""
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    if number is not None:
        return number if number in _NUMBERS else 0
    text = str(error)
    return next((number for number, words in _WORDS if re.search(words, text, re.IGNORECASE)), 0)


def _named_folder(error: BaseException, folders: tuple[PathLike, ...]) -> PathLike | None:
    """The folder that the error names: one of `folders` if the path is inside, else the innermost that exists."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)  # the second: where a copy goes
    if not isinstance(name, (str, bytes, os.PathLike)) or not name or _SHARED_MEMORY.search(str(error)):
        return None
    path = Path(os.fsdecode(name)).absolute()
    for folder in folders:
        if Path(folder).absolute() in (path, *path.parents):
            return folder
    return next((place for place in (path, *path.parents) if place.is_dir()), None)


def _refusing_folder(error: BaseException, folders: tuple[PathLike, ...]) -> PathLike | None:
    """The first folder whose disk is full, among the given ones, then those that libraries write to."""
    shared_memory = [Path("/dev/shm")] if _SHARED_MEMORY.search(str(error)) else []
    places: list[PathLike] = [*shared_memory, *folders, _temporary_folder(), *_caches(), Path.cwd()]
    return next((place for place in places if _refusal_of(place)), None)


def _refusal_of(folder: PathLike) -> int:
    """Try to write a megabyte: ENOSPC, EDQUOT, EFBIG, or 0 if that succeeds or fails for another reason."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())  # network disks report it only here
    except OSError as error:
        return _number_of(error)
    return 0


def _existing(folder: PathLike) -> Path:
    path = Path(folder).absolute()
    return next(place for place in (path, *path.parents) if place.is_dir())


def _temporary_folder() -> Path:
    """The folder that `tempfile` would choose; `tempfile` itself raises an error if it cannot write to any."""
    given = next((os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)), None)
    return Path(given or tempfile.tempdir or ("/tmp" if os.name == "posix" else "."))


def _caches() -> dict[Path, str]:
    """The cache folders of `datasets` and `huggingface_hub`, and the environment variable that moves each."""
    given = [name for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_HOME") if os.environ.get(name)]
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    named = {Path(os.environ[name]).expanduser().absolute(): name for name in given}
    return {**named, Path(f"{home}/huggingface").expanduser().absolute(): "HF_HOME"}


def _full(number: int, folder: PathLike | None, kept: str) -> DiskFullError:
    end = f"; {kept}" if kept else ""
    if folder is None:
        what = f"A disk is full ({os.strerror(number)}), and the library does not say which"
        return DiskFullError(number, f"{what}. Free some space{end}.")
    free = _free_on(folder)
    if number == errno.EFBIG:
        what = f"{folder} does not allow a file of this size, with {free} on its disk"
        remedy = f"Raise the limit (`ulimit -f`), or {_elsewhere(folder)}"
    elif number == _QUOTA != errno.ENOSPC:
        what = f"The quota on the disk of {folder} is used up, with {free} on the disk"
        remedy = f"Delete what you no longer need, or {_elsewhere(folder)}"
    else:
        what = f"The disk of {folder} is full: {free}, and more is needed"
        remedy = f"Free some space there, or {_elsewhere(folder)}"
    return DiskFullError(number, f"{what}. {remedy}{end}.", str(folder))


def _free_on(folder: PathLike) -> str:
    """Free space for this user, in megabytes or gigabytes."""
    place = _existing(folder)
    free = shutil.disk_usage(place).free
    size = f"{free / 1e9:,.1f} GB" if free >= 1e10 else f"{free / 1e6:,.{1 if free < 1e7 else 0}f} MB"
    if hasattr(os, "statvfs"):
        disk = os.statvfs(place)
        if disk.f_files and not disk.f_favail:
            return f"{size} free but no room for one more file"
    return f"{size} free"


def _elsewhere(folder: PathLike) -> str:
    """How to make the program write elsewhere than to `folder`."""
    place = Path(folder).absolute()
    inside = (place, *place.parents)
    if place == Path("/dev/shm"):
        return "use fewer `--dataloader_num_workers`"
    for cache, variable in _caches().items():
        if cache in inside:
            return f"set {variable} to a folder on another disk"
    if place == _temporary_folder().absolute():
        return "set TMPDIR to a folder on another disk"
    return "write to another disk"


__all__ = ["DiskFullError", "full_disk", "writing_to"]
