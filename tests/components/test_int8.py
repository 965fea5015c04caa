import copy

import pytest
import torch
from torch import nn

from glc_toolkit.components.backbones.vqgan import ResBlock, Upsample
from glc_toolkit.components.int8 import Int8Conv2d, Int8Upsample, has_int8, quantized, to_int8, works

needs_int8 = pytest.mark.skipif(not has_int8(torch.device("cpu")), reason="this processor has no VNNI")


def conv(**args) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(64, 80, 3, **args).bfloat16().to(memory_format=torch.channels_last)


def features(*sides: int) -> torch.Tensor:
    x = nn.functional.silu(3 * torch.randn(1, 64, *sides)).bfloat16()
    return x.to(memory_format=torch.channels_last)


@needs_int8
@pytest.mark.parametrize("args", [{"padding": 1}, {"stride": 2}, {"padding": 1, "bias": False}])
@torch.no_grad()
def test_as_good_as_255_steps_are(args):
    plain = conv(**args)
    rounded = Int8Conv2d(plain)
    for sides in ((12, 20), (7, 33), (1, 1) if "stride" not in args else (3, 3)):  # weights are packed once
        x = features(*sides)
        expected = plain.float()(x.float())
        plain.bfloat16()
        y = rounded(x)
        assert y.dtype == torch.bfloat16 and y.shape == expected.shape
        assert (y - expected).std() < 0.01 * expected.std() + 1e-6


@pytest.mark.parametrize("count", [5, 2**18, 2**18 + 1])
def test_parts_are_quantized_as_the_whole(count):
    x = torch.linspace(-1.0, 3.0, count).bfloat16()
    expected = (x.float() * (1 / 0.02) + 50.5).to(torch.int16)
    got = quantized(x.reshape(1, 1, 1, -1), 0.02, 50).flatten().int()
    assert got.min() == 0 and got.max() == 200 and (got - expected).abs().max() <= 1
    assert (got != expected).float().mean() < 0.01  # a product and a sum may be rounded once or twice


@needs_int8
@torch.no_grad()
def test_features_that_are_all_the_same():
    plain = conv(padding=1)
    for value in (0.0, 1.0, -2.0):
        x = torch.full((1, 64, 5, 5), value).bfloat16()
        torch.testing.assert_close(Int8Conv2d(plain)(x), plain(x), atol=0.03, rtol=0.02)


@needs_int8
def test_gradients_are_those_of_the_convolution():
    plain = conv(padding=1)
    x = features(6, 6).requires_grad_()
    assert torch.equal(Int8Conv2d(plain)(x), plain(x))


@needs_int8
@torch.no_grad()
def test_a_copy_works_alone():
    first, x = Int8Conv2d(conv(padding=1)), features(8, 8)
    expected = first(x)
    assert torch.equal(copy.deepcopy(first)(x), expected)


@needs_int8
@torch.no_grad()
def test_upsampling():
    torch.manual_seed(0)
    plain, x = Upsample(64), torch.randn(2, 64, 5, 7)
    expected = plain(x)
    half = Int8Upsample(plain.bfloat16())
    y = half(x.bfloat16().to(memory_format=torch.channels_last))
    assert y.shape == expected.shape and y.is_contiguous(memory_format=torch.channels_last)
    assert (y - expected).std() < 0.015 * expected.std()


@needs_int8
def test_narrow_layers_stay_as_they_are():
    blocks = nn.Sequential(ResBlock(64, 96, "none"), ResBlock(32, 64, "none"))
    for _ in range(2):  # the second time there is nothing left to do
        to_int8(blocks)
    kinds = [type(layer) for block in blocks for layer in (block.conv1, block.conv2)]
    assert kinds == [Int8Conv2d, Int8Conv2d, nn.Sequential, Int8Conv2d]


@needs_int8
@pytest.mark.parametrize("norm", ["none", "group"])
@torch.no_grad()
def test_a_residual_block(norm):
    """And one of a plugin, whose own ``forward`` stays."""

    class Louder(ResBlock):
        def forward(self, x):
            return 2 * super().forward(x)

    torch.manual_seed(0)
    blocks = nn.Sequential(ResBlock(64, 96, norm), Louder(96, 96, norm))
    x = torch.randn(1, 64, 9, 7)
    expected = blocks(x)
    to_int8(blocks.bfloat16().to(memory_format=torch.channels_last))
    y = blocks(x.bfloat16().to(memory_format=torch.channels_last))
    assert (y - expected).std() < 0.02 * expected.std()
    assert isinstance(blocks[1], Louder) and isinstance(blocks[1].conv1, Int8Conv2d)


@needs_int8
@torch.no_grad()
def test_a_swish_before_the_products():
    plain = conv(padding=1)
    for x in (features(12, 20), features(3, 3) - 5, torch.zeros(1, 64, 4, 4).bfloat16()):
        x = x.to(memory_format=torch.channels_last)
        torch.testing.assert_close(Int8Conv2d(plain, swish=True)(x), plain(nn.functional.silu(x)), atol=0.05, rtol=0.02)


@needs_int8
def test_random_numbers_are_left_alone():
    upsample = Upsample(64)
    expected = torch.get_rng_state()
    works.cache_clear()
    assert works()
    Int8Upsample(upsample)
    assert torch.equal(torch.get_rng_state(), expected)


def test_only_processors_have_it():
    assert not has_int8(torch.device("meta"))
