"""Numbers the pairs of a batch, so that messages can name them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from ..data.encoding import PAIR_IDS


class NumberedPairs(Dataset):
    """A dataset that adds each row's number, counted from 0."""

    def __init__(self, pairs: Any) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.pairs[index], PAIR_IDS: index}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """A whole batch in one read."""
        columns = self.pairs[list(indices)]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return [{**row, PAIR_IDS: index} for row, index in zip(rows, indices, strict=True)]


class PairCollator:
    """Adds the pairs' numbers, shape (batch,), to the batch of another collator."""

    def __init__(self, collator: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self.collator = collator

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        numbers = [feature[PAIR_IDS] for feature in features]
        rows = [{name: value for name, value in feature.items() if name != PAIR_IDS} for feature in features]
        return {**self.collator(rows), PAIR_IDS: torch.tensor(numbers)}
