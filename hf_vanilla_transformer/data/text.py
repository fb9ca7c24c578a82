r"""Decodes text from files, pipes and tables: refuses what is not UTF-8 text, and counts and reports oddities.

Lines end only at `\n`; a byte-order mark at the start and `\r` at the end of a line are removed. A control character
other than white space, such as NUL, is read as a space, as in Moses' cleaning scripts; a `\r` inside a line is kept.
Both are counted and reported. Refused, with advice: compressed files, documents, UTF-16 and UTF-32, lines that end at
`\r` (old Macintosh), and lines of more than `MOST_BYTES`.
"""

from __future__ import annotations

import codecs
import io
import logging
import re
from collections.abc import Iterable, Iterator

logger = logging.getLogger(__name__)

MOST_BYTES = 10_000_000
"""Maximum length of a line; a whole book is shorter."""

NO_TEXT = "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]"
"""Control characters other than white space."""

_NO_TEXT = re.compile(NO_TEXT)
_ONE_BYTE = bytes(code for code in range(0x80) if _NO_TEXT.match(chr(code)))
_TWO_BYTES = re.compile(rb"\xc2[\x80-\x84\x86-\x9f]")

_REPORTED: set[tuple[str, int, int]] = set()

_UNPACK = "is compressed by {0}: unpack it first, for instance by `{1}`"
_SAVE = "is a document ({0}): save it as plain text in UTF-8"
_CONVERT = "is in {0}: convert it, for instance by `iconv -f {0} -t UTF-8`"
_FORMATS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1f\x8b", _UNPACK.format("gzip", "zcat")),
    (4, b"1AY&SY", _UNPACK.format("bzip2", "bzcat")),
    (0, b"\xfd7zXZ\x00", _UNPACK.format("xz", "xzcat")),
    (0, b"\x28\xb5\x2f\xfd", _UNPACK.format("zstd", "zstdcat")),
    (0, b"\x04\x22\x4d\x18", _UNPACK.format("lz4", "lz4cat")),
    (0, b"7z\xbc\xaf\x27\x1c", _UNPACK.format("7-Zip", "7z x")),
    (0, b"PK\x03\x04", _UNPACK.format("zip", "unzip -p") + "; if it is an office document, save it as plain text"),
    (257, b"ustar", "is a tar archive: unpack it first, for instance by `tar -xf`"),
    (0, b"%PDF-", _SAVE.format("PDF")),
    (0, b"{\\rtf", _SAVE.format("RTF")),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _SAVE.format("Office 97")),
    (0, b"PAR1", "is a Parquet file: give it a name that ends in .parquet"),
    (0, codecs.BOM_UTF32_LE, _CONVERT.format("UTF-32")),
    (0, codecs.BOM_UTF32_BE, _CONVERT.format("UTF-32")),
    (0, codecs.BOM_UTF16_LE, _CONVERT.format("UTF-16")),
    (0, codecs.BOM_UTF16_BE, _CONVERT.format("UTF-16")),
)


class TextReader:
    """Decodes a file or stream from the start, piece by piece.

    Args:
        name: name of the file or stream, for messages.

    Attributes:
        lines: number of lines read so far.
    """

    def __init__(self, name: str) -> None:
        self.name, self.lines = name, 0
        self._begun = False
        self._controls = self._carriage_returns = 0

    def pieces(self, reads: Iterable[bytes]) -> Iterator[bytes]:
        """Pieces of whole lines, as they arrive together; only the last may lack its newline.

        Raises:
            ValueError: a line is too long.
        """
        pending: list[bytes] = []
        size = 0
        for read in reads:
            whole, newline, rest = read.rpartition(b"\n")
            if newline:
                yield b"".join([*pending, whole, newline])
                pending, size = [], 0
            pending.append(rest)
            size += len(rest)
            if size > MOST_BYTES:
                self._refuse_endless_line(b"".join(pending))
        if size:
            yield b"".join(pending)

    def decode(self, piece: bytes) -> str:
        r"""Decode whole lines; each ends with `\n`, without `\r` before it.

        Raises:
            ValueError: it is not UTF-8 text; the message names the format if it is known, or else the line.
        """
        if not self._begun:
            self._begun = True
            piece = piece.removeprefix(codecs.BOM_UTF8)
            self._refuse_other_formats(piece)
        if not piece:  # only a byte-order mark
            return ""
        try:
            text = piece.decode("utf-8")
        except UnicodeDecodeError as error:
            line = self.lines + piece.count(b"\n", 0, error.start) + 1
            raise ValueError(
                f"Text must be UTF-8, but line {line:,} of {self.name} holds the byte 0x{piece[error.start]:02x} "
                "where no character can have it. Convert the file, for instance by iconv."
            ) from None
        if b"\r" in piece:
            text = self._take_off_carriage_returns(text)
        if len(piece) > MOST_BYTES:
            self._refuse_long_lines(piece)
        controls = len(piece) - len(piece.translate(None, _ONE_BYTE)) + len(_TWO_BYTES.findall(piece))
        if controls:
            self._controls += controls
            text = plain(text)
        text = text if text.endswith("\n") else f"{text}\n"
        self.lines += piece.count(b"\n") + (not piece.endswith(b"\n"))
        return text

    def report(self, again: bool = True) -> None:
        """Report oddities when all is read; with `again`, also those that were reported before."""
        found = (self.name, self._controls, self._carriage_returns)
        if not again and found in _REPORTED:
            return
        _REPORTED.add(found)
        warn_of_controls(self._controls, self.name)
        if self._carriage_returns:
            logger.warning(
                r"%s: %s carriage returns inside lines are kept, because lines end only at \n.",
                self.name,
                f"{self._carriage_returns:,}",
            )

    def _take_off_carriage_returns(self, text: str) -> str:
        text = text.replace("\r\n", "\n").removesuffix("\r")
        if "\r" in text:
            for ended, line in enumerate(io.StringIO(text, newline="\n"), start=self.lines):
                self._carriage_returns += line.count("\r")
                if self._carriage_returns > ended + line.endswith("\n"):
                    raise ValueError(
                        rf"Lines must end at \n, but most of {self.name} end at \r (old Macintosh). Convert it, for "
                        r"instance by `tr '\r' '\n'`."
                    )
        return text

    def _refuse_endless_line(self, beginning: bytes) -> None:
        if not self._begun:
            self._refuse_other_formats(beginning.removeprefix(codecs.BOM_UTF8))
        if b"\r" in beginning[:-1]:
            self._take_off_carriage_returns(beginning.decode("utf-8", errors="replace"))
        self._refuse_long_lines(beginning)

    def _refuse_long_lines(self, piece: bytes) -> None:
        for number, line in enumerate(piece.split(b"\n"), start=self.lines + 1):
            if len(line) > MOST_BYTES:
                raise ValueError(
                    f"Text must be one sentence per line, but line {number:,} of {self.name} has more than "
                    f"{MOST_BYTES:,} bytes. Split it into lines."
                )

    def _refuse_other_formats(self, start: bytes) -> None:
        found = next((what for place, magic, what in _FORMATS if start[place:].startswith(magic)), None)
        start = start[:100_000]
        if found is None and (encoding := _guess_wide_encoding(start)):
            found = _CONVERT.format(encoding)
        controls = len(start) - len(start.translate(None, _ONE_BYTE))
        if found is None and controls > 8 and controls * 5 > len(start):
            found = "is full of control characters: give plain text, or convert it by iconv if it is UTF-16"
        if found:
            raise ValueError(f"Text must be UTF-8, but {self.name} {found}.")


def plain(text: str) -> str:
    """Replace every control character other than white space by a space."""
    return _NO_TEXT.sub(" ", text)


def warn_of_controls(count: int, origin: str) -> None:
    """Report how many control characters were replaced by spaces, if any."""
    if count:
        logger.warning("%s: %s control characters, such as NUL, are each read as a space.", origin, f"{count:,}")


def plain_pairs(pairs: Iterable[tuple[str, str]], origin: str) -> Iterator[tuple[str, str]]:
    """Replace control characters in pairs of a table, where escapes can produce them; report the count at the end."""
    controls = 0
    for source, target in pairs:
        found = len(_NO_TEXT.findall(source)) + len(_NO_TEXT.findall(target))
        controls += found
        yield (plain(source), plain(target)) if found else (source, target)
    warn_of_controls(controls, origin)


def no_pairs(origin: str) -> ValueError:
    """The error for an empty corpus."""
    return ValueError(f"A corpus needs at least one pair of sentences, but there is none in {origin}.")


def _guess_wide_encoding(start: bytes) -> str | None:
    """Detect UTF-16 or UTF-32 without a byte-order mark, in which ASCII letters and newlines come with NUL bytes."""
    nulls = start.count(0)
    if nulls < 2:
        return None
    if nulls * 2 > len(start):
        return "UTF-32LE" if start[:1] != b"\x00" else "UTF-32BE"
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if min(even, odd) * 50 > max(even, odd):
        return None
    name, whole = ("UTF-16LE", b"\n\x00") if odd > even else ("UTF-16BE", b"\x00\n")
    newlines = start[:-1].count(b"\n")
    is_wide = start.count(whole) >= newlines if newlines else nulls * 3 >= len(start)
    return name if is_wide else None
