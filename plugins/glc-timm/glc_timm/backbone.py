"""A backbone whose encoder is a feature network of timm, with a light generator."""

import math

import timm
import torch
from torch import Tensor, nn

from glc_toolkit import registry
from glc_toolkit.components.backbones.vqgan import ResBlock
from glc_toolkit.types import Quantized


class TimmBackbone(nn.Module):
    """Image <-> latent: timm's features, a 1x1 to the latent, and residual blocks with sub-pixel steps back.

    Args:
        encoder: a name of ``timm.list_models()`` that knows ``features_only``.
        pretrained: fetch timm's weights for the encoder when its training begins. A model that was trained holds
            them and fetches nothing.
        downsampling: of the latent against the image, a stride of the encoder's (and a power of two).
        latent_channels: width of ``l``.
        width: of the generator.
        blocks: residual blocks of the generator at each of its grids: that of the latent, and twice the grid before
            until a position has 4x4 pixels.
        quantizer: the bottleneck of stage I, as a registry config.
    """

    encoder_only = ("encoder.", "to_latent.", "quantizer.", "began")
    example_args = {"encoder": "test_convnext", "width": 16, "blocks": 1}

    def __init__(
        self,
        encoder: str = "convnext_atto",
        pretrained: bool = False,
        downsampling: int = 16,
        latent_channels: int = 16,
        width: int = 192,
        blocks: int = 3,
        quantizer: dict | None = None,
    ):
        super().__init__()
        self.latent_channels = latent_channels
        self.downsampling = downsampling
        self.name = encoder
        self.encoder = features(encoder, downsampling)
        config = timm.get_pretrained_cfg(encoder)
        self.register_buffer("mean", torch.tensor(config.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("began", torch.tensor(not pretrained))
        self.to_latent = nn.Conv2d(self.encoder.feature_info.channels()[-1], latent_channels, 1)
        self.generator = generator(latent_channels, width, blocks, downsampling)
        self.quantizer = registry.build("quantizer", quantizer or {"name": "nearest"}, channels=latent_channels)

    def analysis(self, x: Tensor) -> Tensor:
        """``x`` (B, 3, H, W) in [0, 1], H and W multiples of ``downsampling`` -> ``l``."""
        if self.training and not self.began:
            self.encoder.load_state_dict(features(self.name, self.downsampling, pretrained=True).state_dict())
            self.began.fill_(True)
        return self.to_latent(self.encoder((x - self.mean) / self.std)[-1])

    def synthesis(self, l: Tensor) -> Tensor:
        """``l`` -> ``x_hat``, unclamped."""
        return (self.generator(l) + 1) / 2

    @property
    def networks(self) -> list[nn.Module]:
        """What training may compile."""
        return [self.encoder, self.generator]

    @property
    def last_weight(self) -> Tensor:
        """Where the adaptive weight of an adversarial loss is measured."""
        return self.generator[-2].weight

    def quantize(self, l: Tensor) -> Quantized:
        """Stage I bottleneck."""
        return self.quantizer(l)


def features(name: str, downsampling: int, pretrained: bool = False) -> nn.Module:
    """timm's network up to its last layer of stride ``downsampling``."""
    from_end = 5 - math.log2(downsampling)  # timm's networks end at a stride of 32
    try:
        network = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=(-1 - int(from_end),))
    except (AssertionError, IndexError):
        raise ValueError(f"{name} has no features at a stride of {downsampling}") from None
    if network.feature_info.reduction() != [downsampling]:
        raise ValueError(f"{name} has features at {network.feature_info.reduction()[0]}, none at {downsampling}")
    return network


def generator(latent_channels: int, width: int, blocks: int, growth: int) -> nn.Sequential:
    """Latent -> pixels in about [-1, 1] on a grid ``growth`` times as fine; the last layer writes 4x4 at once."""
    patch = min(growth, 4)
    layers: list[nn.Module] = [nn.Conv2d(latent_channels, width, 3, padding=1)]
    while True:
        layers += [ResBlock(width, width, norm="none") for _ in range(blocks)]
        if growth == patch:
            break
        layers += [nn.Conv2d(width, 2 * width, 1), nn.PixelShuffle(2)]
        width, growth = width // 2, growth // 2
    return nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(width, 3 * patch**2, 3, padding=1), nn.PixelShuffle(patch))
