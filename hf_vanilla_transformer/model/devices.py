"""Which device computes: what is cheap on a processor can be dear on an accelerator, and the other way round."""

import torch


def on_accelerator(device: torch.device) -> bool:
    """Whether `device` computes beside the processor.

    There a few large operations beat many small ones, and to read a number from it waits for all that it has to do.
    """
    return device.type != "cpu"


__all__ = ["on_accelerator"]
