"""Keep glibc from handing memory back to the kernel between steps."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_pages() -> None:
    """Let freed tensors' memory be used again instead of being unmapped; a no-op off glibc.

    By default every large tensor is a fresh mapping, whose pages the kernel zeroes at first touch:
    on a CPU that took most of the time of a training step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, 256 * 2**20)
