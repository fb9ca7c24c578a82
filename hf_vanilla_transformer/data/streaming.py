"""Streams parallel text that does not fit on disk; `stream_batching` makes batches of it.

A stream has no length and a fixed order. Errors in a file, such as unequal sides or invalid UTF-8, are found only when
reading reaches them. Pipes and compressed files are not supported, because a stream is read again for every epoch.
(`datasets` reads compressed files from a folder or the Hub.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .columns import NESTED, ColumnChoice, Key, choose_columns, text_at
from .files import Pair, check_file, open_table, text_lines, unequal_sides
from .reading import PathLike, check_text, find_files, load_builtin, load_named, nested_languages
from .text import no_pairs, plain_pairs

if TYPE_CHECKING:
    from datasets import IterableDataset

ROWS_TOGETHER = 1000


class ParallelStream:
    """The pairs of a corpus, (source, target); every `iter` reads them from the start.

    To learn a tokenizer from the first million pairs of a stream, use
    `train_tokenizer(itertools.chain.from_iterable(itertools.islice(stream, 1_000_000)))`.

    Args:
        read: returns the pairs from the first one each time it is called.
        origin: the files or dataset, for messages.

    Raises:
        ValueError: while reading: there are no pairs, the text holds half of a surrogate pair, or `read` raises it.
    """

    def __init__(self, read: Callable[[], Iterable[Pair]], origin: str) -> None:
        self._read = read
        self.origin = origin

    def __iter__(self) -> Iterator[Pair]:
        row = 0
        for row, pair in enumerate(self._read(), start=1):
            try:
                "".join(pair).encode()
            except UnicodeEncodeError:
                raise ValueError(
                    f"Text must be made of whole characters, but row {row:,} of {self.origin} holds half of a "
                    "surrogate pair, such as \\ud800. Repair or remove it."
                ) from None
            yield pair
        if not row:
            raise no_pairs(self.origin)


def stream_parallel_corpus(
    source: PathLike | None = None,
    target: PathLike | None = None,
    *,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    split: str = "train",
    source_lang: str | None = None,
    target_lang: str | None = None,
    source_column: str | None = None,
    target_column: str | None = None,
    languages_name_columns: bool = False,
) -> ParallelStream:
    """Read a parallel corpus as a stream: nothing is stored, and at most a few thousand pairs are in memory.

    Args:
        source, target, dataset_name, dataset_config_name: as in `load_parallel_corpus`.
        split: a whole split; slices such as `train[:1%]` cannot be streamed.
        source_lang, target_lang, source_column, target_column, languages_name_columns: as in `load_parallel_corpus`.

    Returns:
        The pairs that `load_parallel_corpus` reads, in the same order.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as in `load_parallel_corpus`; for unequal sides, invalid UTF-8
            and malformed rows only when reading reaches them.
    """
    choice = ColumnChoice(source_column, target_column, source_lang, target_lang, languages_name_columns)
    files = find_files(source, target, dataset_name, split)
    for path in files:
        _check_regular(path)
    if len(files) > 1:
        read: Callable[[], Iterable[Pair]] = partial(_text_pairs, *files)
    elif files:
        _, read = open_table(files[0], choice)
    else:
        name = str(dataset_name)
        return ParallelStream(_open_named(name, dataset_config_name, split, choice), f"split {split!r} of {name}")
    return ParallelStream(read, " and ".join(map(str, files)))


def _check_regular(path: Path) -> None:
    check_file(path)
    if not path.is_file():
        raise ValueError(
            f"A stream is read again for every epoch, but {path} is a pipe or device, which can be read only once. "
            "Give a file."
        )


def _text_pairs(source: Path, target: Path) -> Iterator[Pair]:
    sides = text_lines(source), text_lines(target)
    for before, (left, right) in enumerate(zip_longest(*sides)):
        if left is None or right is None:
            more = before + 1 + sum(1 for _ in sides[left is None])
            raise unequal_sides(source, before if left is None else more, target, more if left is None else before)
        yield left, right


def _open_named(name: str, config_name: str | None, split: str, choice: ColumnChoice) -> Callable[[], Iterator[Pair]]:
    from .builtin import BUILTIN_NAME

    dataset = load_builtin(split) if name == BUILTIN_NAME else load_named(name, config_name, split, streaming=True)
    if dataset.features is None:  # unknown until a row is read
        first = next(_rows(dataset, name), None)
        if first is None:
            raise no_pairs(f"split {split!r} of {name}")
        columns, languages = list(first), nested_languages(first.get(NESTED))
    else:
        columns, languages = dataset.column_names, nested_languages(dataset.features.get(NESTED))
    keys = choose_columns(choice, columns, languages, name)
    if dataset.features is not None:
        check_text(dataset.features.flatten(), [".".join(key) for key in keys], name)
    dataset = dataset.select_columns(list({key[0]: None for key in keys}))
    return lambda: plain_pairs(_named_pairs(dataset, name, *keys), name)


def _named_pairs(dataset: IterableDataset, name: str, source: Key, target: Key) -> Iterator[Pair]:
    for number, row in enumerate(_rows(dataset, name), start=1):
        yield text_at(row, source, name, number), text_at(row, target, name, number)


def _rows(dataset: IterableDataset, name: str) -> Iterator[dict[str, Any]]:
    batches = dataset.iter(batch_size=ROWS_TOGETHER)
    while True:
        try:
            batch = next(batches, None)
        except ValueError as error:  # from a decoder or parser
            raise ValueError(f"{name} must be readable by datasets, but it is not: {error}") from error
        if batch is None:
            return
        yield from (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))
