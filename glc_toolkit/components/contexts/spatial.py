"""Spatial priors: a pass of y is predicted from the hyper parameters and the passes before it."""

import torch
from torch import Tensor, nn

from glc_toolkit.components.contexts import masks
from glc_toolkit.components.layers import DepthConvBlock, SumDepthConvBlock, conv1x1


class FourPartContext(nn.Module):
    """Four passes: an adaptor for each of the later three, then a prior network that they share (GLC, 1.5).

    Args:
        channels: of ``y``.
        depth: blocks of the shared network.
    """

    passes = 4
    masks = staticmethod(masks.four_part)

    def __init__(self, channels: int, depth: int = 3):
        super().__init__()
        width = 2 * channels
        self.reduction = conv1x1(3 * channels, channels)
        self.adaptors = nn.ModuleList(DepthConvBlock(width, width) for _ in range(self.passes - 1))
        self.prior = nn.Sequential(*(DepthConvBlock(width, width) for _ in range(depth)))
        with torch.no_grad():  # start from a scale of one half
            self.prior[-1][-1].conv_out.bias[:channels] += 0.5  # pyright: ignore[reportIndexIssue]

    def reduce(self, params: Tensor) -> Tensor:
        return self.reduction(params)

    def forward(self, k: int, y_hat: Tensor, reduced: Tensor) -> tuple[Tensor, Tensor]:
        out = self.prior(self.adaptors[k - 1](torch.cat([y_hat, reduced], 1)))
        return out.chunk(2, 1)


class CheckerboardContext(FourPartContext):
    """Two passes, for speed."""

    passes = 2
    masks = staticmethod(masks.checkerboard)


class NoContext(nn.Module):
    """One pass, predicted by the hyper parameters alone."""

    def __init__(self):
        super().__init__()

    def masks(self, y: Tensor) -> list[Tensor]:
        return [torch.ones_like(y[:1], dtype=torch.bool)]

    def reduce(self, params: Tensor) -> Tensor:
        return params


class DualCheckerboardContext(nn.Module):
    """Two passes; the second is predicted from the first and all of the hyper parameters (GLC-video, 2.5).

    Args:
        channels: of ``y``.
        depth: blocks of the network, at least two.
    """

    masks = staticmethod(masks.checkerboard)

    def __init__(self, channels: int, depth: int = 3):
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth has to be at least 2, not {depth}")
        wide = 3 * channels
        middle = (SumDepthConvBlock(wide, wide) for _ in range(depth - 2))
        self.prior = nn.Sequential(
            SumDepthConvBlock(channels + wide, wide), *middle, SumDepthConvBlock(wide, 2 * channels)
        )
        with torch.no_grad():  # start from a scale of one half
            self.prior[-1][-1].conv_out.bias[:channels] += 0.5  # pyright: ignore[reportIndexIssue]

    def reduce(self, params: Tensor) -> Tensor:
        return params

    def forward(self, k: int, y_hat: Tensor, reduced: Tensor) -> tuple[Tensor, Tensor]:
        return self.prior(torch.cat([y_hat, reduced], 1)).chunk(2, 1)
