"""Perceptual distances as losses. A model trained on one should say so beside its score on it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glc_toolkit.components.metrics.dists import DISTS
from glc_toolkit.components.metrics.grid import Grid
from glc_toolkit.components.metrics.lpips import LPIPS
from glc_toolkit.types import StepOutput


class PerceptualLoss(nn.Module):
    """A metric of the first ``fraction`` of the batch, and of a random window of ``side`` pixels if given: VGG16 costs
    more than a light codec, and crops are in random order, so a part gives much the same gradient on average. With
    ``jitter``, :func:`jittered` changes both pictures first."""

    def __init__(self, metric: nn.Module, fraction: float, side: int | None, jitter: float = 0.0):
        super().__init__()
        check_fraction(fraction)
        if not 0 <= jitter < 1:
            raise ValueError(f"jitter has to be in [0, 1), not {jitter}")
        self.metric = metric
        self.fraction = fraction
        self.side = side
        self.jitter = jitter

    def forward(self, out: StepOutput) -> Tensor:
        x, x_hat = part(out, self.fraction, self.side)
        if self.jitter:
            x, x_hat = jittered(x, x_hat, self.jitter)  # pyright: ignore[reportCallIssue]
        return self.metric(x_hat, x).mean()


def check_fraction(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction has to be in (0, 1], not {fraction}")


def part(out: StepOutput, fraction: float, side: int | None) -> tuple[Tensor, Tensor]:
    """``x`` and ``x_hat`` of the first ``fraction`` of the batch, and of these the same random square, if ``side``."""
    count = max(1, round(fraction * len(out["x"])))
    x, x_hat = out["x"][:count], out["x_hat"][:count]
    return (x, x_hat) if side is None else window(x, x_hat, side)  # pyright: ignore[reportCallIssue]


@torch.compiler.disable  # or it would compile what follows again for every place that a window can have
def window(x: Tensor, x_hat: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The same random square of both, or all of a shorter side."""
    top, left = (int(torch.randint(max(length - side, 0) + 1, ())) for length in x.shape[-2:])
    place = (..., slice(top, top + side), slice(left, left + side))
    return x[place], x_hat[place]


@torch.compiler.disable  # or it would compile what follows again for every size
def jittered(x: Tensor, x_hat: Tensor, amount: float) -> tuple[Tensor, Tensor]:
    """Both pictures, changed alike at random, as in E-LPIPS (Kettunen et al., 2019).

    They are shifted by up to 8 pixels, resized by a factor in [1 - ``amount``, 1 + ``amount`` / 3] and multiplied by a
    gain in 1 +- ``amount`` / 3. A network that looks at pixels in fixed places minds dots at some of these places too
    little, and a generator finds them. Where the places move, it cannot.
    """
    shift = min(8, min(x.shape[-2:]) // 4)
    top, left = torch.randint(shift + 1, (2,)).tolist()
    u, v = torch.rand(2).tolist()
    scale, gain = 1 - amount + 4 / 3 * amount * u, 1 + (2 * v - 1) * amount / 3
    height, width = x.shape[-2] - shift, x.shape[-1] - shift
    size = [round(scale * height), round(scale * width)]

    def change(picture: Tensor) -> Tensor:
        seen = picture[..., top : top + height, left : left + width]
        return gain * F.interpolate(seen, size, mode="bilinear", antialias=True)

    return change(x), change(x_hat)


class LPIPSLoss(PerceptualLoss):
    """LPIPS on ``net`` ("vgg" as in the paper, or "alex")."""

    def __init__(self, net: str = "vgg", fraction: float = 1.0, side: int | None = None, jitter: float = 0.0):
        super().__init__(LPIPS(net), fraction, side, jitter)


class DISTSLoss(PerceptualLoss):
    """DISTS."""

    def __init__(self, fraction: float = 1.0, side: int | None = None, jitter: float = 0.0):
        super().__init__(DISTS(), fraction, side, jitter)


class GridLoss(PerceptualLoss):
    """What repeats with the grid of ``period`` pixels, which the other two mind too little."""

    def __init__(self, period: int = 16, fraction: float = 1.0, side: int | None = None):
        super().__init__(Grid(period), fraction, side)
