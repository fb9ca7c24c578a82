"""Batches bounded by tokens (section 5.1) from a stream that fits neither on disk nor in memory.

The stream is read in pools of pairs; each pool is encoded, filtered, split into batches by `TokenBudgetBatchSampler`
and then discarded. Unlike in a corpus on disk, pairs are shuffled only within their pool, so a sorted corpus should be
shuffled beforehand; and duplicates are found only within a pool, because remembering all pairs would take unbounded
memory.

Every process reads and encodes the whole stream, because the lengths of all pairs of a pool decide its batches.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset, get_worker_info

from .batching import TokenBudgetBatchSampler
from .caching import PAIRS_TOGETHER
from .encoding import PAIR_IDS, encode_pairs, sequence_lengths
from .files import Pair
from .filtering import FilterReport, FilterSettings, apply_filters, require_pairs
from .text import no_pairs

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

Batch = list[dict[str, list[int] | int]]
"""For each pair, `input_ids`, `labels`, and in `pair_ids` its row in the stream."""


@dataclass(frozen=True)
class _PoolRecord:
    """The counts of a pool; the same in every epoch, because the number of batches depends only on the lengths."""

    rows: int  # pairs read
    batches: int
    dropped: dict[str, int]  # pairs by reason


class StreamingBatches(IterableDataset[Batch]):
    """Batches bounded by tokens (section 5.1) from a stream, epoch after epoch without end.

    The batches are one endless sequence that depends only on corpus, `seed` and settings. Process r of n yields those
    numbered r, r + n, r + 2n, ... An epoch holds every pair that passes the filters exactly once; pools never cross
    the end of an epoch, and each pool of each epoch is shuffled differently.

    Use it as `DataLoader(batches, batch_size=None, collate_fn=collator)`, and limit training with `max_steps`. Do not
    pass the loader to accelerate's `prepare`, which would distribute the batches again.

    Args:
        corpus: pairs (source, target), the same in the same order each time it is iterated, as `ParallelStream` is.
        tokenizer: as in `encode_corpus`.
        filters: the filters to apply; their `max_tokens` must be set and within the budget, because a stream cannot
            be searched beforehand for a sentence that fits no batch.
        max_tokens: token budget of each side of a batch, padding included.
        pool_size: number of pairs in a pool, at least 1; this bounds memory, at about 1 kB per pair.
        seed: seed of the shuffling, 0 or more.
        rank: rank of this process, from 0.
        num_processes: number of processes that share the batches.

    Raises:
        ValueError: a setting is out of range; or, while iterating: there are no pairs, none passes the filters, the
            corpus has changed since the last epoch (by its counts), or a DataLoader started worker processes.
    """

    def __init__(
        self,
        corpus: Iterable[Pair],
        tokenizer: PreTrainedTokenizerBase,
        filters: FilterSettings,
        max_tokens: int,
        *,
        pool_size: int = 100_000,
        seed: int = 0,
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.corpus, self.tokenizer, self.filters, self.max_tokens = corpus, tokenizer, filters, max_tokens
        self.pool_size, self.seed, self.rank, self.num_processes = pool_size, seed, rank, num_processes
        self._check_settings()
        self._skipped = 0
        self._pools: list[_PoolRecord] = []  # the pools of an epoch known so far
        self._knows_all = False

    @property
    def report(self) -> FilterReport:
        """The pairs of the first epoch read so far, and how many each filter dropped."""
        dropped: Counter[str] = Counter(dict.fromkeys(self.filters.active_reasons(), 0))
        for pool in self._pools:
            dropped.update(pool.dropped)
        return FilterReport(sum(pool.rows for pool in self._pools), dict(dropped), self.filters, self.pool_size)

    def skip(self, batches: int, seen: Mapping[str, Any] | None = None) -> None:
        """Start the next iterations after this many batches of this process, to resume training.

        Known epochs and pools are skipped without encoding them; without `seen`, the first epoch has to be encoded
        again.

        Args:
            batches: number of batches to skip, 0 or more.
            seen: the value of `seen` when training stopped, or later.

        Raises:
            ValueError: `seen` belongs to other settings.
        """
        _check_number("batches", batches, 0)
        self._skipped = batches
        if seen is None:
            return
        if seen["settings"] != self._settings():
            raise ValueError(
                f"Pools to skip must come from the same settings, but they come from {seen['settings']} and "
                f"these are {self._settings()}. Restore the settings, or skip without `seen`."
            )
        self._pools = [_PoolRecord(*pool) for pool in seen["pools"]]
        self._knows_all = seen["knows_all"]

    @property
    def seen(self) -> dict[str, Any]:
        """The counts of pairs and batches of all pools planned so far, for `skip`; JSON-serializable."""
        pools = [list(astuple(pool)) for pool in self._pools]
        return {"settings": self._settings(), "pools": pools, "knows_all": self._knows_all}

    def _settings(self) -> dict[str, Any]:
        """The settings that, with corpus and tokenizer, determine the number of batches in a pool."""
        return {"max_tokens": self.max_tokens, "pool_size": self.pool_size, "filters": asdict(self.filters)}

    def __iter__(self) -> Iterator[Batch]:
        if get_worker_info() is not None:
            raise ValueError(
                "A stream is read by the training process itself, but the DataLoader started worker processes. Set "
                "num_workers (--dataloader_num_workers) to 0."
            )
        waiting = self._skipped * self.num_processes + self.rank  # batches before the next one of this process
        number = 0  # number of the pool, over all epochs
        while True:
            waiting, number = yield from self._epoch(waiting, number)

    def _epoch(self, waiting: int, first_pool: int) -> Generator[Batch, None, tuple[int, int]]:
        """Yield an epoch's batches of this process; return `waiting` and the first pool of the next epoch."""
        if self._knows_all and waiting >= (batches := sum(pool.batches for pool in self._pools)):
            return waiting - batches, first_pool + len(self._pools)
        pairs = iter(self.corpus)
        index = 0
        while (left := (yield from self._pool(pairs, index, first_pool + index, waiting))) is not None:
            waiting, index = left, index + 1
        self._finish_epoch(index)
        return waiting, first_pool + index

    def _pool(
        self, pairs: Iterator[Pair], index: int, number: int, waiting: int
    ) -> Generator[Batch, None, int | None]:
        """Yield a pool's batches of this process; return `waiting` for the next pool, or `None` at the corpus' end."""
        known = self._pools[index] if index < len(self._pools) else None
        if known is not None and waiting >= known.batches:
            if sum(1 for _ in islice(pairs, known.rows)) != known.rows:
                raise self._changed(index)
            return waiting - known.batches
        read = self._read_pool(pairs, index * self.pool_size)
        if read is None:
            return None
        pool, report = apply_filters(read, self.filters)
        pool = pool.select_columns(["input_ids", "labels", PAIR_IDS])
        del read  # and with it the text
        plan = self._plan(pool, number)
        self._record(index, _PoolRecord(report.total, len(plan), report.dropped))
        for batch in islice(plan, waiting, None, self.num_processes):
            rows = pool[batch]
            yield [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
        return max(waiting - len(plan), (waiting - len(plan)) % self.num_processes)

    def _read_pool(self, pairs: Iterator[Pair], first_row: int) -> Dataset | None:
        """The next pairs, encoded; `None` at the corpus' end."""
        import pyarrow as pa
        from datasets import Dataset

        left, parts = islice(pairs, self.pool_size), []
        while part := list(islice(left, PAIRS_TOGETHER)):
            encoded = encode_pairs(part, self.tokenizer, first_row=first_row)
            rows = pa.array(range(first_row, first_row + len(part)))
            parts.append(encoded.append_column(PAIR_IDS, rows))
            first_row += len(part)
        # with a given fingerprint, `datasets` does not compute one by hashing all the text
        return Dataset(pa.concat_tables(parts), fingerprint="pool") if parts else None

    def _plan(self, pool: Dataset, number: int) -> list[list[int]]:
        if not len(pool):
            return []
        source, target = (sequence_lengths(pool, column) for column in ("input_ids", "labels"))
        sampler = TokenBudgetBatchSampler(source, target, self.max_tokens, seed=self.seed)
        sampler.set_epoch(number)
        return list(sampler)

    def _record(self, index: int, pool: _PoolRecord) -> None:
        known = self._pools[index : index + 1]
        if known == [pool]:
            return
        if known or self._knows_all:
            raise self._changed(index)
        self._pools.append(pool)

    def _finish_epoch(self, pools: int) -> None:
        if not pools and not self._pools:
            raise no_pairs("the stream")
        if pools < len(self._pools):
            raise self._changed(pools)
        require_pairs(self.report)
        if not self._knows_all and self.rank == 0:
            logger.info("The stream was read once to the end:\n%s", self.report.table())
        self._knows_all = True

    def _changed(self, index: int) -> ValueError:
        first = index * self.pool_size + 1
        return ValueError(
            f"A stream must give the same pairs in the same order each time it is read, but those from pair {first:,} "
            "on are not what they were before. Do not change the corpus or the tokenizer during training."
        )

    def _check_settings(self) -> None:
        if isinstance(self.corpus, Iterator):
            raise ValueError(
                "A stream is read again for every epoch, but an iterator, which can be read once, was given. Give an "
                "object whose `iter` starts from the beginning, such as ParallelStream."
            )
        for name, least in (("seed", 0), ("num_processes", 1), ("rank", 0)):
            _check_number(name, getattr(self, name), least)
        if self.rank >= self.num_processes:
            raise ValueError(
                f"rank must be below num_processes, but it is {self.rank} of {self.num_processes}; the first is 0."
            )
        check_stream_sizes(self.filters.max_tokens, self.max_tokens, self.pool_size)


def check_stream_sizes(longest: int | None, max_tokens: int, pool_size: int) -> None:
    """Refuse sizes by which a stream could hold a sentence that fits no batch.

    Args:
        longest: tokens of the longest sentence that the filters keep; `None` if they keep all.
        max_tokens: budget of each side of a batch.
        pool_size: pairs that are shuffled and cut into batches together.

    Raises:
        ValueError: the message names the size.
    """
    for name, size in (("max_tokens", max_tokens), ("pool_size", pool_size)):
        _check_number(name, size, 1)
    if longest is None or longest > max_tokens:
        raise ValueError(
            "A stream cannot be searched beforehand for a sentence that fits no batch, so the filter's max_tokens "
            f"must be at most the {max_tokens:,} tokens of a batch, but it is {longest}. Set it (--max_length), or "
            "raise the budget (--max_tokens)."
        )


def _check_number(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, but it is {value!r}.")
