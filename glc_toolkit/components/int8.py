"""Convolutions in 8-bit integers, for the backbone, on which no symbol depends.

Processors with VNNI multiply 8-bit integers twice as fast as bf16 numbers. Weights are rounded with a scale for each
output channel. Features are rounded by their range in the picture at hand, so that nothing has to be calibrated.
"""

from functools import cache
from itertools import product
from typing import TypeGuard, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from glc_toolkit.components.backbones.vqgan import ResBlock, Upsample
from glc_toolkit.components.layers import residual
from glc_toolkit.types import Block

AT_ONCE = 2**18  # numbers that stay in a processor's cache
SWISH_LEAST = -0.2785  # the least value of a swish
LEAST_CHANNELS = 64  # with fewer, rounding features costs more than is gained


class Int8Conv2d(nn.Module):
    """``conv`` with products in 8-bit integers. Where a gradient is needed, or on a GPU, it is ``conv`` itself.

    ``forward``: (B, C, H, W) in bf16, channels last, to the same. With ``swish`` it begins with a swish.
    """

    def __init__(self, conv: nn.Conv2d, swish: bool = False):
        super().__init__()
        self.conv, self.swish = conv, swish
        weight = conv.weight.detach().float()
        self.scales = (weight.abs().amax((1, 2, 3)) / 127).clamp(min=1e-12)
        self.weight = (weight / self.scales[:, None, None, None]).round().to(torch.int8)
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        self.bias = None if conv.bias is None else conv.bias.detach().float()
        self.packed: Tensor | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "packed": None}  # its layout cannot be copied

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad or x.device.type != "cpu":
            return self.conv(F.silu(x) if self.swish else x)
        pixels = x.permute(0, 2, 3, 1)  # as they lie in memory, with channels last
        if self.swish:
            low, high = SWISH_LEAST, F.silu(pixels.amax().float()).item()
        else:
            low, high = (float(bound) for bound in torch.aminmax(pixels))
        low, high = min(low, 0.0), max(high, 0.0)  # padding is with zeros
        step = max((high - low) / 254, 1e-12)
        zero = round(-low / step)
        q = quantized(pixels, step, zero, self.swish).permute(0, 3, 1, 2)
        sides = (list(self.conv.stride), list(self.conv.padding), list(self.conv.dilation), self.conv.groups)
        if self.packed is None:
            self.packed = torch.ops.onednn.qconv_prepack(self.weight, self.scales, step, zero, *sides, list(x.shape))
        weights = (self.packed, self.scales, self.zeros, self.bias)
        return torch.ops.onednn.qconv2d_pointwise(q, step, zero, *weights, *sides, 1.0, 0, x.dtype, "none", [], "")


def quantized(x: Tensor, step: float, zero: int, swish: bool = False) -> Tensor:
    """``x / step + zero``, rounded, in uint8. With ``swish``, of the swish of ``x``. In parts: large tensors in between
    cost more than the arithmetic."""
    q = torch.empty(x.shape, dtype=torch.uint8)
    half = torch.tensor(zero + 0.5)
    for part, whole in zip(x.reshape(-1).split(AT_ONCE), q.view(-1).split(AT_ONCE), strict=True):
        numbers = part.float()
        numbers = torch.add(half, F.silu(numbers, inplace=True) if swish else numbers, alpha=1 / step)
        whole.copy_(numbers.to(torch.int16))  # by way of int16: five times as fast
    return q


class Int8Upsample(nn.Module):
    """``upsample`` with products in 8-bit integers, as a 2x2 convolution that gives all four pixels of a cell."""

    def __init__(self, upsample: Upsample):
        super().__init__()
        weight, bias = upsample.weight().detach(), upsample.conv.bias
        inputs, outputs = weight.shape[:2]
        sizes, like = (inputs, 4 * outputs, 2), {"device": weight.device, "dtype": weight.dtype}
        conv = cast(nn.Conv2d, skip_init(nn.Conv2d, *sizes, padding=1, bias=bias is not None, **like))
        taps = torch.tensor([[3, 1], [2, 0]])  # of the transposed convolution: for the first pixel, and for the second
        weight = weight[:, :, taps[:, None, :, None], taps[None, :, None]]  # (inputs, outputs, 2, 2 pixels, 2, 2 taps)
        with torch.no_grad():
            conv.weight.copy_(weight.permute(2, 3, 1, 0, 4, 5).flatten(0, 2))
            if conv.bias is not None and bias is not None:
                conv.bias.copy_(bias.repeat(4))
        self.conv = Int8Conv2d(conv)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        y = self.conv(x).permute(0, 2, 3, 1).unflatten(-1, (2, 2, -1))
        cells = y.new_empty(batch, height, 2, width, 2, y.shape[-1])
        for i, j in product(range(2), repeat=2):
            cells[:, :, i, :, j] = y[:, i : i + height, j : j + width, i, j]
        return cells.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class Int8ResBlock(nn.Module):
    """``block`` with products in 8-bit integers where it is wide. Its swishes happen while features are rounded."""

    def __init__(self, block: ResBlock):
        super().__init__()
        self.norm1, self.norm2, self.conv_out = block.norm1, block.norm2, block.conv_out
        self.conv1, self.conv2 = (
            Int8Conv2d(conv, swish=True) if is_wide(conv) else nn.Sequential(nn.SiLU(), conv)
            for conv in (block.conv1, block.conv2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return residual(self.conv_out(x), self.conv2(self.norm2(self.conv1(self.norm1(x)))))


def to_int8(module: nn.Module) -> None:
    """Let residual blocks, upsampling, and what other blocks name in ``Block.int8``, compute in 8-bit integers."""
    for name, child in [*module.named_children()]:
        if isinstance(child, Upsample):
            setattr(module, name, Int8Upsample(child))
        elif type(child) is ResBlock:
            setattr(module, name, Int8ResBlock(child))
        elif isinstance(module, Block) and name in module.int8 and is_wide(child):
            setattr(module, name, Int8Conv2d(child))
        else:
            to_int8(child)


def is_wide(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    return isinstance(layer, nn.Conv2d) and min(layer.in_channels, layer.out_channels) >= LEAST_CHANNELS


def has_int8(device: torch.device) -> bool:
    """Whether ``device`` multiplies 8-bit integers faster than bf16 numbers, and this build of PyTorch knows how."""
    return device.type == "cpu" and torch.cpu._is_vnni_supported() and works()


@cache
def works() -> bool:
    """Whether products of bytes are right here: tried on random features and weights, and on the largest, whose sums
    saturate in older instructions."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # loading a model must not move the random numbers
        conv = nn.Conv2d(LEAST_CHANNELS, LEAST_CHANNELS, 3, padding=1, dtype=torch.bfloat16)
        x = torch.rand(1, LEAST_CHANNELS, 8, 8).bfloat16()
        try:
            error = (Int8Conv2d(conv)(x) - conv(x)).abs().max()
            conv.weight.fill_(0.125)
            largest = torch.ones_like(x)
            return bool(error < 0.05 and (Int8Conv2d(conv)(largest) / conv(largest) - 1).abs().max() < 0.02)
        except (AttributeError, RuntimeError):  # the operator is PyTorch's own, and may change
            return False
