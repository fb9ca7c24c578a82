"""The scores of sequences that `transformers` decodes, without those of every token that it gives them with."""

from typing import Any

import torch
from transformers.generation import StoppingCriteria


class StepScores(StoppingCriteria):
    """Stops nothing: watches the scores of each step go by, and lets go of them.

    `generate` gives `sequences_scores` only to those who also take the scores of every token of the vocabulary at
    every step, which is gigabytes for a batch of beams. Here each step's memory is released as the next begins.

    Args:
        keep_chosen: remember the log-probability of the token chosen, which makes sense without beams only.
    """

    def __init__(self, keep_chosen: bool) -> None:
        self.keep_chosen = keep_chosen
        self.chosen: list[torch.Tensor] = []  # for each step (batch,)

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if scores:
            step = scores[-1]  # (batch, vocab), not normalised
            if self.keep_chosen:
                self.chosen.append(step.gather(-1, input_ids[:, -1:])[:, 0] - step.logsumexp(-1))
            step.set_()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    def log_probabilities(self) -> torch.Tensor | None:
        """Of each token chosen, (batch, steps); None if they were not kept."""
        return torch.stack(self.chosen, dim=1) if self.chosen else None


__all__ = ["StepScores"]
