"""Transform coding of a latent that is a block transform already: gains, and networks that add nothing at first."""

from torch import Tensor, nn

from glc_toolkit.components.transforms.gains import Gain
from glc_toolkit.components.transforms.latent import ConvBlock
from glc_toolkit.types import Component


def adding(channels: int, blocks: int) -> nn.Sequential:
    """Residual blocks that begin as the identity."""
    layers = nn.Sequential(*(ConvBlock(channels, channels) for _ in range(blocks)))
    for block in layers:
        nn.init.zeros_(block.body[-1].weight)  # pyright: ignore
        nn.init.zeros_(block.body[-1].bias)  # pyright: ignore
    return layers


class ScaledTransform(Component, nn.Module):
    """``y`` is ``l`` times the gain of the quality level, plus what residual blocks add. ``l_hat`` is made of ``y_hat``
    in the same way. The blocks work on values in steps of the quantizer. Those of the encoder learn which symbols are
    worth their bits, those of the decoder where in its step a value most likely was.

    Args:
        latent_channels, channels: width of ``l`` and of ``y``, which has to be the same.
        levels: quality levels.
        blocks: on each side.
        spread: ratio of the last to the first gain before training.
    """

    encoder_only = ("q_enc.", "enc.")

    def __init__(self, latent_channels: int, channels: int, levels: int = 4, blocks: int = 2, spread: float = 1.0):
        super().__init__()
        if latent_channels != channels:
            raise ValueError(f"y is the latent scaled, so it needs its {latent_channels} channels, not {channels}")
        self.levels = levels
        self.q_enc = Gain(levels, channels, spread)
        self.enc = adding(channels, blocks)
        self.dec = adding(channels, blocks)
        self.q_dec = Gain(levels, channels, 1 / spread)

    @property
    def exact(self) -> list[nn.Module]:
        """What decoding runs, and has a fixed-point form."""
        return [self.dec, self.q_dec]

    def analysis(self, l: Tensor, quality: Tensor) -> Tensor:
        """``l`` -> ``y`` on the same grid; ``quality`` (B,)."""
        return self.enc(self.q_enc(l, quality))

    def synthesis(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """``y_hat`` -> ``l_hat``."""
        return self.q_dec(self.dec(y_hat), quality)
