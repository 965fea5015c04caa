"""Several threads and processes at once, and disks that are full."""

import errno
import os
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from glc_toolkit import ModelFileError, api, zoo
from tests.conftest import ROOT


def test_eight_threads_give_the_bytes_of_one(tiny_model):
    """Of one model that they share."""
    dice = np.random.default_rng(0)
    pictures = [dice.integers(0, 256, (*dice.integers(1, 100, 2), 3), dtype=np.uint8) for _ in range(8)]
    start = threading.Barrier(8)

    def there_and_back(picture):
        data = api.encode(picture, tiny_model, quality=2)
        return data, api.decode(data, tiny_model).tobytes()

    def all_of_them(shift):
        start.wait()
        order = [(i + shift) % len(pictures) for i in range(len(pictures))]
        return dict(zip(order, (there_and_back(pictures[i]) for i in order), strict=True))

    expected = dict(enumerate(map(there_and_back, pictures)))
    with ThreadPoolExecutor(8) as pool:
        assert all(result == expected for result in pool.map(all_of_them, range(8)))


SAVE = """
import sys
from glc_toolkit import zoo
model = zoo.load(sys.argv[1])
for i in range(3):
    zoo.save(model, sys.argv[2], "shared")
"""


def test_a_model_is_loaded_whole_or_refused_while_others_save_it(tiny_folder, tiny_model, tmp_path):
    folder = zoo.save(tiny_model, tmp_path / "shared", "shared")
    expected = tiny_model.fingerprint()
    others = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", SAVE, tiny_folder, folder]) for _ in range(2)]
    while any(other.poll() is None for other in others):
        try:
            assert zoo.load(folder).fingerprint() == expected
        except ModelFileError as error:  # between a file and its checksum
            assert str(folder) in str(error)
        time.sleep(0.05)
    assert [other.returncode for other in others] == [0, 0]
    assert zoo.load(folder).fingerprint() == expected
    assert sorted(path.name for path in folder.iterdir()) == sorted(zoo.FILES)


ENCODE = """
import resource, signal, sys
from glc_toolkit.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
sys.argv = ["glc", *sys.argv[1:]]
main()
"""


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path):
    """No file may grow beyond ten bytes here."""
    target = tmp_path / "out.glc"
    target.write_bytes(b"old")
    picture = ROOT / "docs" / "images" / "lake.png"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ENCODE, "encode", picture, target, "-y"], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr == f"Error: cannot write {target}: File too large\n"
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("room", [10, 100_000])  # for neither, or for all but the weights
def test_a_model_saved_on_a_full_disk_leaves_the_old_one(tiny_model, tmp_path, room):
    folder = zoo.save(tiny_model, tmp_path / "model", "old")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OSError, match=f"cannot write {folder}: .*(No space|File too large)"):
            zoo.save(tiny_model, folder, "new", card="# another\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", zoo.FILES)
def test_a_model_saved_over_another_stays_if_one_file_cannot_be_written(tiny_model, tmp_path, monkeypatch, name):
    folder = zoo.save(tiny_model, tmp_path / "model", "old")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    own = Path.write_text
    if name == zoo.WEIGHTS:
        monkeypatch.setattr(zoo.weights, "write", full)
    else:
        writes = iter([name == n for n in (zoo.CONFIG, zoo.CARD, zoo.SUMS)])
        monkeypatch.setattr(Path, "write_text", lambda path, text: (full if next(writes) else own)(path, text))
    with pytest.raises(OSError, match=f"cannot write {folder}: No space left"):
        zoo.save(tiny_model, folder, "new", card="# another\n")
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_short_run_of_the_fuzzer_finds_nothing():
    """`python -m tests.fuzz --seconds 60` is the long one."""
    command = [sys.executable, "-m", "tests.fuzz", "--inputs", "1000", "--start", "10000000"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
