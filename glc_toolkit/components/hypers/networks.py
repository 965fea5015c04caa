"""The analysis and synthesis that the hyper modules share (GLC, sections 1.4 and 1.5)."""

import torch
from torch import nn

from glc_toolkit.components.layers import DepthConvBlock, ResidualUpsample


def hyper_analysis(channels: int) -> nn.Sequential:
    """y (C at /16) -> z (C at /64)."""
    return nn.Sequential(
        DepthConvBlock(channels, channels),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        nn.LeakyReLU(0.01),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1),
    )


class HyperSynthesis(nn.Sequential):
    """z_hat (C at /64) -> params (3C at /16): [step | scales | means]."""

    def __init__(self, channels: int):
        super().__init__(
            ResidualUpsample(channels, channels),
            ResidualUpsample(channels, channels),
            DepthConvBlock(channels, channels),
            DepthConvBlock(channels, 2 * channels),
            DepthConvBlock(2 * channels, 3 * channels),
        )
        with torch.no_grad():  # start from a step and a scale of one
            self[-1][-1].conv_out.bias[: 2 * channels] += 1.0
