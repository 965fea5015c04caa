"""What a process reads in the golden streams, and what it writes, under settings that it has from its start: run by
tests/test_exactness.py. Each setting has a process, forked before PyTorch computes anything.

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


def code(folder: Path, setting: str) -> None:
    name, _, value = setting.partition("=")
    os.environ[name] = value
    folder.mkdir()
    read = {path.name: latent_hash(path.read_bytes()) for path in sorted(DATA.glob("*.glc"))}
    read |= {path.name: references_hash(path.read_bytes()) for path in sorted(DATA.glob("*.glv"))}
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
    for setting in settings:
        child = multiprocessing.get_context("fork").Process(target=code, args=(Path(folder, setting), setting))
        child.start()
        child.join()
        if child.exitcode:
            sys.exit(f"{setting}: exit code {child.exitcode}")


if __name__ == "__main__":
    main(*sys.argv[1:])
