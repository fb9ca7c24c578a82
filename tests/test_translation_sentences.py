"""Batches of like length, and padding."""

import pytest
import torch

from hf_vanilla_transformer.translation.sentences import batches_by_tokens, pad


@pytest.mark.parametrize("batch_tokens", [1, 7, 24, 1000])
def test_batches_hold_every_sentence_once_within_the_budget(batch_tokens):
    lengths = [3, 0, 9, 1, 4, 4, 12, 0, 2, 30]
    batches = list(batches_by_tokens(lengths, batch_tokens))
    assert sorted(index for batch in batches for index in batch) == [0, 2, 3, 4, 5, 6, 8, 9]  # none without tokens
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= batch_tokens
    longest = [lengths[batch[0]] for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_padding_goes_to_the_right():
    assert pad([[5], [6, 7, 8]], 0, torch.device("cpu")).tolist() == [[5, 0, 0], [6, 7, 8]]
