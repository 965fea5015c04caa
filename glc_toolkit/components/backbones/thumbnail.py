"""A backbone around a pretrained upscaler: the latent draws the picture at a quarter of each side, and an RRDBNet that
has seen many more pictures than a codec is trained on draws it large. A compact network that has learned from one can
take its place.

x --thumbnail--> t --blocks of 4x4, and what a network adds--> l            analysis
l --inverse blocks, and what a network adds--> t_hat --generator--> x_hat   synthesis

The networks add nothing before training. Until then ``l`` is the block transform of the thumbnail, and a codec on this
backbone is a transform codec with a learned entropy model.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glc_toolkit import registry
from glc_toolkit.components.backbones.compact import CompactNet
from glc_toolkit.components.backbones.rrdb import RRDBNet
from glc_toolkit.components.backbones.vqgan import ResBlock
from glc_toolkit.types import Component, Quantized

SIDE = 4  # of the thumbnail's blocks, each of which is one position of the latent
COEFFICIENTS = 3 * SIDE**2
STEP = 1 / 4.8  # of a coefficient, in a range of one from black to white, that comes to one in the latent


def block_transform(side: int = SIDE) -> Tensor:
    """Orthonormal DCT-II of the rows and columns of a block, of the three opponent colours: (48, 48) for a side of 4, a
    row for each coefficient, columns in the order of ``pixel_unshuffle``."""
    n = torch.arange(side, dtype=torch.float64)
    dct = torch.cos(math.pi * (n + 0.5) * n[:, None] / side) * math.sqrt(2 / side)
    dct[0] /= math.sqrt(2)
    colours = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
    colours = F.normalize(colours, dim=1)
    return torch.einsum("uc, vi, wj -> vwucij", colours, dct, dct).reshape(3 * side**2, 3 * side**2).float()


def zero(conv: nn.Conv2d) -> nn.Conv2d:
    """``conv`` that gives nothing before it has learned."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class Encoder(nn.Module):
    """Picture and thumbnail -> latent: the blocks' coefficients, in the first channels, plus what the network adds."""

    def __init__(self, channels: int, width: int, wide: int):
        super().__init__()
        self.transform = nn.Conv2d(COEFFICIENTS, COEFFICIENTS, 1, bias=False)
        with torch.no_grad():
            self.transform.weight.copy_(block_transform()[:, :, None, None] / STEP)
        self.coarse = nn.Conv2d(12, width, 3, padding=1)
        self.fine = nn.Conv2d(192, width, 1)  # what a thumbnail does not show
        self.network = nn.Sequential(
            ResBlock(width, width, "none"),
            nn.Conv2d(width, wide, 4, stride=2, padding=1),
            ResBlock(wide, wide, "none"),
            ResBlock(wide, wide, "none"),
            nn.SiLU(),
            zero(nn.Conv2d(wide, channels, 1)),
        )
        self.channels = channels

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        coefficients = self.transform(F.pixel_unshuffle(t - 0.5, SIDE))
        h = self.coarse(F.pixel_unshuffle(t - 0.5, 2)) + self.fine(F.pixel_unshuffle(x - 0.5, 8))
        return self.network(h) + F.pad(coefficients, (0, 0, 0, 0, 0, self.channels - COEFFICIENTS))


class Stem(nn.Module):
    """Latent -> thumbnail, and what the generator gets besides: ``features`` channels that join those of its first
    convolution, or, with 0, what the thumbnail was drawn from."""

    def __init__(self, channels: int, width: int, wide: int, features: int):
        super().__init__()
        self.inverse = nn.Conv2d(COEFFICIENTS, COEFFICIENTS, 1, bias=False)
        with torch.no_grad():
            self.inverse.weight.copy_(block_transform().t()[:, :, None, None] * STEP)
        self.network = nn.Sequential(
            nn.Conv2d(channels, wide, 3, padding=1),
            ResBlock(wide, wide, "none"),
            ResBlock(wide, wide, "none"),
            nn.Conv2d(wide, 4 * width, 1),
            nn.PixelShuffle(2),
        )
        self.seen = nn.Conv2d(12, width, 3, padding=1)  # what the inverse transform gave
        self.mend = nn.Sequential(ResBlock(width, width, "none"), ResBlock(width, width, "none"), nn.SiLU())
        self.pixels = zero(nn.Conv2d(width, 12, 3, padding=1))
        self.features = zero(nn.Conv2d(width, 4 * features, 3, padding=1)) if features else nn.Identity()

    def forward(self, l: Tensor) -> tuple[Tensor, Tensor]:
        """-> the thumbnail, and what the generator gets besides."""
        t_hat, h = self.draw(l)
        return t_hat, h if isinstance(self.features, nn.Identity) else F.pixel_shuffle(self.features(h), 2)

    def draw(self, l: Tensor) -> tuple[Tensor, Tensor]:
        """-> the thumbnail, and what it was drawn from."""
        blocks = F.pixel_shuffle(self.inverse(l[:, :COEFFICIENTS]), SIDE)
        h = self.mend(self.network(l) + self.seen(F.pixel_unshuffle(blocks, 2)))
        return blocks + F.pixel_shuffle(self.pixels(h), 2) + 0.5, h


class ThumbnailBackbone(Component, nn.Module):
    """Thumbnail and upscaler.

    Args:
        latent_channels: width of ``l``, 48 or more.
        width, wide: of the networks at the grids of 8 and of 16 pixels.
        blocks: for ``"rrdb"`` a number (23 as published; its other sizes are as published), for ``"compact"`` three.
        quantizer: the bottleneck of stage I, as a registry config.
        generator: ``"rrdb"`` or ``"compact"``.
    """

    downsampling = 4 * SIDE
    encoder_only = ("encoder.", "quantizer.")
    pixels_only = ("stem.", "generator.")
    example_args = {"latent_channels": 64, "width": 16, "wide": 16, "blocks": 1}

    def __init__(
        self,
        latent_channels: int = 96,
        width: int = 96,
        wide: int = 160,
        blocks: int | tuple[int, int, int] = 6,
        quantizer: dict | None = None,
        generator: str = "rrdb",
    ):
        super().__init__()
        if latent_channels < COEFFICIENTS:
            raise ValueError(f"latent_channels holds the {COEFFICIENTS} coefficients of a block, not {latent_channels}")
        self.latent_channels = latent_channels
        self.encoder = Encoder(latent_channels, width, wide)
        count = 1 if isinstance(blocks, int) else len(blocks)
        if {"rrdb": 1, "compact": 3}.get(generator) != count:
            raise ValueError(f"generator is 'rrdb' with a number of blocks, or 'compact' with three, not {generator!r}")
        self.stem = Stem(latent_channels, width, wide, features=64 if generator == "rrdb" else 0)
        self.generator = RRDBNet(blocks) if isinstance(blocks, int) else CompactNet(width, blocks=blocks)
        self.quantizer = registry.build(
            "quantizer", quantizer or {"name": "nearest", "args": {"codebook_size": 1024}}, channels=latent_channels
        )

    @staticmethod
    def thumbnail(x: Tensor) -> Tensor:
        """``x`` (B, 3, H, W) in [0, 1] -> (B, 3, H / 4, W / 4), bicubic with antialiasing."""
        small = F.interpolate(x.float(), scale_factor=1 / 4, mode="bicubic", antialias=True)
        return small.clamp(0, 1).to(x.dtype)

    def analysis(self, x: Tensor) -> Tensor:
        """``x`` (B, 3, H, W) in [0, 1], H and W multiples of 16 -> ``l``."""
        return self.encoder(x, self.thumbnail(x))

    def draw(self, l: Tensor) -> Tensor:
        """``l`` -> the thumbnail (B, 3, 4h, 4w) that it stands for, about [0, 1], in float32."""
        return self.stem.draw(l)[0].float()

    def synthesis(self, l: Tensor) -> Tensor:
        """``l`` -> ``x_hat``, unclamped, in float32."""
        return self.generator(*self.stem(l)).float()

    @property
    def networks(self) -> list[nn.Module]:
        """What training may compile."""
        return [self.encoder, self.generator]

    @property
    def last_weight(self) -> Tensor:
        """Where the adaptive weight of an adversarial loss is measured."""
        return self.generator.last_weight

    def quantize(self, l: Tensor) -> Quantized:
        """Stage I bottleneck."""
        return self.quantizer(l)
