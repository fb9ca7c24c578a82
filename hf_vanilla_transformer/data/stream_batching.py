"""Batches bounded by tokens (section 5.1) from a stream that fits neither the disk nor the memory.

The stream is read in pools of pairs; each pool is encoded, filtered and cut into batches by `TokenBudgetBatchSampler`,
then forgotten. What differs from a corpus on disk: pairs are shuffled within their pool alone, so a sorted corpus
should be shuffled beforehand; and duplicates are found within a pool alone, for remembering all pairs seen would take
memory without bound.

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
"""Of each pair `input_ids` and `labels`, and as `pair_ids` its row of the stream."""


@dataclass(frozen=True)
class _PoolRecord:
    """What a pool came to: the same in every epoch, for the batches are cut by the lengths alone."""

    rows: int  # pairs read
    batches: int
    dropped: dict[str, int]  # pairs by reason


class StreamingBatches(IterableDataset[Batch]):
    """Batches bounded by tokens (section 5.1) from a stream, one epoch after the other without end.

    The stream's batches are one endless sequence, a function of corpus, `seed` and settings alone, and process r of n
    yields those numbered r, r + n, r + 2n, ... An epoch holds every pair that passes the filters exactly once; pools
    never reach over its end, and each pool of each epoch is shuffled differently.

    Use it as `DataLoader(batches, batch_size=None, collate_fn=collator)`, and bound the training by `max_steps`.
    Accelerate's `prepare` must not deal it again.

    Args:
        corpus: pairs (source, target), the same in the same order each time it is iterated, as `ParallelStream` is.
        tokenizer: as of `encode_corpus`.
        filters: which pairs are left out; their `max_tokens` must be set and within the budget, for a stream cannot
            be searched beforehand for a sentence that fits no batch.
        max_tokens: budget of each side of a batch, in tokens, padding included.
        pool_size: pairs read together, at least 1; this bounds the memory, about 1 kB a pair.
        seed: of the shuffling, 0 or more.
        rank: of this process, from 0.
        num_processes: among which the batches are dealt.

    Raises:
        ValueError: a setting out of its range; while it is iterated: no pairs, none that passes the filters, a corpus
            that changed from one epoch to the next (told by its counts), or worker processes of a DataLoader.
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
        self._pools: list[_PoolRecord] = []  # of an epoch, as far as they are known
        self._knows_all = False

    @property
    def report(self) -> FilterReport:
        """Pairs of the first epoch read so far, and how many each filter left out."""
        dropped: Counter[str] = Counter(dict.fromkeys(self.filters.active_reasons(), 0))
        for pool in self._pools:
            dropped.update(pool.dropped)
        return FilterReport(sum(pool.rows for pool in self._pools), dict(dropped), self.filters, self.pool_size)

    def skip(self, batches: int, seen: Mapping[str, Any] | None = None) -> None:
        """Let the next iterations begin after this many batches of this process, to resume a training.

        Whole epochs and pools that are known are passed over without encoding them; without `seen` the first epoch's
        are not, and are encoded again.

        Args:
            batches: 0 or more.
            seen: what `seen` was when the training stopped, or later.

        Raises:
            ValueError: `seen` belongs to other settings.
        """
        _check_number("batches", batches, 0)
        self._skipped = batches
        if seen is None:
            return
        if seen["settings"] != self._settings():
            raise ValueError(
                f"Pools to pass over must come from the same settings, but they come from {seen['settings']} and "
                f"these are {self._settings()}. Restore the settings, or skip without `seen`."
            )
        self._pools = [_PoolRecord(*pool) for pool in seen["pools"]]
        self._knows_all = seen["knows_all"]

    @property
    def seen(self) -> dict[str, Any]:
        """How many pairs and batches each pool held that was planned so far, for `skip`; fit for JSON."""
        pools = [list(astuple(pool)) for pool in self._pools]
        return {"settings": self._settings(), "pools": pools, "knows_all": self._knows_all}

    def _settings(self) -> dict[str, Any]:
        """All that decides, besides the corpus and the tokenizer, how many batches a pool is cut into."""
        return {"max_tokens": self.max_tokens, "pool_size": self.pool_size, "filters": asdict(self.filters)}

    def __iter__(self) -> Iterator[Batch]:
        if get_worker_info() is not None:
            raise ValueError(
                "A stream is read by the training process itself, but the DataLoader started worker processes. Set "
                "num_workers (--dataloader_num_workers) to 0."
            )
        waiting = self._skipped * self.num_processes + self.rank  # batches to let pass before one of this process
        number = 0  # of the pool, through all epochs
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
        # a name, or `datasets` makes one by hashing all the text
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
            logger.info("The stream was read through once:\n%s", self.report.table())
        self._knows_all = True

    def _changed(self, index: int) -> ValueError:
        first = index * self.pool_size + 1
        return ValueError(
            f"A stream must give the same pairs in the same order each time it is read, but those from pair {first:,} "
            "on are not what they were before. Leave the corpus and the tokenizer as they are during a training."
        )

    def _check_settings(self) -> None:
        if isinstance(self.corpus, Iterator):
            raise ValueError(
                "A stream is read again for every epoch, but an iterator, which can be read once, was given. Give an "
                "object whose `iter` begins anew, such as ParallelStream."
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
