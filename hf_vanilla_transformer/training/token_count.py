"""Tokens per second and the share of padding during training."""

import time
from typing import Any

import torch


class TokenCount:
    """Counts real and padded tokens of training batches between two log lines."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._started = time.perf_counter()
        self._real_source: Any = 0  # a tensor on the batch's device: reading it would synchronize a GPU
        self._real_target: Any = 0
        self._padded = 0

    def add(self, inputs: dict[str, torch.Tensor]) -> None:
        """Count a batch with `attention_mask` (batch, source_len) and `labels` (batch, target_len)."""
        mask, labels = inputs["attention_mask"], inputs["labels"]
        self._real_source = self._real_source + mask.sum()
        self._real_target = self._real_target + labels.ne(-100).sum()
        self._padded += mask.numel() + labels.numel()

    def exclude(self, seconds: float) -> None:
        """Leave out time that was not spent on training."""
        self._started += seconds

    def rates(self, accelerator: Any) -> dict[str, float]:
        """Real tokens per second over all processes and share of padding in [0, 1); resets the counts."""
        seconds = time.perf_counter() - self._started
        counts = torch.tensor([float(self._real_source), float(self._real_target), float(self._padded)])
        source, target, padded = accelerator.reduce(counts.to(accelerator.device)).tolist()
        self._reset()
        if not padded:
            return {}
        return {
            "source_tokens_per_second": round(source / seconds, 1),
            "target_tokens_per_second": round(target / seconds, 1),
            "padding_share": round(1 - (source + target) / padded, 4),
        }
