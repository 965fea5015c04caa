"""How much memory a piece of work takes at most."""

import ctypes
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CPU = torch.device("cpu")


def peak_memory(device: torch.device = CPU) -> int:
    """Bytes, the most since this was last asked: of the process, or of what PyTorch holds on a GPU. Systems other than
    Linux tell the most since the process began."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    try:
        peak = _resident("VmHWM")
        RESET.write_text("5")  # the kernel's mark of the highest resident size starts anew
        return peak
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def peak() -> Iterator[dict[str, float]]:
    """Fills ``megabytes``: the most that the resident memory of this process grew by inside the block; NaN on systems
    other than Linux."""
    found = {"megabytes": math.nan}
    with suppress(OSError, AttributeError):  # without glibc
        ctypes.CDLL(None).malloc_trim(0)  # what is free would be used again, and not be seen
    peak_memory()
    try:
        before = _resident("VmRSS")
    except OSError:
        yield found
        return
    yield found
    found["megabytes"] = max(0, peak_memory() - before) / 2**20


def _resident(name: str) -> int:
    """Bytes of the process that are in memory: ``VmRSS``, now; ``VmHWM``, at most."""
    return 1024 * int(re.findall(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)[0])
