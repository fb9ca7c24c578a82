"""A loss or gradient that is not finite ends a run before it can reach the weights."""

from pathlib import Path
from typing import Any

import torch

from .checkpoints import newest_complete_checkpoint


class NotFiniteError(ValueError):
    """A step's loss or gradient held infinities or NaN; the weights do not."""


class StepRecord:
    """The losses of an optimizer step's batches on this process, and which pairs they were of."""

    def __init__(self) -> None:
        self._pairs: list[torch.Tensor] = []
        self._losses: list[torch.Tensor] = []

    def begin_batch(self, pairs: torch.Tensor | None) -> None:
        """Remember a batch by its pairs' numbers in the training text, counted from 0."""
        self._pairs.extend([] if pairs is None else [pairs])

    def end_batch(self, loss: torch.Tensor) -> None:
        """Remember its loss."""
        self._losses.append(loss.detach())

    def finish(self, grad_norm: Any, judge_gradient: bool) -> tuple[bool, str]:
        """Whether the step is finite, and a description of it; the next step begins.

        Args:
            grad_norm: the norm of all gradients.
            judge_gradient: False where infinite gradients are usual (fp16, whose scaler skips such steps).
        """
        loss = torch.stack(self._losses).sum() if self._losses else torch.zeros(())
        norm = torch.as_tensor(grad_norm, device=loss.device)
        # one question to the device a step
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
    """The error that names the step and the way back."""
    checkpoint = newest_complete_checkpoint(run)
    way_back = (
        f"{checkpoint} is the last checkpoint before it; lower the learning rate or set `max_grad_norm`, and resume "
        "with `--resume --resume_changed`."
        if checkpoint
        else "No checkpoint was saved before it; start again with a lower learning rate or with `max_grad_norm`."
    )
    return NotFiniteError(f"Step {step:,} is not finite: {description}, learning rate {rate:.3g}. {way_back}")
