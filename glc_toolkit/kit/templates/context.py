"""Two passes: the even columns, then the odd ones, each of which lies between two that are known."""

import torch
from torch import Tensor, nn

from glc_toolkit.components.layers import DepthConvBlock, conv1x1


class Context(nn.Module):
    """Coding order by columns. All layers run in the entropy decoder, so they are those of ``components.layers``.

    Args:
        channels: of ``y``.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.reduction = conv1x1(3 * channels, channels)
        self.prior = DepthConvBlock(2 * channels, 2 * channels)

    def masks(self, y: Tensor) -> list[Tensor]:
        even = (torch.arange(y.shape[-1], device=y.device) % 2 == 0).expand(1, *y.shape[1:])
        return [even, ~even]

    def reduce(self, params: Tensor) -> Tensor:
        return self.reduction(params)

    def forward(self, k: int, y_hat: Tensor, reduced: Tensor) -> tuple[Tensor, Tensor]:
        """``scales, means`` of the second pass; the hyper module gives those of the first."""
        return self.prior(torch.cat([y_hat, reduced], 1)).chunk(2, 1)
