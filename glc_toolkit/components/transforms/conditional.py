"""Transform coding of a video frame's latent, given the temporal context (GLC-video, section 2.3)."""

from typing import Any

import torch
from torch import Tensor, nn

from glc_toolkit.components.layers import SumDepthConvBlock
from glc_toolkit.components.transforms.gains import Gain
from glc_toolkit.types import Component


class ConditionalTransform(Component, nn.Module):
    """Two pairs of blocks around the gain of the quality level; the context enters both halves at the front.

    Args:
        latent_channels: width of ``l``.
        channels: width of ``y`` and of the context.
        levels: quality levels.
        spread: ratio of the last to the first gain before training.
        residual: ``l_hat`` is a change of the first channels of the context (see ``keep`` of ``latent_context``). The
            published one has to learn to repeat what does not change.
    """

    conditional = True
    encoder_only = ("enc_1.", "q_enc.", "enc_2.")

    def __init__(
        self, latent_channels: int, channels: int, levels: int = 4, spread: float = 1.0, residual: bool = False
    ):
        super().__init__()
        self.levels = levels
        self.residual = residual

        def pair(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(SumDepthConvBlock(inputs, channels), SumDepthConvBlock(channels, outputs))

        self.enc_1 = pair(latent_channels + channels, channels)
        self.q_enc = Gain(levels, channels, spread)
        self.enc_2 = pair(channels, channels)
        self.dec_1 = pair(2 * channels, channels)
        self.q_dec = Gain(levels, channels, 1 / spread)
        self.dec_2 = pair(channels, latent_channels)
        if residual:  # start from no change
            end: Any = self.dec_2[-1]
            with torch.no_grad():
                for last in (end[0].conv2, end[0].adaptor, end[1].conv_out):
                    last.weight.mul_(0.1)
                    last.bias.zero_()

    @property
    def exact(self) -> list[nn.Module]:
        """What decoding runs."""
        return [self.dec_1, self.q_dec, self.dec_2]

    def analysis(self, l: Tensor, quality: Tensor, context: Tensor) -> Tensor:
        """``l`` and ``context`` (B, channels, h, w) -> ``y`` on the same grid; ``quality`` (B,)."""
        return self.enc_2(self.q_enc(self.enc_1(torch.cat([l, context], 1)), quality))

    def synthesis(self, y_hat: Tensor, quality: Tensor, context: Tensor) -> Tensor:
        """``y_hat``, given the same context, -> ``l_hat``."""
        l_hat = self.dec_2(self.q_dec(self.dec_1(torch.cat([y_hat, context], 1)), quality))
        return l_hat + context[:, : l_hat.shape[1]] if self.residual else l_hat
