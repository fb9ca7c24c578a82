"""Turns a panic of the `tokenizers` library, as on damaged files, into an error of one sentence."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

PANIC = "PanicException"  # from pyo3, which does not export it; it is a BaseException, not an Exception


@contextmanager
def explained_panics() -> Iterator[None]:
    """Raise a Rust panic as an error, without the report that Rust writes to stderr.

    Raises:
        ValueError: the library panicked.
    """
    with _held_stderr() as held:
        try:
            yield
        except BaseException as error:
            if type(error).__name__ != PANIC:
                raise
            held.clear()
            raise ValueError(f"the tokenizers library crashes on it: {error}") from error


@contextmanager
def _held_stderr() -> Iterator[list[bool]]:
    """Hold back what the process writes to stderr, and write it afterwards unless the list is emptied."""
    wanted = [True]
    try:
        stderr = os.dup(2)
    except OSError:  # closed
        yield wanted
        return
    try:
        with TemporaryFile() as file:
            os.dup2(file.fileno(), 2)
            try:
                yield wanted
            finally:
                os.dup2(stderr, 2)
                file.seek(0)
                while wanted and (block := file.read(1 << 16)):
                    os.write(2, block)
    finally:
        os.close(stderr)
