"""A small generator: most of its work is done at an eighth of each side, where a convolution sees far and costs little.

RRDBNet computes everything at a quarter of each side or finer. With 23 blocks it takes twenty times as many products.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glc_toolkit.components.backbones.vqgan import ResBlock, residual_head


class CompactNet(nn.Module):
    """(B, 3, h, w) in [0, 1], and features (B, inputs, h / 2, w / 2) of it -> (B, 3, 4h, 4w), about [0, 1].

    Args:
        inputs: width of the features.
        wide: width at an eighth of each side.
        features: width at a quarter.
        narrow: width at a half.
        blocks: residual blocks at an eighth, at a quarter and at a half.
    """

    def __init__(
        self,
        inputs: int = 96,
        wide: int = 160,
        features: int = 64,
        narrow: int = 32,
        blocks: tuple[int, int, int] = (4, 2, 1),
    ):
        super().__init__()
        self.conv_first = nn.Conv2d(12 + inputs, wide, 3, padding=1)
        self.coarse = nn.Sequential(*(ResBlock(wide, wide, "none") for _ in range(blocks[0])))
        self.conv_up = nn.Conv2d(wide, 4 * features, 1)
        self.fine = nn.Sequential(*(ResBlock(features, features, "none") for _ in range(blocks[1])))
        self.head = residual_head(features, narrow, blocks[2], 4, "none")

    @property
    def last_weight(self) -> Tensor:
        return cast(nn.Conv2d, self.head[-2]).weight

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        coarse = self.coarse(self.conv_first(torch.cat([F.pixel_unshuffle(x, 2), h], 1)))
        fine = self.fine(F.pixel_shuffle(self.conv_up(coarse), 2))
        # In float32, as bf16 would round the picture to 8 bits. It is faster, too.
        return self.head(fine) + F.interpolate(x.float(), scale_factor=4, mode="bilinear")
