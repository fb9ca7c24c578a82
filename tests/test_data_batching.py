"""Batches bounded by tokens: every pair once, the budget kept, the order a function of seed and epoch."""

from itertools import chain, combinations, pairwise

import numpy as np
import pytest
from accelerate.data_loader import prepare_data_loader
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from hf_vanilla_transformer.data.batching import TokenBudgetBatchSampler

BUDGET = 60
LENGTH_PAIRS = st.lists(st.tuples(st.integers(1, BUDGET), st.integers(1, BUDGET)), min_size=8, max_size=80)


def captions(pairs: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Lengths like those of image captions: about 15 tokens, the two sides alike."""
    rng = np.random.default_rng(seed)
    source = np.clip(rng.normal(15, 4, pairs).round(), 4, 50).astype(int)
    target = np.clip((source * rng.normal(1.03, 0.15, pairs)).round(), 4, 55).astype(int)
    return source, target


def batches_of(sampler: TokenBudgetBatchSampler, epoch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


@settings(deadline=None, max_examples=60)
@given(LENGTH_PAIRS, st.integers(0, 5), st.integers(1, 4), st.booleans())
def test_every_pair_once_within_budget_and_length_exact(pairs, epoch, processes, shuffle):
    source, target = np.array(pairs).T
    budget = 4 * BUDGET  # room for four of the longest
    sampler = TokenBudgetBatchSampler(source, target, budget, shuffle=shuffle, num_processes=processes)

    batches = batches_of(sampler, epoch)

    assert sorted(index for batch in batches for index in batch) == list(range(len(pairs)))
    assert len(batches) == len(sampler)
    assert len(batches) % processes == 0
    for batch in batches:
        assert batch
        assert len(batch) * source[batch].max() <= budget
        assert len(batch) * target[batch].max() <= budget


def test_unsigned_and_narrow_lengths_do_not_wrap():
    """Differences and negatives are taken inside; in uint8 they would come out as other numbers."""
    source, target = captions()
    wide = batches_of(TokenBudgetBatchSampler(source, target, 1000))
    narrow = batches_of(TokenBudgetBatchSampler(source.astype(np.uint8), target.astype(np.uint8), 1000))
    assert narrow == wide


def test_no_batch_could_take_the_first_pair_of_the_next():
    """Greedy cutting leaves no room: the fewest steps that this order allows."""
    source, target = captions()
    batches = batches_of(TokenBudgetBatchSampler(source, target, 1000, shuffle=False))
    longer = np.maximum(source, target)
    for batch, following in pairwise(batches):
        grown = [*batch, following[0]]
        assert len(grown) * longer[grown].max() > 1000


def test_same_seed_and_epoch_same_batches_otherwise_not():
    source, target = captions()
    sampler = TokenBudgetBatchSampler(source, target, 1000, seed=3)
    first, second = batches_of(sampler, 0), batches_of(sampler, 1)

    assert batches_of(TokenBudgetBatchSampler(source, target, 1000, seed=3), 0) == first
    assert batches_of(sampler, 0) == first
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}
    assert batches_of(TokenBudgetBatchSampler(source, target, 1000, seed=4), 0) != first


def test_sentences_meet_other_neighbours_in_the_next_epoch():
    source, target = captions()
    sampler = TokenBudgetBatchSampler(source, target, 500)
    mates = []
    for epoch in range(2):
        mates.append({pair for batch in batches_of(sampler, epoch) for pair in combinations(sorted(batch), 2)})
    assert len(mates[0] & mates[1]) < 0.6 * len(mates[0])


def test_batches_do_not_come_in_order_of_length():
    """A model that sees the long sentences first sees no mixture at any time."""
    source, target = captions()
    longest = [np.maximum(source, target)[batch].max() for batch in TokenBudgetBatchSampler(source, target, 1000)]
    assert 0.2 < (np.diff(longest) > 0).mean() < 0.8


def test_without_shuffling_longest_first_and_always_the_same():
    source, target = captions()
    sampler = TokenBudgetBatchSampler(source, target, 1000, shuffle=False)
    batches = batches_of(sampler, 0)
    assert batches == batches_of(sampler, 7)
    longest = [np.maximum(source, target)[batch].max() for batch in batches]
    assert longest == sorted(longest, reverse=True)


@pytest.mark.parametrize("max_tokens", [1000, 2000, 4000])
def test_little_padding(max_tokens):
    """Sorting by the longer side alone leaves 6 %: the shorter side must be matched too."""
    source, target = captions(29_000)
    assert TokenBudgetBatchSampler(source, target, max_tokens).padding_share() < 0.05


def test_padding_share_counts_both_sides_of_the_epoch_at_hand():
    source, target = captions(500)
    sampler = TokenBudgetBatchSampler(source, target, 400)
    shares = []
    for epoch in range(2):
        batches = batches_of(sampler, epoch)
        padded = sum(len(batch) * (source[batch].max() + target[batch].max()) for batch in batches)
        shares.append(1 - (source.sum() + target.sum()) / padded)
        assert sampler.padding_share() == pytest.approx(shares[-1])
    assert shares[0] != shares[1]


def test_processes_get_the_same_number_of_batches_and_no_pair_twice():
    """5 pairs that fit one batch, dealt to 4 processes: halved until each has one."""
    sampler = TokenBudgetBatchSampler([3] * 5, [3] * 5, 100, num_processes=4)
    batches = batches_of(sampler)
    assert sorted(map(len, batches)) == [1, 1, 1, 2]
    assert sorted(chain(*batches)) == list(range(5))


@pytest.mark.parametrize("processes", [1, 2])
def test_accelerate_deals_whole_batches_and_passes_the_epoch_on(processes):
    """`prepare` wraps the sampler differently for one and for several processes; the epoch must arrive in both."""
    source, target = captions(400)

    def dealt(epoch: int) -> list[list[list[int]]]:
        ranks = []
        for rank in range(processes):
            sampler = TokenBudgetBatchSampler(source, target, 300, num_processes=processes)
            loader = DataLoader(range(400), batch_sampler=sampler, collate_fn=list)
            loader = prepare_data_loader(loader, num_processes=processes, process_index=rank, put_on_device=False)
            loader.set_epoch(epoch)
            ranks.append(list(loader))
        return ranks

    sampler = TokenBudgetBatchSampler(source, target, 300, num_processes=processes)
    for epoch in (0, 2):
        ranks = dealt(epoch)
        assert len({len(batches) for batches in ranks}) == 1
        assert [batch for step in zip(*ranks, strict=True) for batch in step] == batches_of(sampler, epoch)


@pytest.mark.parametrize(("processes", "accumulated"), [(1, 8), (8, 1), (2, 4)])
def test_the_batches_of_a_step_are_the_same_however_they_are_shared(processes, accumulated):
    """Eight batches a step: taken by eight processes at once, by one in turn, or by two, four each."""
    source, target = captions(3_000)
    plan = list(TokenBudgetBatchSampler(source, target, 300, batches_per_step=8))
    assert len(plan) % 8 == 0
    own = TokenBudgetBatchSampler(source, target, 300, num_processes=processes, batches_per_step=accumulated)
    assert list(own) == plan


def test_a_text_too_small_for_whole_steps_is_dealt_to_the_processes_alone():
    sampler = TokenBudgetBatchSampler([3] * 6, [3] * 6, 100, num_processes=2, batches_per_step=4)
    assert len(sampler) == 2


def test_millions_of_lengths_are_planned_in_seconds():
    """WMT14 has 4.5 million pairs; a tenth of it must not take a noticeable share of a test's time."""
    source, target = captions(450_000)
    sampler = TokenBudgetBatchSampler(source, target, 25_000, num_processes=8)
    assert sum(1 for _ in sampler) == len(sampler)


@pytest.mark.parametrize(
    ("side", "lengths"), [("source", ([5, 61, 7], [5, 6, 7])), ("target", ([5, 6, 7], [5, 61, 7]))]
)
def test_a_sentence_over_the_budget_is_named(side, lengths):
    with pytest.raises(
        ValueError, match=rf"the {side} sentence at index 1 has 61 tokens and max_tokens is 60\. Raise"
    ):
        TokenBudgetBatchSampler(*lengths, 60)


def test_a_sentence_of_just_the_budget_is_a_batch_of_its_own():
    assert sorted(TokenBudgetBatchSampler([60, 3], [3, 3], 60)) == [[0], [1]]


def test_sides_of_unequal_number():
    with pytest.raises(ValueError, match=r"2 source lengths and 1 target lengths"):
        TokenBudgetBatchSampler([1, 2], [1], 60)


@pytest.mark.parametrize(("lengths", "batches"), [([1, 2], 1), ([60, 60, 60, 60], 4)])
def test_batches_that_cannot_be_dealt_evenly(lengths, batches):
    message = rf"{len(lengths)} pair\(s\) in {batches} batch\(es\) cannot be split evenly among 3 processes"
    with pytest.raises(ValueError, match=message):
        TokenBudgetBatchSampler(lengths, lengths, 60, num_processes=3)


def test_no_pairs():
    with pytest.raises(ValueError, match=r"at least one pair of sentences, but no lengths were given"):
        TokenBudgetBatchSampler([], [], 60)


@pytest.mark.parametrize("lengths", [[3, 0], [3.0, 1.5]])
def test_lengths_that_are_none(lengths):
    with pytest.raises(ValueError, match=r"Lengths must be whole numbers of at least 1"):
        TokenBudgetBatchSampler([3, 1], lengths, 60)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 1e3),
        ("seed", -1),
        ("num_processes", 0),
        ("seed", True),
        ("batches_per_step", 0),
    ],
)
def test_settings_out_of_range(name, value):
    arguments = {"max_tokens": 60, name: value}
    with pytest.raises(ValueError, match=rf"{name} must be a whole number of at least \d, but it is {value!r}"):
        TokenBudgetBatchSampler([1], [1], **arguments)
