"""How long a model encodes and decodes in each precision, in turns in one process, in seconds of one processor.

    python -m benchmarks.precisions glc-image-paper --size 768x512 --rounds 3

``published`` is the graph as it was published: float32 throughout, PyTorch's own layout, each upsampling a nearest
neighbour and a 3x3 convolution of the larger grid, and memory as glibc gives it. The others run as the command ``glc``
runs them, where freed memory is used again. Time of the processor is counted, which others on the machine leave
much as it is; of each way the best round counts.
"""

import copy
import time

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glc_toolkit import memory, models
from glc_toolkit.components.backbones.vqgan import Upsample
from glc_toolkit.evaluation.bench import load, picture


class PublishedUpsample(nn.Module):
    def __init__(self, upsample: Upsample):
        super().__init__()
        self.conv = upsample.conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def as_published(model: models.GLCImage) -> models.GLCImage:
    model = model.plain()
    for parent in [*model.backbone.modules()]:
        for name, child in parent.named_children():
            if isinstance(child, Upsample):
                setattr(parent, name, PublishedUpsample(child))
    return model


@click.command()
@click.argument("name")
@click.option("--size", default="768x512", show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(name: str, size: str, rounds: int) -> None:
    torch.set_num_threads(1)
    width, height = map(int, size.split("x"))
    x = picture(width, height)
    model = load(name)
    ways = {"published": as_published(model)}
    ways |= {p: copy.deepcopy(model).set_precision(p) for p in ("float32", "bf16", "int8")}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, codec in ways.items():
            memory.reuse(way != "published")
            started = time.process_time()
            codec.decompress(**codec.compress(x))
            seconds[way].append(time.process_time() - started)
    best = {way: min(times) for way, times in seconds.items()}
    for way, times in seconds.items():
        rounded = ", ".join(f"{t:.2f}" for t in times)
        click.echo(f"{way:10} {best[way]:6.2f} s, {best['published'] / best[way]:.2f} times as fast  ({rounded})")


if __name__ == "__main__":
    main()
