"""A non-finite loss or gradient ends a run before it can reach the weights."""

from pathlib import Path
from typing import Any

import torch

from .checkpoints import newest_complete_checkpoint


class NotFiniteError(ValueError):
    """The loss or gradient of a step holds infinities or NaN; the weights are still finite."""


class StepRecord:
    """The losses of an optimizer step's batches on this process, and the pairs of each batch."""

    def __init__(self) -> None:
        self._pairs: list[torch.Tensor] = []
        self._losses: list[torch.Tensor] = []

    def begin_batch(self, pairs: torch.Tensor | None) -> None:
        """Store the numbers of a batch's pairs in the training text, counted from 0."""
        self._pairs.extend([] if pairs is None else [pairs])

    def end_batch(self, loss: torch.Tensor) -> None:
        """Store the loss of the batch."""
        self._losses.append(loss.detach())

    def finish(self, grad_norm: Any, judge_gradient: bool) -> tuple[bool, str]:
        """Finish the step; returns whether it is finite, and a description if it is not.

        Args:
            grad_norm: the norm of all gradients.
            judge_gradient: False if infinite gradients are normal (fp16, whose scaler skips such steps).
        """
        loss = torch.stack(self._losses).sum() if self._losses else torch.zeros(())
        norm = torch.as_tensor(grad_norm, device=loss.device)
        # one device synchronization per step
        finite = bool(torch.isfinite(loss) & (torch.isfinite(norm) | (not judge_gradient)))
        description = (
            "" if finite else f"loss {loss.item():.4g}, gradient norm {norm.item():.4g}, {self._name_pairs()}"
        )
        self._pairs, self._losses = [], []
        return finite, description

    def _name_pairs(self) -> str:
        numbers = torch.cat([pairs.flatten() for pairs in self._pairs]).tolist() if self._pairs else []
        more = f" and {len(numbers) - 20:,} more" if len(numbers) > 20 else ""
        return (
            f"pairs {', '.join(map(str, numbers[:20]))}{more} of the filtered training text"
            if numbers
            else "pairs unknown"
        )


def not_finite(run: Path, step: int, rate: float, description: str) -> NotFiniteError:
    """The error for a non-finite step; it names the step and how to recover."""
    checkpoint = newest_complete_checkpoint(run)
    way_back = (
        f"{checkpoint} is the last checkpoint before it; lower the learning rate or set `max_grad_norm`, and resume "
        "with `--resume --resume_changed`."
        if checkpoint
        else "No checkpoint was saved before it; start again with a lower learning rate or with `max_grad_norm`."
    )
    return NotFiniteError(f"Step {step:,} is not finite: {description}, learning rate {rate:.3g}. {way_back}")
