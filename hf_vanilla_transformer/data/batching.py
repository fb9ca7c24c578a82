"""Batches of sentences of similar length, bounded by tokens on each side (section 5.1).

The paper: "Sentence pairs were batched together by approximate sequence length. Each training batch contained a set
of sentence pairs containing approximately 25000 source tokens and 25000 target tokens." Here padding counts as tokens.

No pair is truncated or repeated: every pair is in exactly one batch of every epoch.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

LengthsLike = Sequence[int] | np.ndarray


class TokenBudgetBatchSampler(Sampler[list[int]]):
    """Yield every pair once per epoch, in batches whose padded source and padded target each fit a token budget.

    Pairs are sorted by their longer side, and pairs of equal length by the difference of the two sides, alternately
    rising and falling, so that neighbours are similar on both sides. A batch is full after `max_tokens // longest`
    pairs, whatever the shorter sides are. So the batch boundaries, and with them the number of batches, are the same
    in every epoch, while the pairs between two boundaries change.

    The order depends only on `seed` and the epoch. Use it as `DataLoader(batch_sampler=...)`; accelerate's `prepare`
    then distributes whole batches to the processes in turn.

    Args:
        source_lengths: tokens of each source sentence, end-of-sentence included; all positive.
        target_lengths: the same for the targets.
        max_tokens: token budget of each side of a batch, padding included: longest sentence x number of sentences.
        shuffle: shuffle pairs of similar length and the order of batches; if false, batches are the same in every
            epoch, longest first.
        seed: seed of the shuffling, 0 or more.
        num_processes: the largest batches are split until the number of batches is a multiple of this, so that all
            processes take the same number of steps with no pair repeated or left out.
        batches_per_step: batches that one process accumulates for an optimizer step. If there is enough text, the
            number of batches is a multiple of `num_processes * batches_per_step`: the batches of a step are then the
            same whether many processes share them or few accumulate them.

    Raises:
        ValueError: a sentence alone exceeds the budget; the numbers of sources and targets differ; or there are no
            pairs, or too few to give every process the same number of batches.
    """

    def __init__(
        self,
        source_lengths: LengthsLike,
        target_lengths: LengthsLike,
        max_tokens: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        num_processes: int = 1,
        batches_per_step: int = 1,
    ) -> None:
        _check_settings(max_tokens, seed, num_processes, batches_per_step)
        source, target = np.asarray(source_lengths), np.asarray(target_lengths)
        _check_lengths(source, target, max_tokens)
        self.source_lengths, self.target_lengths = source.astype(np.int64), target.astype(np.int64)
        self.max_tokens = max_tokens
        self.shuffle = shuffle
        self.seed = seed
        self.num_processes = num_processes
        self.epoch = 0
        self._longer = np.maximum(self.source_lengths, self.target_lengths)
        starts = _cut(np.sort(self._longer)[::-1], max_tokens)
        step = num_processes * batches_per_step
        fits = len(starts) + -len(starts) % step <= len(self._longer)
        self._starts = _split_to_multiple(starts, len(self._longer), step if fits else num_processes)

    @property
    def sampler(self) -> TokenBudgetBatchSampler:
        """Returns itself: with several processes, accelerate calls `set_epoch` of `batch_sampler.sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, 0 or more, for the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[list[int]]:
        generator = self._generator()
        order = self._order(generator)
        stops = np.append(self._starts[1:], len(order))
        batches = generator.permutation(len(self)) if self.shuffle else np.arange(len(self))
        for batch in batches:
            yield order[self._starts[batch] : stops[batch]].tolist()

    def padding_share(self) -> float:
        """Share of padding among all tokens of this epoch's batches, both sides together, in [0, 1)."""
        order = self._order(self._generator())
        sizes = np.diff(self._starts, append=len(order))  # (batches,)
        real = padded = 0
        for lengths in (self.source_lengths, self.target_lengths):
            real += int(lengths.sum())
            padded += int((np.maximum.reduceat(lengths[order], self._starts) * sizes).sum())
        return 1 - real / padded

    def _generator(self) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([self.seed, self.epoch]))

    def _order(self, generator: np.random.Generator) -> np.ndarray:
        """Indices of the pairs, longest first, neighbours similar on both sides; shape (pairs,)."""
        skew = (self.source_lengths - self.target_lengths).astype(np.float32)
        turn = 0
        if self.shuffle:
            # noise of one token mixes neighbours, at the cost of about 1 % more padding on short captions
            skew += generator.uniform(-1, 1, len(skew)).astype(np.float32)
            turn = int(generator.integers(2))
        # rising and falling: the last pair of one length is similar to the first of the next, often in one batch
        skew[(self._longer + turn) % 2 == 1] *= -1
        return np.lexsort((skew, -self._longer))


def _cut(longest_first: np.ndarray, max_tokens: int) -> np.ndarray:
    """First position of each batch if each takes all that fits; the first pair of a batch is its longest."""
    starts = []
    start = 0
    while start < len(longest_first):
        starts.append(start)
        start += max_tokens // int(longest_first[start])
    return np.array(starts)


def _split_to_multiple(starts: np.ndarray, pairs: int, num_processes: int) -> np.ndarray:
    """Halve the batches with the most pairs until their number is a multiple of `num_processes`."""
    missing = -len(starts) % num_processes
    if len(starts) + missing > pairs:
        raise ValueError(
            f"Every process must get as many batches as the others, but {pairs:,} pair(s) in {len(starts):,} "
            f"batch(es) cannot be split evenly among {num_processes:,} processes. Give more text or "
            "use fewer processes."
        )
    largest = [(start - stop, start) for start, stop in zip(starts, np.append(starts[1:], pairs), strict=True)]
    heapq.heapify(largest)
    for _ in range(missing):
        minus_size, start = heapq.heappop(largest)
        half = -minus_size // 2
        heapq.heappush(largest, (-half, start))
        heapq.heappush(largest, (minus_size + half, start + half))
    return np.sort([start for _, start in largest])


def _check_settings(max_tokens: int, seed: int, num_processes: int, batches_per_step: int) -> None:
    for name, value, least in (
        ("max_tokens", max_tokens, 1),
        ("seed", seed, 0),
        ("num_processes", num_processes, 1),
        ("batches_per_step", batches_per_step, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, but it is {value!r}.")


def _check_lengths(source: np.ndarray, target: np.ndarray, max_tokens: int) -> None:
    if len(source) != len(target):
        raise ValueError(
            f"Every source sentence needs its target, but {len(source):,} source lengths and {len(target):,} target "
            "lengths were given."
        )
    if not len(source):
        raise ValueError("Batches need at least one pair of sentences, but no lengths were given.")
    for side, lengths in (("source", source), ("target", target)):
        if not np.issubdtype(lengths.dtype, np.integer) or lengths.min() < 1:
            raise ValueError(
                f"Lengths must be whole numbers of at least 1 (the end-of-sentence token), but those of the {side} "
                f"side have type {lengths.dtype} and the least is {lengths.min()}."
            )
        longest = int(lengths.argmax())
        if lengths[longest] > max_tokens:
            raise ValueError(
                f"A sentence must fit the budget of a batch, but the {side} sentence at index {longest:,} has "
                f"{lengths[longest]:,} tokens and max_tokens is {max_tokens:,}. Raise max_tokens or drop longer "
                "pairs."
            )
