"""Where glibc takes memory from. Coding a large picture allocates and frees tensors of 100 MB by the hundred."""

import ctypes
import sys

# <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
LARGEST_THRESHOLD = 2**25  # 32 MB, up to which glibc raises the threshold by itself
MOST_MAPPINGS = 2**16  # glibc's own limit
NEVER = 2**31 - 1


def reuse(on: bool = True) -> bool:
    """Keep what is freed for the next tensor, in the whole process. Returns whether this C library can.

    By default glibc asks the system for every tensor over 32 MB, and gives it back when it is freed. New pages have to
    be filled with zeros, which takes longer than a normalization. With ``reuse()`` pages stay with the process.
    ``reuse(False)`` goes back to what glibc does by default once large tensors were freed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    if on:
        settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER}
    else:
        settings = {
            M_MMAP_MAX: MOST_MAPPINGS,
            M_MMAP_THRESHOLD: LARGEST_THRESHOLD,
            M_TRIM_THRESHOLD: 2 * LARGEST_THRESHOLD,
        }
    return all([mallopt(parameter, value) for parameter, value in settings.items()])
