"""The batches of a stage, and the steps that they make. Sample numbers follow from the number of a step."""

from collections.abc import Callable, Iterator

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from glc_toolkit.training.own_latents import FIRST, OwnLatents
from glc_toolkit.training.recipe import Stage


def batches(
    fabric: Fabric, stage: Stage, samples: Dataset, step: int, chunks: int, own: OwnLatents | None = None
) -> DataLoader:
    """This process's share of each batch, from the batch of step ``step`` on; a batch makes ``chunks`` steps. With
    ``own`` every second sample is a crop that has a latent of its own."""
    share = share_of(stage, fabric.world_size)

    def drawn() -> Iterator[list[int]]:
        for n in range(step // chunks, -(-stage.most_steps // chunks)):
            first = n * stage.batch + fabric.global_rank * share
            numbers = list(range(first, first + share))
            if own is not None:
                numbers[1::2] = [FIRST + row for row in own.rows(first // 2, share // 2)]
            yield numbers

    loader = DataLoader(samples, batch_sampler=Drawn(drawn))  # pyright: ignore[reportArgumentType]
    return fabric.setup_dataloaders(loader, use_distributed_sampler=False)  # pyright: ignore[reportReturnType]


class Drawn:
    """What a ``DataLoader`` asks for its batches: a generator, since a stage that ends by the clock has no number."""

    def __init__(self, make: Callable[[], Iterator[list[int]]]):
        self.make = make

    def __iter__(self) -> Iterator[list[int]]:
        return self.make()


def share_of(stage: Stage, processes: int) -> int:
    """How many samples of a batch each process has."""
    share, rest = divmod(stage.batch, processes)
    if rest:
        raise ValueError(f"stage {stage.name!r}: a batch of {stage.batch} cannot be shared by {processes}")
    if stage.own_latents and share % 2:
        raise ValueError(f"stage {stage.name!r}: with own latents each process has an even batch, not {share}")
    return share


def steps_of(loader: DataLoader, stage: Stage) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Pixels as uint8, quality, and the number of the first frame, for each step.

    A batch of pictures is one step. A batch of clips is ``stage.chunks`` steps; each begins with the last frame of the
    step before.
    """
    for x, quality in loader:
        if x.ndim == 4:
            yield x, quality, 0
            continue
        size = stage.chunk or stage.frames - 1
        for first in range(0, stage.frames - 1, size):
            yield x[:, first : first + size + 1], quality, first


def prepared(pixels: Tensor, quality: Tensor, stage: Stage, levels: int) -> tuple[Tensor, Tensor]:
    """``x`` in [0, 1] and ``quality``; if the stage says so each picture at every level."""
    x = pixels.float() / 255
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    if stage.all_levels:
        return x.repeat_interleave(levels, 0), every_level(levels, len(x), x.device)
    return x, quality


def every_level(levels: int, pictures: int, device: torch.device) -> Tensor:
    """All levels for each of so many pictures, (pictures * levels,)."""
    return torch.arange(levels, device=device).repeat(pictures).float()
