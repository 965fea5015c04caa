"""A temporal context of one convolution for each place in the cycle."""

from torch import Tensor, nn

from glc_toolkit.components.layers import conv3x3


class Temporal(nn.Module):
    """The latent decoded before -> what the next frame of a video is coded with.

    Decoders run it, so it is made of layers that have a fixed-point form.

    Args:
        latent_channels: of ``l_hat``.
        channels: of the context.
        adaptors: places in the cycle.
    """

    def __init__(self, latent_channels: int, channels: int, adaptors: int = 3):
        super().__init__()
        self.fresh = conv3x3(latent_channels, channels)
        self.adaptors = nn.ModuleList(conv3x3(latent_channels, channels) for _ in range(adaptors))

    def forward(self, l_hat: Tensor, adaptor: int | None) -> Tensor:
        """``l_hat`` (B, latent_channels, h, w) -> (B, channels, h, w); ``None`` is a frame that starts afresh."""
        return self.fresh(l_hat) if adaptor is None else self.adaptors[adaptor](l_hat)
