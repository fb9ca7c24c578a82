"""Keep freed memory while training or translating on processors.

glibc hands large blocks back to the system when they are freed, and every step then faults the same pages in again,
which takes a good part of a small model's step.
"""

import ctypes
import sys

# names and numbers of glibc's <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLD = 1 << 30


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed blocks below 1 GiB instead of returning them; whether the C library took it."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # the trim threshold is an int: its largest value keeps 2 GiB at the top of the heap
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
