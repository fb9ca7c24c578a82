"""Scores of sequences that `transformers` decodes, without keeping the scores of all tokens in memory."""

from typing import Any

import torch
from transformers.generation import StoppingCriteria


class StepScores(StoppingCriteria):
    """Never stops: reads the scores of each step, and releases their memory.

    `generate` returns `sequences_scores` only together with the scores of all tokens at every step, which take
    gigabytes for a batch of beams. This releases the memory of each step when the next one begins.

    Args:
        keep_chosen: keep the log-probability of each chosen token, which makes sense only without beams.
    """

    def __init__(self, keep_chosen: bool) -> None:
        self.keep_chosen = keep_chosen
        self.chosen: list[torch.Tensor] = []  # (batch,) for each step

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if scores:
            step = scores[-1]  # (batch, vocab), not normalised
            if self.keep_chosen:
                self.chosen.append(step.gather(-1, input_ids[:, -1:])[:, 0] - step.logsumexp(-1))
            step.set_()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    def log_probabilities(self) -> torch.Tensor | None:
        """Log-probabilities of the chosen tokens, (batch, steps); None if they were not kept."""
        return torch.stack(self.chosen, dim=1) if self.chosen else None


__all__ = ["StepScores"]
