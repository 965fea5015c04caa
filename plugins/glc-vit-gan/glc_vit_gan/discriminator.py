"""A projected discriminator: small heads on the features of a frozen ViT (Sauer et al., ICML 2023; ECCV 2024)."""

import timm
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class ViTDiscriminator(nn.Module):
    """Image -> one number a patch from each of several depths of a ViT; only the heads learn.

    Args:
        vit: a plain vision transformer, by its name in timm.
        pretrained: fetch its weights; features of random weights see little.
        depths: blocks whose outputs are judged, counted from 0 and, below 0, from the end.
        width: of the heads.
    """

    def __init__(self, vit: str, pretrained: bool, depths: tuple[int, ...], width: int):
        super().__init__()
        self.vit = timm.create_model(vit, pretrained=pretrained, num_classes=0, dynamic_img_size=True)
        self.vit.requires_grad_(False).eval()
        blocks = len(self.vit.blocks)
        if not all(-blocks <= depth < blocks for depth in depths):
            raise ValueError(f"{vit} has {blocks} blocks: depths are between {-blocks} and {blocks - 1}, not {depths}")
        self.depths = sorted({depth % blocks for depth in depths})
        self.patch = self.vit.patch_embed.patch_size[0]
        self.heads = nn.ModuleList(head(self.vit.embed_dim, width) for _ in self.depths)
        config = timm.get_pretrained_cfg(vit)
        self.register_buffer("mean", torch.tensor(config.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).reshape(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "ViTDiscriminator":
        """As in PyTorch, but the ViT always evaluates."""
        super().train(mode)
        self.vit.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (B, 3, H, W) in [0, 1], cut to whole patches -> (B, n), higher for what looks real."""
        height, width = (side // self.patch * self.patch for side in x.shape[-2:])
        x = (x[..., :height, :width] - self.mean) / self.std
        features = self.vit.forward_intermediates(x, indices=self.depths, intermediates_only=True)
        return torch.cat([h(f).flatten(1) for h, f in zip(self.heads, features, strict=True)], 1).float()


def head(inputs: int, width: int) -> nn.Sequential:
    """Two layers with a bounded slope; no batch statistics, so that a judgement depends on its picture alone."""
    return nn.Sequential(
        spectral_norm(nn.Conv2d(inputs, width, 1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, 1, 1)),
    )
