"""The temporal context of GLC-video: features of the latent that was decoded before, without motion vectors."""

import torch
from torch import Tensor, nn

from glc_toolkit.components.layers import SumDepthConvBlock, conv1x1, conv3x3


class LatentContext(nn.Module):
    """Previous ``l_hat`` -> context ``c`` on the same grid (Qi et al., TCSVT 2025; GLC-video, 2.2).

    Args:
        latent_channels: of ``l_hat``.
        channels: of ``c``.
        adaptors: first layers to choose from. Frames of a cycle take turns, so that some can be better than others.
        depth: blocks after the adaptor.
        keep: the first channels of the context are ``l_hat`` itself, for a transform that codes what changes.
    """

    def __init__(self, latent_channels: int, channels: int, adaptors: int = 3, depth: int = 4, keep: bool = False):
        super().__init__()
        self.keep = keep
        self.fresh = conv3x3(latent_channels, channels)
        self.adaptors = nn.ModuleList(conv1x1(latent_channels, channels) for _ in range(adaptors))
        self.extractor = nn.Sequential(
            *(SumDepthConvBlock(channels, channels) for _ in range(depth)),
            conv1x1(channels, channels - latent_channels if keep else channels),
        )

    def forward(self, l_hat: Tensor, adaptor: int | None) -> Tensor:
        """``l_hat`` (B, latent_channels, h, w) -> (B, channels, h, w); ``adaptor`` is None for a frame that starts
        afresh."""
        context = self.extractor(self.fresh(l_hat) if adaptor is None else self.adaptors[adaptor](l_hat))
        return torch.cat([l_hat, context], 1) if self.keep else context
