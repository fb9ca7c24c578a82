"""Where the `tokenizers` library breaks down instead of raising an error, as on damaged files: one sentence of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

PANIC = "PanicException"  # of pyo3, which exports it nowhere; no `Exception`, so that nobody catches it by chance


@contextmanager
def explained_panics() -> Iterator[None]:
    """Raise what Rust panics of as an error, without the report that Rust writes to stderr beforehand.

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
            raise ValueError(f"the tokenizers library breaks down on it: {error}") from error


@contextmanager
def _held_stderr() -> Iterator[list[bool]]:
    """Keep back what the process writes to stderr, and write it afterwards unless the list is emptied."""
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
