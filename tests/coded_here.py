"""What a process reads in the golden streams, and what it writes, under settings that it has from its start: run by
tests/test_exactness.py. Each setting has a process, forked before PyTorch computes anything. The first reads all golden
streams. The others lead to the same arithmetic, and read what they write.

python -m tests.coded_here FOLDER NAME=VALUE...
"""

import json
import multiprocessing
import os
import sys
from pathlib import Path

import torch

from glc_toolkit import api
from glc_toolkit.components.fixed_point import exact_way
from tests.make_golden import DATA, golden_frames, latent_hash, photo, references_hash


def code(folder: Path, setting: str, golden: list[Path]) -> None:
    name, _, value = setting.partition("=")
    os.environ[name] = value
    folder.mkdir()
    hashes = {".glc": latent_hash, ".glv": references_hash}
    read = {path.name: hashes[path.suffix](path.read_bytes()) for path in golden}
    picture = api.encode(photo().crop((100, 100, 228, 164)))
    video = b"".join(api.encode_video(golden_frames()[:2], quality=1.5))
    (folder / "picture.glc").write_bytes(picture)
    (folder / "video.glv").write_bytes(video)
    facts = {
        "golden": read,
        "picture": latent_hash(picture),
        "video": references_hash(video),
        "way": exact_way("cpu", 64, 8).__name__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def main(folder: str, *settings: str) -> None:
    golden = sorted(DATA.glob("*.gl[cv]"))
    for setting in settings:
        read = golden if setting == settings[0] else []
        child = multiprocessing.get_context("fork").Process(target=code, args=(Path(folder, setting), setting, read))
        child.start()
        child.join()
        if child.exitcode:
            sys.exit(f"{setting}: exit code {child.exitcode}")


if __name__ == "__main__":
    main(*sys.argv[1:])
