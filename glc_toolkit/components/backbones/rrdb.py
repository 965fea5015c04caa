"""RRDBNet, the generator of ESRGAN and Real-ESRGAN: a picture of a quarter of each side -> the picture.

Source: Wang et al., "ESRGAN" (ECCVW 2018) and "Real-ESRGAN" (ICCVW 2021). Names of parameters are those of BasicSR, so
that published weights load as they are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glc_toolkit.components.backbones.vqgan import Upsample
from glc_toolkit.types import Block


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class ResidualDenseBlock(Block):
    """Five 3x3 convolutions, each of which sees what all before it gave."""

    def __init__(self, features: int, growth: int):
        super().__init__()
        self.conv1 = conv3x3(features, growth)
        self.conv2 = conv3x3(features + growth, growth)
        self.conv3 = conv3x3(features + 2 * growth, growth)
        self.conv4 = conv3x3(features + 3 * growth, growth)
        self.conv5 = conv3x3(features + 4 * growth, features)

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, F.leaky_relu_(conv(seen), 0.2)], 1)
        return x + 0.2 * self.conv5(seen)


class RRDBBlock(Block):
    """Three dense blocks, and what they add to their input, scaled by a fifth."""

    def __init__(self, features: int, growth: int):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (ResidualDenseBlock(features, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class UpsampleConv(nn.Conv2d):
    """Nearest neighbour to twice the grid, then 3x3; computed as :class:`Upsample` is."""

    shared: Tensor

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, padding=1)
        self.register_buffer("shared", Upsample.taps(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return Upsample.apply_to(x, self.weight, self.bias, self.shared)


class RRDBNet(nn.Module):
    """(B, 3, h, w) in [0, 1] -> (B, 3, 4h, 4w), about [0, 1].

    Args:
        blocks: residual-in-residual dense blocks; 23 as published.
        features, growth: widths, 64 and 32 as published.
    """

    def __init__(self, blocks: int = 23, features: int = 64, growth: int = 32):
        super().__init__()
        self.conv_first = conv3x3(3, features)
        self.body = nn.Sequential(*(RRDBBlock(features, growth) for _ in range(blocks)))
        self.conv_body = conv3x3(features, features)
        self.conv_up1 = UpsampleConv(features, features)
        self.conv_up2 = UpsampleConv(features, features)
        self.conv_hr = conv3x3(features, features)
        self.conv_last = conv3x3(features, 3)

    @property
    def last_weight(self) -> Tensor:
        return self.conv_last.weight

    def load_pretrained(self, state: dict[str, Tensor], blocks: list[int] | None = None) -> None:
        """Begin with published weights, of whose blocks these are kept; all by default."""
        kept = range(len(self.body)) if blocks is None else blocks
        if len(kept) != len(self.body):
            raise ValueError(f"{len(kept)} blocks are to be kept for the {len(self.body)} of this network")
        place = {f"body.{old}.": f"body.{new}." for new, old in enumerate(kept)}
        state = {k: v.float() for k, v in state.items()}
        inside = {k: v for k, v in state.items() if k.startswith("body.")}
        own = {k: v for k, v in state.items() if k not in inside}
        for old, new in place.items():
            own |= {new + k[len(old) :]: v for k, v in inside.items() if k.startswith(old)}
        self.load_state_dict(own)

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """``added`` (B, features, h, w) joins what the first convolution sees."""
        first = self.conv_first(x)
        if added is not None:
            first = first + added
        h = first + self.conv_body(self.body(first))
        h = F.leaky_relu_(self.conv_up1(h), 0.2)
        h = F.leaky_relu_(self.conv_up2(h), 0.2)
        return self.conv_last(F.leaky_relu_(self.conv_hr(h), 0.2))
