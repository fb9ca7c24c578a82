r"""Parallel text in files of the user's own: two aligned text files, or one TSV, CSV, JSONL or Parquet file.

Text is UTF-8; lines end at `\n` and nowhere else, so U+2028, U+0085, `\v`, `\f` and a lone `\r` stay inside their
sentence; `text` says what is taken off, replaced and refused. A missing last newline is fine. (The readers of
`datasets` also split at a lone `\r`, and take a CSV cell "NA" or "null" for no text.)

- TSV: first row names the columns; cells are split at tabs and quotes mean nothing.
- CSV: first row names the columns; cells hold commas, newlines and doubled quotes if quoted (RFC 4180).
- JSONL: one object a line, flat or with the Hub's nested `translation`.
- Parquet: flat or nested.

Pairs go to an Arrow file in the cache of `datasets`, named by the content of the files, and are read back
memory-mapped: a changed file is read anew, whatever its name, size and time.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..model.json_files import parse_json
from .caching import cached_pairs
from .columns import NESTED, ColumnChoice, Key, choose_columns, text_at
from .text import TextReader, no_pairs, plain_pairs

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

Pair = tuple[str, str]
TABLE_SUFFIXES = (".tsv", ".csv", ".jsonl", ".json", ".parquet")
CHUNK_BYTES = 1 << 22
LINES_BYTES = 1 << 13
ROWS_TOGETHER = 10_000


def read_text_files(source: Path, target: Path) -> Dataset:
    """Pair line n of one file with line n of the other.

    Raises:
        ValueError: unequal numbers of lines, invalid UTF-8, or no lines.
        FileNotFoundError: a file is missing.
    """
    before = _versions(source, target)
    (source_digest, source_lines), (target_digest, target_lines) = (examine_text(path) for path in (source, target))
    if source_lines != target_lines:
        raise unequal_sides(source, source_lines, target, target_lines)
    pairs = _while_unchanged(zip(text_lines(source), text_lines(target), strict=True), before)
    return cached_pairs(f"text {source_digest} {target_digest}", pairs, f"{source} and {target}")


def _versions(*paths: Path) -> dict[Path, tuple[int, int, int]]:
    """What changes when a file does, at the least."""
    for path in paths:
        check_file(path)
    stats = {path: path.stat() for path in paths}
    return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def _while_unchanged(pairs: Iterable[Pair], before: dict[Path, tuple[int, int, int]]) -> Iterator[Pair]:
    """Pairs of files that must be what they were when their content was given a name in the cache.

    Raises:
        ValueError: one has changed.
    """
    try:
        yield from pairs
    finally:
        for path, version in before.items():
            if _versions(path)[path] != version:
                raise ValueError(f"{path} changed while it was read. Start again when nobody writes to it.")


def unequal_sides(source: Path, source_lines: int, target: Path, target_lines: int) -> ValueError:
    """The refusal of two files with unlike numbers of lines."""
    return ValueError(
        f"A parallel corpus pairs line n with line n, but {source} has {source_lines:,} lines and {target} has "
        f"{target_lines:,}. Check that both files were cut from the same release."
    )


def read_table(path: Path, choice: ColumnChoice) -> Dataset:
    """Read two columns of a TSV, CSV, JSONL or Parquet file (see the module's docstring for each format).

    Raises:
        ValueError: columns not found (lists those there are), a row that breaks the format, invalid UTF-8, or no rows.
        FileNotFoundError: the file is missing.
    """
    suffix, before = path.suffix.lower(), _versions(path)
    digest = _digest_bytes(path) if suffix == ".parquet" else examine_text(path)[0]
    keys, pairs = open_table(path, choice)
    return cached_pairs(f"{suffix} {digest} {keys}", _while_unchanged(pairs(), before), str(path))


def open_table(path: Path, choice: ColumnChoice) -> tuple[tuple[Key, Key], Callable[[], Iterator[Pair]]]:
    """Find the keys of a table's two columns from its beginning; the function beside them reads its pairs.

    Raises:
        ValueError: columns not found, or an empty file.
    """
    suffix = path.suffix.lower()
    columns, languages = table_columns(path, suffix)
    headed = suffix in (".tsv", ".csv")
    hint = f" The first row of a {suffix} file must name its columns." if headed else ""
    keys = choose_columns(choice, columns, languages, str(path), hint)
    if headed and choice == ColumnChoice() and keys != (("source",), ("target",)):
        logger.warning(
            "The first row of %s is read as the names of its columns: source %r, target %r. If it is a pair of "
            "sentences, put a row such as source and target above it.",
            path,
            *columns,
        )
    if suffix == ".parquet":
        return keys, lambda: plain_pairs(_parquet_pairs(path, *keys), str(path))
    return keys, lambda: plain_pairs(_row_pairs(path, suffix, columns, *keys), str(path))


def examine_text(path: Path) -> tuple[str, int]:
    """Digest and number of lines of a text file; says what is odd in it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no UTF-8 text, or a pipe, which cannot be read a second time.
    """
    digest, reader = blake2b(digest_size=16), TextReader(str(path))
    with _open_bytes(path) as file:
        for piece in reader.pieces(_reads(file, CHUNK_BYTES)):
            digest.update(piece)
            reader.decode(piece)
    reader.report()
    return digest.hexdigest(), reader.lines


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file without their line end; says what is odd in it where `examine_text` has not.

    Raises:
        ValueError: it is no UTF-8 text, when reading comes to it.
    """
    reader = TextReader(str(path))
    with path.open("rb") as file:
        for piece in reader.pieces(_reads(file, LINES_BYTES)):
            if text := reader.decode(piece):
                yield from text[:-1].split("\n")
    reader.report(again=False)


def _reads(file: IO[bytes], size: int) -> Iterator[bytes]:
    return iter(lambda: file.read(size), b"")


def _open_bytes(path: Path) -> IO[bytes]:
    check_file(path)
    if not path.is_file():
        raise ValueError(
            f"A corpus is read twice, but {path} is a pipe or device, which can be read once. Give a file."
        )
    return path.open("rb")


def check_file(path: Path) -> None:
    """Raise `FileNotFoundError` if there is no such file, or it is a folder."""
    if path.is_dir():
        raise FileNotFoundError(f"A file of text is needed, but {path} is a folder. Name a file in it.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}. Check the path.")


def _digest_bytes(path: Path) -> str:
    digest = blake2b(digest_size=16)
    with _open_bytes(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def table_columns(path: Path, suffix: str) -> tuple[list[str], list[str]]:
    """Names of the columns, and languages of the nested one."""
    if suffix == ".parquet":
        return _parquet_columns(path)
    if next(text_lines(path), None) is None:
        raise no_pairs(str(path))
    return _json_columns(path) if suffix in (".jsonl", ".json") else (_header(path, suffix), [])


def _header(path: Path, suffix: str) -> list[str]:
    columns = next(_csv_rows(path) if suffix == ".csv" else _tsv_rows(path))
    if len(set(columns)) < len(columns):
        raise ValueError(
            f"The first row of {path} must name its columns, each differently, but it is "
            f"{', '.join(map(repr, columns))}."
        )
    return columns


def _tsv_rows(path: Path) -> Iterator[list[str]]:
    return (line.split("\t") for line in text_lines(path))


def _csv_rows(path: Path) -> Iterator[list[str]]:
    reader = csv.reader((f"{line}\n" for line in text_lines(path)), strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{path} must be a CSV file by RFC 4180, but near line {reader.line_num:,}: {error}. Check the "
                "quotes there; a file of plain cells split by tabs may be named .tsv."
            ) from None
        if row is None:
            return
        yield row


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text_lines(path), start=1):
        try:
            row = parse_json(line, finite=False)
        except ValueError as error:
            raise ValueError(
                f"Every line of {path} must be a JSON object, but line {number:,} is not: {line[:60]!r} ({error})."
            ) from None
        if not isinstance(row, dict):
            raise ValueError(f"Every line of {path} must be a JSON object, but line {number:,} is not: {line[:60]!r}.")
        yield row


def _json_columns(path: Path) -> tuple[list[str], list[str]]:
    first = next(_json_rows(path))
    nested = first.get(NESTED)
    return list(first), list(nested) if isinstance(nested, dict) else []


def _row_pairs(path: Path, suffix: str, columns: list[str], source: Key, target: Key) -> Iterator[Pair]:
    """Pairs of a TSV, CSV or JSONL file."""
    if suffix in (".jsonl", ".json"):
        for number, fields in enumerate(_json_rows(path), start=1):
            yield text_at(fields, source, path, number), text_at(fields, target, path, number)
        return
    left, right = columns.index(source[0]), columns.index(target[0])
    rows = _csv_rows(path) if suffix == ".csv" else _tsv_rows(path)
    for number, cells in islice(enumerate(rows, start=1), 1, None):
        if len(cells) != len(columns):
            raise ValueError(
                f"Every row of {path} must have {len(columns)} cells, as its first row has, but row {number:,} has "
                f"{len(cells)}."
            )
        yield cells[left], cells[right]


def _parquet_columns(path: Path) -> tuple[list[str], list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} must be a Parquet file, but it cannot be read as one: {error}.") from None
    nested = schema.field(NESTED).type if NESTED in schema.names else None
    if nested is None or not pa.types.is_struct(nested):
        return schema.names, []
    return schema.names, [nested.field(i).name for i in range(nested.num_fields)]


def _parquet_pairs(path: Path, source: Key, target: Key) -> Iterator[Pair]:
    import pyarrow.parquet as pq

    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_TOGETHER, columns=[".".join(source), ".".join(target)]):
            for fields in batch.to_pylist():
                number += 1
                yield text_at(fields, source, path, number), text_at(fields, target, path, number)
