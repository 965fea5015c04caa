"""A backbone of two convolutions on each side: the smallest that fits every slot."""

from torch import Tensor, nn

from glc_toolkit import registry
from glc_toolkit.types import Component, Quantized


class Backbone(Component, nn.Module):
    """Patches of pixels <-> latent.

    Args:
        latent_channels: width of ``l``.
        width: of the hidden layers.
        patch: pixels to a side of a latent position.
        quantizer: the bottleneck of stage I, as a registry config.
    """

    encoder_only = ("encoder.", "quantizer.")  # what a decoder does not need
    example_args = {"width": 16}  # small, for the checks

    def __init__(self, latent_channels: int = 16, width: int = 256, patch: int = 16, quantizer: dict | None = None):
        super().__init__()
        self.latent_channels = latent_channels
        self.downsampling = patch
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(patch),
            nn.Conv2d(3 * patch**2, width, 1),
            nn.SiLU(),
            nn.Conv2d(width, latent_channels, 3, padding=1),
        )
        self.generator = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 3 * patch**2, 3, padding=1),
            nn.PixelShuffle(patch),
        )
        self.quantizer = registry.build("quantizer", quantizer or {"name": "nearest"}, channels=latent_channels)

    def analysis(self, x: Tensor) -> Tensor:
        """``x`` (B, 3, H, W) in [0, 1] -> ``l`` (B, latent_channels, H / patch, W / patch)."""
        return self.encoder(2 * x - 1)

    def synthesis(self, l: Tensor) -> Tensor:
        """``l`` -> ``x_hat``, unclamped."""
        return (self.generator(l) + 1) / 2

    @property
    def networks(self) -> list[nn.Module]:
        """What training may compile."""
        return [self.encoder, self.generator]

    @property
    def last_weight(self) -> Tensor:
        return self.generator[-2].weight  # pyright: ignore[reportReturnType]

    def quantize(self, l: Tensor) -> Quantized:
        return self.quantizer(l)
