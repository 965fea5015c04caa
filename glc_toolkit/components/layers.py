"""Blocks shared by the latent codec: depth-wise convolution with 1x1 mixing, without normalisation.

Source: the transform and prior networks of GLC (Jia et al., CVPR 2024), themselves of the DCVC family. An entropy
decoder runs them in fixed point (:mod:`glc_toolkit.components.fixed_point`), so every convolution is a ``FixedConv``.
"""

from decimal import Context, Decimal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glc_toolkit.components.fixed_point import AT_ONCE, STEPS, FixedConv, fixed
from glc_toolkit.types import Block


def residual(x: Tensor, h: Tensor) -> Tensor:
    """``x + h``, written over ``h`` where neither a gradient nor a wider type (of autocast) needs more."""
    return x + h if torch.is_grad_enabled() or h.dtype != x.dtype else h.add_(x)


def conv1x1(inputs: int, outputs: int) -> nn.Conv2d:
    return FixedConv(inputs, outputs, 1)


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    return FixedConv(inputs, outputs, 3, padding=1)


def depthwise(channels: int) -> nn.Conv2d:
    return FixedConv(channels, channels, 3, padding=1, groups=channels)


@torch.no_grad()
def small(conv: nn.Conv2d) -> nn.Conv2d:
    """Start the last layer of a product branch small: products of products run away from large inputs otherwise."""
    conv.weight.mul_(0.1)
    return conv


class DepthConv(nn.Module):
    """Residual: 1x1, leaky ReLU, depth-wise 3x3, 1x1."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = conv1x1(inputs, inputs)
        self.depth_conv = depthwise(inputs)
        self.conv2 = conv1x1(inputs, outputs)
        self.adaptor = conv1x1(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return residual(self.adaptor(x), self.conv2(self.depth_conv(F.leaky_relu_(self.conv1(x), 0.01))))


class GatedDepthConv(nn.Module):
    """Residual: a depth-wise branch multiplied by a plain 1x1 branch, mixed by a 1x1."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = conv1x1(inputs, outputs)
        self.depth_conv = depthwise(outputs)
        self.conv2 = conv1x1(inputs, outputs)
        self.out_conv = small(conv1x1(outputs, outputs))
        self.adaptor = conv1x1(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        gated = self.depth_conv(F.leaky_relu(self.conv1(x), 0.01)) * self.conv2(x)
        return self.out_conv(gated) + self.adaptor(x)


class GatedFFN(nn.Module):
    """Residual: 1x1 to four times the width, one half gating the other, 1x1 back."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = FixedConv(channels, 4 * channels, 1, output=torch.float32)  # wide: half the memory
        self.conv_out = small(conv1x1(2 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float64:
            return self.mixed(x)
        rows = max(1, AT_ONCE // (self.conv.out_channels * x.shape[3]))
        return torch.cat([self.mixed(part) for part in x.split(rows, 2)], 2)

    def mixed(self, x: Tensor) -> Tensor:
        a, b = self.conv(x).chunk(2, 1)
        return residual(x, self.conv_out(a * F.leaky_relu(b, 0.1)))


class SumFFN(nn.Module):
    """Residual: 1x1 to four times the width, two slopes of one ReLU added, 1x1 back."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = FixedConv(channels, 4 * channels, 1, output=torch.float32)  # wide: half the memory
        self.conv_out = conv1x1(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv(x).chunk(2, 1)
        return residual(x, self.conv_out(F.leaky_relu(a, 0.1) + F.leaky_relu(b, 0.01)))


class DepthConvBlock(Block, nn.Sequential):
    """:class:`DepthConv` then :class:`GatedFFN`."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(DepthConv(inputs, outputs), GatedFFN(outputs))


class SumDepthConvBlock(Block, nn.Sequential):
    """:class:`DepthConv` then :class:`SumFFN`: the block of GLC-video."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(DepthConv(inputs, outputs), SumFFN(outputs))


class GatedDepthConvBlock(Block, nn.Sequential):
    """:class:`GatedDepthConv` then :class:`GatedFFN`."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(GatedDepthConv(inputs, outputs), GatedFFN(outputs))


class FixedSigmoid(nn.Module):
    """A sigmoid that an entropy decoder may run: ordinary in float32; in float64 from a table of multiples of 2**-16,
    linear in between (within 3e-5), because no two mathematical libraries need agree on the last bit of one."""

    per_unit, reach = 32, 12  # steps of the table in one; beyond +- reach it is flat

    def __init__(self):
        super().__init__()
        points = range(-self.reach * self.per_unit, self.reach * self.per_unit + 2)
        digits = Context(prec=30)  # correctly rounded on any machine, as floats are not
        values = [round(STEPS / (1 + float((Decimal(-i) / self.per_unit).exp(digits)))) for i in points]
        self.register_buffer("table", torch.tensor(values, dtype=torch.float64) / STEPS, persistent=False)

    def _apply(self, fn, recurse=True):  # moves with the module, but stays float64
        table = super()._apply(fn, recurse).table
        self.table = table.double()
        return self

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float64:
            return torch.sigmoid(x)
        at = (fixed(x).clamp(-self.reach, self.reach) + self.reach) * self.per_unit
        low = at.floor()
        left, right = self.table[low.long()], self.table[low.long() + 1]
        return fixed(left + (right - left) * (at - low))


class ResidualUpsample(nn.Module):
    """Twice the grid by sub-pixel convolution, with a separate sub-pixel skip."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.subpel_conv = conv1x1(inputs, 4 * outputs)
        self.conv = conv3x3(outputs, outputs)
        self.upsample = conv1x1(inputs, 4 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        main = F.leaky_relu(F.pixel_shuffle(self.subpel_conv(x), 2), 0.01)
        return F.leaky_relu(self.conv(main), 0.1) + F.pixel_shuffle(self.upsample(x), 2)


class RoundSTE(torch.autograd.Function):
    """Round half to even, with the gradient of the identity."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad


round_ste = RoundSTE.apply
