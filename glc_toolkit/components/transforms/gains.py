"""One gain a channel and quality level, linear in between: the variable rate of GLC."""

import torch
from torch import Tensor, nn

from glc_toolkit.components.fixed_point import fixed


class Gain(nn.Module):
    """Multiplies each channel by its learned gain at ``quality``.

    Args:
        levels: quality levels, 0 the lowest rate.
        channels: of the tensor it is applied to.
        spread: the first and the last level start this factor apart, the middle at one.
    """

    fixed_point = True

    def __init__(self, levels: int, channels: int, spread: float = 1.0):
        super().__init__()
        start = spread ** torch.linspace(-0.5, 0.5, levels) if levels > 1 else torch.ones(1)
        self.weight = nn.Parameter(start.reshape(levels, 1, 1, 1).repeat(1, channels, 1, 1))

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        weight = self.weight
        quality = quality.to(weight.dtype)
        low = quality.floor().long().clamp(0, len(weight) - 1)
        high = (low + 1).clamp(max=len(weight) - 1)
        part = (quality - low).reshape(-1, 1, 1, 1).to(x.dtype)
        if weight.dtype == torch.float64:  # on the grid of the fixed-point networks, where every product is exact
            part, weight = fixed(part), fixed(weight)
        low, high = weight[low].to(x.dtype), weight[high].to(x.dtype)
        return x * (low + part * (high - low))
