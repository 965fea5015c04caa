"""A transform of one residual block on each side of the gain."""

from torch import Tensor, nn

from glc_toolkit.components.transforms.gains import Gain


class Transform(nn.Module):
    """``l`` <-> ``y`` on the same grid.

    Args:
        latent_channels: width of ``l``.
        channels: width of ``y``.
        levels: quality levels, each with its own gain.
        spread: ratio of the last to the first gain before training.
    """

    encoder_only = ("enc.", "q_enc.")  # what a decoder does not need

    def __init__(self, latent_channels: int, channels: int, levels: int = 4, spread: float = 1.0):
        super().__init__()
        self.levels = levels
        self.enc = block(latent_channels, channels)
        self.q_enc = Gain(levels, channels, spread)
        self.q_dec = Gain(levels, channels, 1 / spread)
        self.dec = block(channels, latent_channels)

    def analysis(self, l: Tensor, quality: Tensor) -> Tensor:
        """``l`` (B, latent_channels, h, w), ``quality`` (B,) -> ``y`` (B, channels, h, w)."""
        return self.q_enc(self.enc(l), quality)

    def synthesis(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """``y_hat`` -> ``l_hat``."""
        return self.dec(self.q_dec(y_hat, quality))


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(outputs, outputs, 3, padding=1)
    )
