r"""Lines in and lines out: UTF-8, split at `\n` and nowhere else, one line of output for each line of input.

Input is read as it comes: what a slow pipe has delivered is handed on at once, a file in large pieces. A byte-order
mark and the `\r` of `\r\n` are taken off, as for training text; a missing last newline is fine.
"""

import codecs
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..model.disk_space import writing_to

PIECE_BYTES = 1 << 18
# What `str.splitlines`, `wc`, spreadsheets or browsers take for the end of a line
LINE_BREAKS = re.compile("\r\n|[\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]")


def one_line(text: str) -> str:
    """`text` with each line break of any kind made a space."""
    return LINE_BREAKS.sub(" ", text)


@contextmanager
def open_input(path: str | None) -> Iterator[BinaryIO]:
    """The file at `path`, or stdin.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if path is None:
        yield sys.stdin.buffer
        return
    if not Path(path).exists() or Path(path).is_dir():
        raise FileNotFoundError(f"There is no input file {path}. Check the path.")
    with open(path, "rb") as file:
        yield file


def line_chunks(stream: BinaryIO, name: str) -> Iterator[list[str]]:
    """The lines of a stream, in lists of those that arrived together.

    Raises:
        ValueError: invalid UTF-8, with the line and `name`.
    """
    number = 1
    pending: list[bytes] = []
    for piece in iter(lambda: stream.read1(PIECE_BYTES), b""):  # type: ignore[attr-defined]
        whole, newline, rest = piece.rpartition(b"\n")
        if not newline:
            pending.append(piece)
            continue
        lines = b"".join([*pending, whole]).split(b"\n")
        pending = [rest]
        yield [_decode(line, number + offset, name) for offset, line in enumerate(lines)]
        number += len(lines)
    if last := b"".join(pending):
        yield [_decode(last, number, name)]


def _decode(line: bytes, number: int, name: str) -> str:
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return line.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Text must be UTF-8, but line {number:,} of {name} holds the byte 0x{line[error.start]:02x} where no "
            "character can have it. Convert the file, for instance by iconv."
        ) from None


def count_lines(path: str | None) -> int | None:
    """Lines of a regular file, for the progress bar; `None` for pipes and terminals."""
    if path is None or not Path(path).is_file():
        return None
    ended, last = 0, b"\n"
    with open(path, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            ended += piece.count(b"\n")
            last = piece[-1:]
    return ended + (last != b"\n")


def refuse_existing(path: str | None, overwrite: bool) -> None:
    """Check that a file may be written; meant to be called before long work, too.

    Raises:
        FileExistsError: it is there and `overwrite` is false, or it is a folder.
        FileNotFoundError: its folder does not exist.
    """
    if path is None or _is_device(path):
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
    """Stdout, or a file that is written beside its place and moved there only at the end of success.

    Raises:
        FileExistsError, FileNotFoundError: see `refuse_existing`.
    """
    refuse_existing(path, overwrite)
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if _is_device(path):
        with open(path, "wb") as device:
            yield device
        return
    place = Path(path)
    beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        with writing_to(place.parent), beside.open("wb") as file:
            yield file
        os.replace(beside, place)
    finally:
        beside.unlink(missing_ok=True)


def _is_device(path: str) -> bool:
    """Whether `path` is something to write into and not to replace, such as /dev/null or a named pipe."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
