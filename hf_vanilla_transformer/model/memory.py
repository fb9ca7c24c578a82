"""The size of a device's memory, and reuse of freed memory when training or translating on CPUs.

glibc returns large blocks to the system when they are freed. Every step then faults the same pages in again, which
takes a good part of a small model's step.
"""

import ctypes
import os
import sys

import torch

# names and numbers of glibc's <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLD = 1 << 30


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed blocks below 1 GiB instead of returning them; True if the C library accepted it."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # the trim threshold is an int: its largest value keeps 2 GiB at the top of the heap
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def memory_of(device: torch.device) -> int | None:
    """Total memory of a device in bytes; None if the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type != "cpu":
        return None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def in_gb(size: float) -> str:
    """A number of bytes as text, in gigabytes."""
    return f"{size / 1e9:,.1f} GB"


__all__ = ["in_gb", "keep_freed_memory", "memory_of"]
