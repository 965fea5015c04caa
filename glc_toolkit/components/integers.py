"""The products of fixed point by 8-bit integers: the bits that float64 gives, several times faster on some processors.

An integer is taken apart into digits of base 256, each from -128 to 127: three for an activation, two for a weight.
Products of digits of one significance are summed in int32 by one matrix product, and the four sums put together. All
of it is exact, so that what a decoder computes does not depend on whether it takes this way.
"""

from functools import lru_cache

import torch
from torch import Tensor

STEPS = 2.0**16  # of the grid, in one
LARGEST_INPUT = 127.0  # three digits hold a little more
LARGEST_WEIGHT = 32639 / STEPS  # 127 * 256 + 127 steps
LARGEST_DIGITS = 2**16  # sum of a channel's weight digits, for 128 * (1 + 256) times as much to stay in int32


@lru_cache
def fast() -> bool:
    """Whether this processor has instructions for 8-bit products that keep every bit: older ones saturate at 16."""
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return False
    low = torch.full((32, 512), -128, dtype=torch.int8)
    high = torch.full((512, 64), 127, dtype=torch.int8)
    return bool(
        (torch._int_mm(low, low.t()) == 512 * 128 * 128).all() and (torch._int_mm(low, high) == -512 * 128 * 127).all()
    )


def weight_digits(weight: Tensor) -> Tensor | None:
    """``weight`` (O, I), float64 on the grid -> its digits (2 * I, O) int8, the low ones first; ``None`` if two are
    not enough, or a sum might leave int32."""
    steps = torch.round(weight * STEPS).long()
    low = steps.to(torch.int8).long()
    high = steps - low >> 8
    fits = weight.abs().max() <= LARGEST_WEIGHT and (low.abs() + high.abs()).sum(1).max() < LARGEST_DIGITS
    return torch.cat([low, high], 1).to(torch.int8).t().contiguous() if fits else None


def product(x: Tensor, digits: Tensor) -> Tensor:
    """``x`` (N, I) float64 within +- :data:`LARGEST_INPUT`, rounded to the grid, times a weight (O, I) by its
    :func:`weight_digits` -> (N, O) float64, exact."""
    rows, inputs = x.shape
    rest = torch.mul(x, STEPS).round_().int()
    taken = torch.empty(rows, 3 * inputs, dtype=torch.int8)  # the high digits first
    for a in (2, 1, 0):
        taken[:, a * inputs : (a + 1) * inputs] = rest  # keeps the low byte
        rest.add_(128).bitwise_right_shift_(8)

    def summed(first: int, last: int, weight: int, count: int) -> Tensor:
        """Columns of digits of x against as many rows of digits of the weight."""
        return torch._int_mm(
            taken[:, first * inputs : last * inputs], digits[weight * inputs : (weight + count) * inputs]
        )

    low = summed(2, 3, 0, 1).add_(summed(1, 3, 0, 2), alpha=256)
    high = summed(0, 2, 0, 2).add_(summed(0, 1, 1, 1), alpha=256)
    return high.double().mul_(2.0**16).add_(low.double()).mul_(2.0**-32)
