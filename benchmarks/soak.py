"""Many small pictures through one process: whether memory stays flat, and early pictures give the
same bytes later.

    python -m benchmarks.soak --pictures 10000
"""

import json
import resource
import time
import warnings

import click
import numpy as np
import torch

from glc_toolkit import api, zoo


def memory() -> float:
    """Of this process now, in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


@click.command(help=__doc__)
@click.option("--pictures", default=10_000)
@click.option("-m", "--model", default=api.DEFAULT_MODEL)
@click.option("--every", default=1000, help="Pictures from one line to the next.")
def main(pictures: int, model: str, every: int) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    codec, dice, early, began = zoo.load(model), np.random.default_rng(0), [], time.monotonic()
    for i in range(pictures):
        width, height = (int(side) for side in dice.integers(1, 65, 2))
        noise = dice.integers(0, 256, (height, width, 3), dtype=np.uint8)
        data = api.encode(noise, codec, quality=i % codec.levels)
        assert api.decode(data, codec).size == (width, height)
        if i < 100:
            early.append((noise, i % codec.levels, data))
        if i % 100 == 99:
            noise, quality, data = early[i // 100 % 100]
            assert api.encode(noise, codec, quality=quality) == data, f"other bytes after {i + 1} pictures"
        if (i + 1) % every == 0:
            print(json.dumps({"pictures": i + 1, "MiB": round(memory(), 1), "s": round(time.monotonic() - began)}))


if __name__ == "__main__":
    main()
