"""The VQGAN autoencoder (Esser et al., CVPR 2021), driven by its arguments.

The defaults are the published f16 layout of GLC; ``patch`` > 1 with ``norm="none"`` makes the light one, whose first
and last convolutions work on pixels folded into channels, so that no layer runs at full resolution.
"""

from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from glc_toolkit import registry
from glc_toolkit.components.layers import residual
from glc_toolkit.types import Block, Component, Quantized


def normalization(kind: str, channels: int) -> nn.Module:
    if kind == "group":
        return nn.GroupNorm(32, channels, eps=1e-6)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"norm is 'group' or 'none', not {kind!r}")


def normed_swish(norm: nn.Module, x: Tensor) -> Tensor:
    """Without a gradient to keep it for, what ``norm`` gave is overwritten: new memory costs more than the swish."""
    h = norm(x)
    return F.silu(h, inplace=h is not x and not torch.is_grad_enabled())


def blocks_by_level(blocks: int | list[int], levels: int) -> list[int]:
    counts = [blocks] * levels if isinstance(blocks, int) else blocks
    if len(counts) != levels:
        raise ValueError(f"{levels} levels (multipliers) but residual blocks for {len(counts)}: {blocks}")
    return counts


class ResBlock(Block):
    """Norm, swish, 3x3, twice; 1x1 skip where the width changes."""

    int8 = ("conv1", "conv2")

    def __init__(self, inputs: int, outputs: int, norm: str):
        super().__init__()
        self.norm1 = normalization(norm, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = normalization(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_out = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.last = "conv2" if inputs == outputs else None
        if norm == "none":  # without normalisation the residual branch has to start small
            with torch.no_grad():
                self.conv2.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(normed_swish(self.norm1, x))
        h = self.conv2(normed_swish(self.norm2, h))
        return residual(self.conv_out(x), h)


class Attention(nn.Module):
    """Single-head attention over all positions in training and, in evaluation, within windows of 32x32 positions."""

    window = 32

    def __init__(self, channels: int, norm: str):
        super().__init__()
        self.norm = normalization(norm, channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = self.q(h), self.k(h), self.v(h)
        if self.training:
            return x + self.proj_out(self.attend(q, k, v))
        out = torch.empty_like(v)
        for top in range(0, x.shape[2], self.window):
            for left in range(0, x.shape[3], self.window):
                part = (..., slice(top, top + self.window), slice(left, left + self.window))
                out[part] = self.attend(q[part], k[part], v[part])
        return x + self.proj_out(out)

    @staticmethod
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        height = q.shape[2]
        q, k, v = (rearrange(t, "b c h w -> b (h w) c") for t in (q, k, v))
        return rearrange(F.scaled_dot_product_attention(q, k, v), "b (h w) c -> b c h w", h=height)


class Downsample(nn.Module):
    """3x3 with stride 2, padded right and below only."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest neighbour, then 3x3, as one transposed 4x4: the nine taps of a pixel fall on four positions of ``x``, and
    those that share one are added beforehand. That is 4/9 of the products."""

    shared: Tensor  #: which of the 9 taps are added in each of the 16, (16, 9)

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.register_buffer("shared", self.taps(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_to(x, self.conv.weight, self.conv.bias, self.shared)

    def weight(self) -> Tensor:
        """(inputs, outputs, 4, 4) of the transposed convolution."""
        return self.transposed(self.conv.weight, self.shared)

    @staticmethod
    def taps() -> Tensor:
        shared = torch.tensor([[0.0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])  # along one axis
        return torch.kron(shared, shared)

    @staticmethod
    def transposed(weight: Tensor, shared: Tensor) -> Tensor:
        """``weight`` (outputs, inputs, 3, 3) -> (inputs, outputs, 4, 4)."""
        outputs, inputs, _, _ = weight.shape
        taps = shared.to(weight) @ weight.permute(2, 3, 0, 1).reshape(9, -1)
        return taps.view(4, 4, outputs, inputs).permute(3, 2, 0, 1)

    @staticmethod
    def apply_to(x: Tensor, weight: Tensor, bias: Tensor | None, shared: Tensor) -> Tensor:
        return F.conv_transpose2d(x, Upsample.transposed(weight, shared), bias, stride=2, padding=1)


class Encoder(nn.Module):
    """Image in [-1, 1] -> latent."""

    def __init__(self, patch, widths, blocks, attention, latent_channels, norm):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3 * patch**2, widths[0], 3, padding=1)]
        width = widths[0]
        for level, wider in enumerate(widths):
            last = level == len(widths) - 1
            for _ in range(blocks[level]):
                layers.append(ResBlock(width, wider, norm))
                width = wider
                if attention and last:
                    layers.append(Attention(width, norm))
            if not last:
                layers.append(Downsample(width))
        if attention:
            layers += [ResBlock(width, width, norm), Attention(width, norm), ResBlock(width, width, norm)]
        layers += [normalization(norm, width), nn.SiLU(), nn.Conv2d(width, latent_channels, 3, padding=1)]
        self.patch = patch
        self.blocks = nn.Sequential(*layers)
        self.quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.quant_conv(self.blocks(F.pixel_unshuffle(x, self.patch)))


def plain_head(width: int, patch: int) -> nn.Sequential:
    """Features of a position -> its ``patch`` x ``patch`` pixels, by one convolution."""
    conv = nn.Conv2d(width, 3 * patch**2, 3, padding=1)
    with torch.no_grad():  # all sub-pixels of a patch start alike, or a grid shows from the first step
        conv.weight.copy_(conv.weight[:: patch**2].repeat_interleave(patch**2, 0))
    return nn.Sequential(conv, nn.PixelShuffle(patch))


def residual_head(width: int, narrow: int, blocks: int, patch: int, norm: str) -> nn.Sequential:
    """The same with a second convolution, and residual blocks before it, at twice the grid, which see across patches:
    one convolution alone leaves a grid of its period in dark texture."""
    return nn.Sequential(
        nn.Conv2d(width, 4 * narrow, 3, padding=1),
        nn.PixelShuffle(2),
        *(ResBlock(narrow, narrow, norm) for _ in range(blocks)),
        nn.Conv2d(narrow, 3 * (patch // 2) ** 2, 3, padding=1),
        nn.PixelShuffle(patch // 2),
    )


class Generator(nn.Module):
    """Latent -> image, about [-1, 1]."""

    def __init__(self, patch, widths, blocks, attention, latent_channels, norm, head, head_blocks):
        super().__init__()
        width = widths[-1]
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        layers: list[nn.Module] = [nn.Conv2d(latent_channels, width, 3, padding=1)]
        if attention:
            layers += [ResBlock(width, width, norm), Attention(width, norm), ResBlock(width, width, norm)]
        for level, narrower in reversed(list(enumerate(widths))):
            for _ in range(blocks[level]):
                layers.append(ResBlock(width, narrower, norm))
                width = narrower
                if attention and level == len(widths) - 1:
                    layers.append(Attention(width, norm))
            if level > 0:
                layers.append(Upsample(width))
        layers += [normalization(norm, width), nn.SiLU()]
        self.blocks = nn.Sequential(*layers)
        self.head = residual_head(width, head, head_blocks, patch, norm) if head else plain_head(width, patch)

    def forward(self, l: Tensor) -> Tensor:
        return self.head(self.blocks(self.post_quant_conv(l)))


class VQGAN(Component, nn.Module):
    """VQGAN backbone.

    Args:
        channels: width of the finest level.
        multipliers: width of each level against the finest; each level after the first halves the grid.
        encoder_blocks, decoder_blocks: residual blocks of every level, or a list of one number a level, finest first.
        attention: attention at the coarsest level, and a middle part around it.
        latent_channels: width of ``l``.
        patch: pixels folded into channels before the first level.
        norm: ``"group"`` or ``"none"``.
        head: width of a last stretch at twice the finest grid before the pixels (needs ``patch`` > 1); 0 is none.
        head_blocks: residual blocks in it.
        quantizer: the bottleneck of stage I, as a registry config.
    """

    unit: Tensor | None  #: that the latent is multiplied by; None is one
    encoder_only = ("encoder.", "quantizer.")
    pixels_only = ("generator.",)
    tile_overlap = Attention.window
    example_args = {
        "channels": 32,
        "multipliers": [1, 1],
        "encoder_blocks": 1,
        "decoder_blocks": 1,
        "latent_channels": 16,
    }

    def __init__(
        self,
        channels: int = 128,
        multipliers: tuple[float, ...] = (1, 1, 2, 2, 4),
        encoder_blocks: int | list[int] = 2,
        decoder_blocks: int | list[int] = 3,
        attention: bool = True,
        latent_channels: int = 256,
        patch: int = 1,
        norm: str = "group",
        head: int = 0,
        head_blocks: int = 2,
        quantizer: dict | None = None,
    ):
        super().__init__()
        if head and patch % 2:
            raise ValueError(f"a head at twice the finest grid needs an even patch, not {patch}")
        widths = [int(channels * m) for m in multipliers]
        self.latent_channels = latent_channels
        self.downsampling = patch * 2 ** (len(widths) - 1)
        deep_in, deep_out = (blocks_by_level(n, len(widths)) for n in (encoder_blocks, decoder_blocks))
        self.encoder = Encoder(patch, widths, deep_in, attention, latent_channels, norm)
        self.generator = Generator(patch, widths, deep_out, attention, latent_channels, norm, head, head_blocks)
        self.quantizer = registry.build(
            "quantizer", quantizer or {"name": "nearest", "args": {"codebook_size": 16384}}, channels=latent_channels
        )
        self.register_buffer("unit", None)

    def take_unit(self, x: Tensor) -> None:
        """Make ``l`` of pictures like ``x`` about as large as one, by a power of two. Pictures stay as they are."""
        self.unit = None
        self.unit = torch.exp2(-self.analysis(x).square().mean().log2().div(2).round())

    def analysis(self, x: Tensor) -> Tensor:
        """``x`` (B, 3, H, W) in [0, 1], H and W multiples of ``downsampling`` -> ``l``."""
        l = self.encoder(2 * x - 1)
        return l if self.unit is None else l * self.unit

    def synthesis(self, l: Tensor) -> Tensor:
        """``l`` -> ``x_hat``, unclamped, in float32."""
        l = l if self.unit is None else l / self.unit
        return (self.generator(l).float() + 1) / 2

    @property
    def networks(self) -> list[nn.Module]:
        """What training may compile."""
        return [self.encoder, self.generator]

    @property
    def last_weight(self) -> Tensor:
        """Where the adaptive weight of an adversarial loss is measured."""
        return cast(nn.Conv2d, self.generator.head[-2]).weight

    def quantize(self, l: Tensor) -> Quantized:
        """Stage I bottleneck."""
        if self.unit is None:
            return self.quantizer(l)
        quantized = self.quantizer(l / self.unit)
        return quantized._replace(values=quantized.values * self.unit)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args):
        self.unit = torch.ones_like(state_dict[prefix + "unit"]) if prefix + "unit" in state_dict else None
        super()._load_from_state_dict(state_dict, prefix, *args)
