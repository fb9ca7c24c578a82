r"""Lines in and lines out: UTF-8, split at `\n` and nowhere else, one line of output for each line of input.

Input is read as it arrives: lines from a slow pipe are passed on at once, a file is read in large pieces. As for
training text, `data/text.py` decides what is removed or refused. A missing last newline is fine.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

PIECE_BYTES = 1 << 18
# Every line break that `str.splitlines`, `wc`, spreadsheets or browsers recognize
LINE_BREAKS = re.compile("\r\n|[\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]")


def one_line(text: str) -> str:
    """Replace every line break of any kind by a space."""
    return LINE_BREAKS.sub(" ", text)


def require_stdin() -> None:
    """Check that there is a stdin to read.

    Raises:
        ValueError: stdin is closed.
    """
    if sys.stdin is None:
        raise ValueError("Text is read from stdin, but that is closed. Pipe text into it, or give --input FILE.")


def require_stdout() -> None:
    """Check that there is a stdout to write to.

    Raises:
        ValueError: stdout is closed.
    """
    if sys.stdout is None:
        raise ValueError(
            "Results and messages go to stdout, but that is closed. Leave it open, or send it to a file or /dev/null."
        )


class UnwritableOutputError(OSError):
    """An output cannot be written; the message has its name and the system's reason."""


def cannot_be_written(name: str, error: OSError) -> UnwritableOutputError:
    """The error to raise when writing the output `name` has failed."""
    found = UnwritableOutputError(
        f"{name} cannot be written: {error.strerror or error}. Make room, or write elsewhere."
    )
    found.errno = error.errno
    return found


def discard(stream: TextIO) -> None:
    """Discard what is still buffered, which Python would otherwise complain about at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # not backed by a system file, as under a test
        return


class Guarded:
    """A standard stream that fails once: output after the first failure is discarded, also at exit.

    Args:
        stream: the stream to write to; with `None`, output is discarded.
        name: the stream's name in the error; without a name, no error is raised, as nobody would see it.

    Attributes:
        failure: the error to raise at the end, because libraries ignore errors of printing.
    """

    def __init__(self, stream: TextIO | None, name: str = "") -> None:
        self._stream = open(os.devnull, "w", encoding="utf-8") if stream is None else stream  # noqa: SIM115
        self._name = name
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write text; returns its length."""
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._try(self._stream.flush)

    def _try(self, method: Callable[..., Any], *arguments: str) -> None:
        try:
            method(*arguments)
        except OSError as error:
            discard(self._stream)
            if not self._name:
                return
            self.failure = error if isinstance(error, BrokenPipeError) else cannot_be_written(self._name, error)
            raise self.failure from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Replace stdout and stderr by `Guarded` streams."""
    streams = sys.stdout, sys.stderr
    if sys.stdout is not None:
        sys.stdout = Guarded(sys.stdout, "stdout")
    sys.stderr = Guarded(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


@contextmanager
def open_input(path: str | None) -> Iterator[BinaryIO]:
    """The file at `path`, or stdin.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: stdin is closed.
    """
    if path is None:
        require_stdin()
        yield sys.stdin.buffer
        return
    if not Path(path).exists() or Path(path).is_dir():
        raise FileNotFoundError(f"There is no input file {path}. Check the path.")
    with open(path, "rb") as file:
        yield file


def line_chunks(stream: BinaryIO, name: str) -> Iterator[list[str]]:
    """The lines of a stream, in lists of those that arrived together; oddities are reported at its end.

    Raises:
        OSError: the stream cannot be read.
        ValueError: it is not UTF-8 text; the message gives `name`.
    """
    from ..data.text import TextReader

    reader = TextReader(name)
    for piece in reader.pieces(_reads(stream, name)):
        if text := reader.decode(piece):
            yield text[:-1].split("\n")
    reader.report()


def _reads(stream: BinaryIO, name: str) -> Iterator[bytes]:
    try:
        yield from iter(lambda: stream.read1(PIECE_BYTES), b"")  # type: ignore[attr-defined]
    except OSError as error:
        raise OSError(f"{name} cannot be read: {error.strerror or error}. Give a file or pipe of text.") from error


def count_lines(path: str | None) -> int | None:
    """The number of lines of a regular file, for the progress bar; `None` for pipes and terminals."""
    if path is None or not Path(path).is_file():
        return None
    ended, last = 0, b"\n"
    with open(path, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            ended += piece.count(b"\n")
            last = piece[-1:]
    return ended + (last != b"\n")


def refuse_existing(path: str | None, overwrite: bool) -> None:
    """Check that a file may be written; also called before long work.

    Raises:
        FileExistsError: it exists and `overwrite` is false, or it is a folder.
        FileNotFoundError: its folder does not exist.
    """
    from ..model.whole_folders import is_device

    if path is None or is_device(path):
        return
    if Path(path).is_dir():
        raise FileExistsError(f"Output goes to a file, but {path} is a folder. Name a file in it.")
    if Path(path).exists() and not overwrite:
        raise FileExistsError(
            f"The output file {path} exists already. Give --overwrite to replace it, or another name."
        )
    if not Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(
            f"There is no folder {Path(path).absolute().parent} for the output file. Make it first."
        )


@contextmanager
def open_output(path: str | None, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Stdout, or a temporary file that is moved to `path` only on success.

    Raises:
        FileExistsError, FileNotFoundError: see `refuse_existing`.
        OSError: the output cannot be written; the message names it.
    """

    refuse_existing(path, overwrite)
    try:
        with _opened_output(path) as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno is None or error.filename is not None:  # about another file, which it names
            raise
        if path is None:
            discard(sys.stdout)
        raise cannot_be_written(path or "stdout", error) from error


@contextmanager
def _opened_output(path: str | None) -> Iterator[BinaryIO]:
    from ..model.whole_folders import replaced_file

    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with replaced_file(path) as beside, beside.open("wb") as file:
        yield file
