"""Transform coding of what a video frame's latent adds to the temporal context, in the manner of ``scaled``."""

import torch
from torch import Tensor, nn

from glc_toolkit.components.layers import conv1x1
from glc_toolkit.components.transforms.gains import Gain
from glc_toolkit.components.transforms.latent import ConvBlock
from glc_toolkit.components.transforms.scaled import adding
from glc_toolkit.types import Component


class PredictedTransform(Component, nn.Module):
    """``y`` is the difference of ``l`` from the context times the gain of the quality level, plus what residual blocks
    add, which see the context, too. ``l_hat`` is made of ``y_hat`` in the same way. The blocks add nothing before
    training.

    Args:
        latent_channels: width of ``l``.
        channels: width of ``y`` and of the context, which predicts that many first channels of ``l``. If ``l`` has
            more, the decoder makes the others from ``y_hat`` and the context.
        levels: quality levels.
        blocks: on each side.
        spread: ratio of the last to the first gain before training.
    """

    conditional = True
    encoder_only = ("q_enc.", "enc.")

    def __init__(self, latent_channels: int, channels: int, levels: int = 4, blocks: int = 1, spread: float = 1.0):
        super().__init__()
        if latent_channels < channels:
            raise ValueError(f"y is a change of the latent's {latent_channels} channels, so it cannot have {channels}")
        self.levels, self.channels = levels, channels
        self.q_enc = Gain(levels, channels, spread)
        self.enc = nn.Sequential(seeing(channels), *adding(channels, blocks))
        self.dec = nn.Sequential(seeing(channels), *adding(channels, blocks))
        self.q_dec = Gain(levels, channels, 1 / spread)
        self.rest = conv1x1(2 * channels, latent_channels - channels) if latent_channels > channels else None

    @property
    def exact(self) -> list[nn.Module]:
        """What decoding runs, and has a fixed-point form."""
        return [self.dec, self.q_dec, *([] if self.rest is None else [self.rest])]

    def analysis(self, l: Tensor, quality: Tensor, context: Tensor) -> Tensor:
        """``l`` (B, latent_channels, h, w) and ``context`` (B, channels, h, w) -> ``y`` like the context; ``quality``
        (B,)."""
        change = self.q_enc(l[:, : self.channels] - context, quality)
        return self.enc(torch.cat([change, context], 1))

    def synthesis(self, y_hat: Tensor, quality: Tensor, context: Tensor) -> Tensor:
        """``y_hat``, given the same context, -> ``l_hat``."""
        h = self.dec(torch.cat([y_hat, context], 1))
        l_hat = context + self.q_dec(h, quality)
        return l_hat if self.rest is None else torch.cat([l_hat, self.rest(torch.cat([h, context], 1))], 1)


def seeing(channels: int) -> ConvBlock:
    """A block of two tensors that begins as the first of them."""
    block = ConvBlock(2 * channels, channels)
    assert isinstance(block.adaptor, nn.Conv2d)
    with torch.no_grad():
        for tensor in (block.body[-1].weight, block.body[-1].bias, block.adaptor.weight, block.adaptor.bias):
            nn.init.zeros_(tensor)  # pyright: ignore[reportArgumentType]
        # torch.eye would import sympy while a model is loaded, a second.
        block.adaptor.weight[:, :channels, 0, 0].fill_diagonal_(1.0)
    return block
