"""Batches of like length, and padding."""

import pytest
import torch

from hf_vanilla_transformer.model.sentences import batches_by_size, batches_by_tokens, batches_of_workers, pad


@pytest.mark.parametrize("batch_tokens", [1, 7, 24, 1000])
def test_batches_hold_every_sentence_once_within_the_budget(batch_tokens):
    lengths = [3, 0, 9, 1, 4, 4, 12, 0, 2, 30]
    batches = list(batches_by_tokens(lengths, batch_tokens))
    assert sorted(index for batch in batches for index in batch) == [0, 2, 3, 4, 5, 6, 8, 9]  # none without tokens
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= batch_tokens
    longest = [lengths[batch[0]] for batch in batches]
    assert longest == sorted(longest, reverse=True)


def time_of(batches, lengths, workers):
    """When the last of some workers has done the last batch, if a padded token takes 1."""
    ends = [0] * workers
    for batch in batches:
        ends[ends.index(min(ends))] += len(batch) * max(lengths[index] for index in batch)
    return max(ends)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_workers_end_at_the_same_time(workers):
    lengths = [5 + 7 * i % 40 for i in range(500)]
    for batch_tokens in (250, 1000, 2500):
        batches = batches_of_workers(lengths, batch_tokens, workers)
        assert sorted(index for batch in batches for index in batch) == list(range(500))
        assert all(len(batch) * max(lengths[i] for i in batch) <= batch_tokens for batch in batches)
        plain = list(batches_by_tokens(lengths, batch_tokens))
        assert time_of(batches, lengths, workers) <= time_of(plain, lengths, workers)
        assert time_of(batches, lengths, workers) < 1.1 * time_of(batches, lengths, 1) / workers


def test_a_single_batch_is_left_whole():
    assert batches_of_workers([3, 4, 5], 100, 4) == [[2, 1, 0]]


def test_padding_goes_to_the_right():
    assert pad([[5], [6, 7, 8]], 0, torch.device("cpu")).tolist() == [[5, 0, 0], [6, 7, 8]]


@pytest.mark.parametrize("size", [1, 3])
def test_batches_of_so_many_sentences_are_of_like_length(size):
    lengths = [3, 900, 3, 1, 0, 2, 700, 5000, 2]
    batches = batches_by_size(lengths, size)
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted((length for length in lengths if length), reverse=True)
    assert [len(batch) for batch in batches] == ([1] * 8 if size == 1 else [3, 3, 2])
