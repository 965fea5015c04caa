import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from glc_toolkit import memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        bytearray(b"x") * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages = [new_pages()]
for on in True, True, False:
    assert memory.reuse(on)
    pages.append(new_pages())
print(*pages)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again():
    """The system is asked for pages once, not for each of four times 64 MB."""
    out = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    before, first, later, after = map(int, out.split())
    assert later < 100 < first < 0.5 * before
    assert after > 0.5 * before
