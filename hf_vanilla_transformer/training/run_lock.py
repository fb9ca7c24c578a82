"""The lock of a run folder: a second process training in it would delete and publish what the first one writes.

It is a lock of the operating system on a file in the folder that names the holder. The kernel releases it however the
process ends, so a killed run leaves at most the file. Reading (`translate`, `average`, `curves`) needs no lock.
"""

import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

from ..model.disk_space import full_disk, writing_to

logger = logging.getLogger(__name__)

LOCK_NAME = "run.lock"
_FAR_BEYOND = 1 << 30  # a byte beyond the text: on Windows, nobody can read locked bytes

_held: dict[Path, int] = {}
"""Open lock files of this process, by folder."""


class RunInUseError(ValueError):
    """Another process is training in the folder."""


@contextmanager
def locked_run(run: Path) -> Iterator[None]:
    """Keep other processes from training in a folder; it is created, and removed again if it stays empty.

    The same process may take the lock several times. Storage that cannot lock files gives a warning once.

    Args:
        run: the folder; a file is ignored here and refused elsewhere.

    Raises:
        RunInUseError: another process holds the lock.
    """
    place = run.resolve()
    if place in _held or run.is_file():
        yield
        return
    made = [folder for folder in (place, *place.parents) if not folder.exists()]  # innermost first
    place.mkdir(parents=True, exist_ok=True)
    try:
        with writing_to(run):
            descriptor = _take(run)
        if descriptor is None:
            yield
            return
        _held[place] = descriptor
        try:
            yield
        finally:
            if _held.pop(place, None) is not None:  # but not in a process forked in the meantime
                _release(place / LOCK_NAME, descriptor)
    finally:
        for folder in made:
            with suppress(OSError):  # it holds a run
                folder.rmdir()


def _take(run: Path) -> int | None:
    """Open and lock the lock file; None if the storage has no locks."""
    path = run / LOCK_NAME
    while True:
        try:
            descriptor = _open(path)
        except OSError as error:
            if full_disk(error, run):
                raise
            _warn(run, error)
            return None
        try:
            _lock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise RunInUseError(_in_use(run)) from None
        except OSError as error:
            _warn(run, error)
        if _is_still(path, descriptor):
            _sign(descriptor)
            return descriptor
        os.close(descriptor)  # its holder removed it at the end


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # a file that another user left
        return os.open(path, os.O_RDONLY)


def _lock(descriptor: int) -> None:
    """Lock an open file.

    Raises:
        BlockingIOError: another process has locked it.
        OSError: the storage has no locks.
    """
    if sys.platform == "win32":
        os.lseek(descriptor, _FAR_BEYOND, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from None
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    with suppress(OSError):  # opened only for reading, or no byte is free: the lock holds without
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.truncate(descriptor, 0)
        os.write(descriptor, json.dumps(holder).encode())


def _release(path: Path, descriptor: int) -> None:
    """Remove the file while it is still locked, so that nobody else's is removed; on Windows, remove it afterwards."""
    if sys.platform != "win32":
        path.unlink(missing_ok=True)
    os.close(descriptor)
    if sys.platform == "win32":
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _holder(run: Path) -> str:
    """The holder that the lock file names, as part of a sentence; empty if it names none."""
    try:
        holder = json.loads((run / LOCK_NAME).read_text(encoding="utf-8"))
        return f": process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _in_use(run: Path) -> str:
    return (
        f"Another process is training in {run}{_holder(run)}. Wait until it ends, stop it (after SIGTERM it leaves a "
        "checkpoint), or choose another `--output_dir`."
    )


def _warn(run: Path, error: OSError) -> None:
    logger.warning(
        f"The storage of {run} cannot lock files ({error.strerror or error}), so nothing keeps a second process from "
        f"training in the same folder and destroying both runs{_last_holder(run)}. Make sure that there is none."
    )


def _last_holder(run: Path) -> str:
    holder = _holder(run)
    return f" ({LOCK_NAME} names one{holder})" if holder else ""


def _forget() -> None:
    """Release the locks in a forked child (as of a DataLoader), which may outlive its parent."""
    for descriptor in _held.values():
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


__all__ = ["LOCK_NAME", "RunInUseError", "locked_run"]
