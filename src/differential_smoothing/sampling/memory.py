"""Memory that a process frees on a CPU is kept for its next tensors, instead of being given back and cleared anew.

glibc gives every large block back to the system at once, and the system clears the pages of the next one: of a language model's forward pass on
a CPU that is a fifth to a third of the time. ``keep_freed_memory`` tells it to keep them. The process then holds its peak until it ends.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

#: The parameters' numbers in glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Keep freed memory in this process from now on. Returns whether the system could be told: False where its library is not glibc."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # No block outside the heap; the heap grows by 64 MB and does not shrink.
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_TOP_PAD, 2**26))
