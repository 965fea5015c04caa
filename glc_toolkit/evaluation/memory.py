"""How much memory a piece of work takes at most."""

import ctypes
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def peak() -> Iterator[dict[str, float]]:
    """Fills ``megabytes``: the most that the resident memory of this process grew by inside the block; NaN where the
    system does not say (other than Linux)."""
    found = {"megabytes": math.nan}
    with suppress(OSError, AttributeError):  # without glibc
        ctypes.CDLL(None).malloc_trim(0)  # what is free would be used again, and not be seen
    try:
        RESET.write_text("5")  # the kernel's mark of the highest resident size starts anew
        before = _kilobytes("VmRSS")
    except OSError:
        yield found
        return
    yield found
    found["megabytes"] = max(0, _kilobytes("VmHWM") - before) / 1024


def _kilobytes(name: str) -> int:
    return int(re.findall(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)[0])
