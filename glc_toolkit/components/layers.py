"""Blocks shared by the latent codec: depth-wise convolution with 1x1 mixing, without normalisation.

Source: the transform and prior networks of GLC (Jia et al., CVPR 2024), themselves of the DCVC family.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv1x1(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1)


class Depthwise(nn.Conv2d):
    """3x3 on each channel. PyTorch runs one in float64 a channel at a time; nine shifted products are far quicker."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float64:
            return super().forward(x)
        height, width = x.shape[-2:]
        x = F.pad(x, (1, 1, 1, 1))
        taps = [
            self.weight[:, :, i, j, None] * x[..., i : i + height, j : j + width] for i in range(3) for j in range(3)
        ]
        return sum(taps, self.bias[:, None, None])


def depthwise(channels: int) -> nn.Conv2d:
    return Depthwise(channels, channels, 3, padding=1, groups=channels)


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
        return self.conv2(self.depth_conv(F.leaky_relu(self.conv1(x), 0.01))) + self.adaptor(x)


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
        a, b = self.conv(x).chunk(2, 1)
        return x + self.conv_out(a * F.leaky_relu(b, 0.1))


class DepthConvBlock(nn.Sequential):
    """:class:`DepthConv` then :class:`GatedFFN`."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(DepthConv(inputs, outputs), GatedFFN(outputs))


class GatedDepthConvBlock(nn.Sequential):
    """:class:`GatedDepthConv` then :class:`GatedFFN`."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(GatedDepthConv(inputs, outputs), GatedFFN(outputs))


class ResidualUpsample(nn.Module):
    """Twice the grid by sub-pixel convolution, with a separate sub-pixel skip."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.subpel_conv = conv1x1(inputs, 4 * outputs)
        self.conv = nn.Conv2d(outputs, outputs, 3, padding=1)
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
