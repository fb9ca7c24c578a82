"""Which kind of device computes: what is cheap on a CPU can be expensive on an accelerator, and vice versa."""

import torch


def on_accelerator(device: torch.device) -> bool:
    """Whether `device` is an accelerator rather than the CPU.

    On an accelerator few large operations beat many small ones, and reading a number waits for all pending work.
    """
    return device.type != "cpu"


__all__ = ["on_accelerator"]
