"""Blocks shared by the latent codec: depth-wise convolution with 1x1 mixing, without normalisation.

Source: the transform and prior networks of GLC (Jia et al., CVPR 2024), themselves of the DCVC family.

What an entropy decoder computes has to be the same bits everywhere. In evaluation its convolutions run in float64 on
multiples of 2**-16, weights and inputs alike: every product is then a multiple of 2**-32, every sum is exact as long as
it stays below 2**21, and an exact sum does not depend on its order. :func:`to_fixed_point` puts weights on the grid and
proves the bound. Everything between convolutions is elementwise, where IEEE arithmetic leaves one result only.
"""

from decimal import Context, Decimal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 2.0**16  # of the grid, in one
LARGEST = 2.0**11  # that a convolution takes
LARGEST_SUM = 2.0**21  # 2**53 steps of 2**-32
ROUNDING = 1.5 * 2.0**36  # where float64 has steps of 2**-16
AT_ONCE = 2**18  # activations that stay in a processor's cache


def fixed(x: Tensor) -> Tensor:
    """The nearest multiple of 2**-16 (half to even) within +- 2**11."""
    if x.dtype != torch.float64:
        return torch.round(x * STEPS).clamp(-LARGEST * STEPS, LARGEST * STEPS) / STEPS
    return x.clamp(-LARGEST, LARGEST).add_(ROUNDING).sub_(ROUNDING)


@torch.no_grad()
def to_fixed_point(network: nn.Module) -> None:
    """Take ``network`` to float64, its weights to multiples of 2**-16.

    Raises ValueError if a sum could reach 2**21, or if there is a layer whose sums are not exact.
    """
    network.double()
    for name, module in network.named_modules():
        weights = list(module.parameters(recurse=False))
        if weights and not getattr(module, "fixed_point", False):
            raise ValueError(f"{name or type(module).__name__} is not exact in an entropy decoder: use FixedConv")
        for weight in weights:
            weight.copy_(torch.round(weight * STEPS) / STEPS)
        if isinstance(module, FixedConv):
            largest = (LARGEST * module.weight.abs().sum((1, 2, 3)) + module.bias.abs()).max()
            if not largest < LARGEST_SUM:
                raise ValueError(
                    f"{name or type(module).__name__}: its weights allow sums of {largest:.3g}, "
                    f"of which only those below {LARGEST_SUM:.3g} are exact"
                )


class FixedConv(nn.Conv2d):
    """A convolution that an entropy decoder may run: ordinary in float32, exact in float64."""

    fixed_point = True
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float64:
            return super().forward(x)
        x = fixed(x)
        return self.shifted_products(x) if self.groups == self.in_channels else super().forward(x)

    def shifted_products(self, x: Tensor) -> Tensor:
        """A 3x3 depth-wise convolution; PyTorch's own takes float64 one channel at a time."""
        height, width = x.shape[-2:]
        out = torch.zeros_like(x).add_(self.bias[:, None, None])
        x = F.pad(x, (1, 1, 1, 1))
        weight = self.weight.flatten(1).t().contiguous()[..., None, None]  # (9, C, 1, 1)
        for i in range(3):
            for j in range(3):
                out.addcmul_(weight[3 * i + j], x[..., i : i + height, j : j + width])
        return out


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
        self.conv = conv1x1(channels, 4 * channels)
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
        self.conv = conv1x1(channels, 4 * channels)
        self.conv_out = conv1x1(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv(x).chunk(2, 1)
        return residual(x, self.conv_out(F.leaky_relu(a, 0.1) + F.leaky_relu(b, 0.01)))


class DepthConvBlock(nn.Sequential):
    """:class:`DepthConv` then :class:`GatedFFN`."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(DepthConv(inputs, outputs), GatedFFN(outputs))


class SumDepthConvBlock(nn.Sequential):
    """:class:`DepthConv` then :class:`SumFFN`: the block of GLC-video."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(DepthConv(inputs, outputs), SumFFN(outputs))


class GatedDepthConvBlock(nn.Sequential):
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
