import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glc_toolkit.components import fixed_point
from glc_toolkit.components.contexts.spatial import FourPartContext
from glc_toolkit.components.fixed_point import LARGEST, FixedConv, fixed, to_fixed_point
from glc_toolkit.components.layers import conv1x1, conv3x3, depthwise
from tests.reference_decoder import Network

CONVOLUTIONS = {
    "1x1": lambda: conv1x1(96, 8),
    "3x3": lambda: conv3x3(96, 8),
    "depth-wise": lambda: depthwise(96),
    "more inputs than 31 bits hold": lambda: conv1x1(1100, 3),
}
every_convolution = pytest.mark.parametrize("conv", CONVOLUTIONS.values(), ids=CONVOLUTIONS)


def ready(conv: FixedConv) -> FixedConv:
    to_fixed_point(conv)
    return conv.requires_grad_(False)


def both_ways(conv: FixedConv, x: torch.Tensor) -> torch.Tensor:
    """The output, the same with the processor's integers and without, whatever surrounds it."""
    out = conv(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixed_point, "exact_way", lambda *_: fixed_point.in_float32)
        assert torch.equal(conv(x), out)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(conv(x), out)
    return out


@every_convolution
@pytest.mark.parametrize("spread", [1e-6, 1.0, 1000.0])
def test_a_fixed_convolution_is_integer_arithmetic(conv, spread):
    """The same in int64, whose order cannot matter."""
    torch.manual_seed(0)
    conv = conv()
    weights = {f"it.{name}": value.detach().double().numpy() for name, value in conv.named_parameters()}
    x = spread * torch.randn(1, conv.in_channels, 5, 6, dtype=torch.float64)
    assert torch.equal(both_ways(ready(conv), x)[0], torch.from_numpy(Network(weights).conv("it", x[0].numpy())))


@every_convolution
def test_it_is_near_an_ordinary_one(conv):
    torch.manual_seed(0)
    conv = conv().double().requires_grad_(False)
    x = torch.randn(2, conv.in_channels, 5, 6, dtype=torch.float64)
    expected = F.conv2d(x, conv.weight, conv.bias, padding=conv.padding, groups=conv.groups)
    assert (ready(conv)(x) - expected).square().mean() < 1e-7 * expected.square().mean()


@pytest.mark.parametrize("inputs", [1, 512, 513, 3000])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sums_do_not_overflow(inputs, sign):
    conv = conv1x1(inputs, 2)
    nn.init.constant_(conv.weight, 1.984)  # just below the next power of two, headroom and all
    x = torch.full((1, inputs, 1, 3), sign * LARGEST, dtype=torch.float64)
    x[..., 1], x[..., 2] = sign * 1e30, sign * 1.984
    out = both_ways(ready(conv), x) - conv.bias.reshape(1, 2, 1, 1)
    most = 32514 / 8  # where integers end
    expected = sign * inputs * 1.984 * torch.tensor([LARGEST, most, 1.984], dtype=torch.float64)
    torch.testing.assert_close(out, expected.expand_as(out), rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (2, 2)])
def test_a_depthwise_one_of_few_places(size):
    torch.manual_seed(0)
    conv, x = ready(depthwise(4)), fixed(torch.randn(1, 4, *size).double())
    assert torch.equal(conv(x), F.conv2d(x, fixed(conv.weight), fixed(conv.bias), padding=1, groups=4))


@pytest.mark.parametrize("inputs", [1, 2, 3, 65])
@pytest.mark.parametrize("rows", [1, 2, 33])
def test_products_of_few_bytes(rows, inputs):
    torch.manual_seed(0)
    both = torch.randint(-128, 128, (rows, 2, inputs), dtype=torch.int8)
    for outputs in (1, 2, 19):
        columns = torch.randint(-128, 128, (outputs, inputs), dtype=torch.int8).t()
        for a in (both[:, 0], both[:, 1].contiguous()):
            expected = (a.long()[:, :, None] * columns.long()).sum(1).int()
            assert torch.equal(fixed_point.products_of_bytes(a, columns), expected)


def test_an_ordinary_convolution_depends_on_the_order_of_its_sum():
    """What the tests above would find without integers."""
    torch.manual_seed(0)
    conv, x = nn.Conv2d(96, 8, 1).double(), 1000 * torch.randn(1, 96, 5, 6, dtype=torch.float64)
    backwards = nn.Conv2d(96, 8, 1).double()
    backwards.load_state_dict({"weight": conv.weight.flip(1), "bias": conv.bias})
    assert not torch.equal(conv(x), backwards(x.flip(1)))


def test_a_network_gives_the_same_bits_in_any_layout_and_order():
    torch.manual_seed(0)
    context = FourPartContext(16, depth=2)
    to_fixed_point(context)
    y_hat, reduced = fixed(5 * torch.randn(2, 16, 9, 7).double()), fixed(torch.randn(2, 16, 9, 7).double())
    with torch.no_grad():
        expected = context(1, y_hat, reduced)
        for change in (
            lambda t: t.contiguous(memory_format=torch.channels_last),
            lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
        ):
            for got, wanted in zip(context(1, change(y_hat), change(reduced)), expected, strict=True):
                assert torch.equal(got, wanted)
        with torch.backends.mkldnn.flags(enabled=False):
            assert torch.equal(context(1, y_hat, reduced)[0], expected[0])
        alone = [context(1, y_hat[i : i + 1], reduced[i : i + 1])[0] for i in range(2)]
        assert torch.equal(torch.cat(alone), expected[0])


@pytest.mark.parametrize(
    "conv, weight, message",
    [
        (depthwise(4), 300.0, r"allow sums of 5\.53e\+06"),
        (conv1x1(4, 4), 3000.0, "its weights reach 3e"),
        (conv1x1(4, 4), float("nan"), "its weights reach nan"),
    ],
)
def test_what_could_leave_the_exact_range_is_refused(conv, weight, message):
    nn.init.constant_(conv.weight, weight)
    with pytest.raises(ValueError, match=message):
        to_fixed_point(nn.Sequential(conv))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "a padding of half of it"),
        ({"padding": 1, "stride": 2}, "a stride and a dilation of one"),
        ({"padding": "same"}, "a padding of half of it"),
        ({"padding": 1, "padding_mode": "reflect"}, "pads with zeros"),
        ({"padding": 1, "bias": False}, "has a bias"),
        ({"padding": 1, "groups": 2}, "is depth-wise or has one group"),
    ],
)
def test_what_has_no_exact_form_is_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        FixedConv(4, 4, 3, **arguments)


def test_layers_that_are_not_exact_are_refused():
    with pytest.raises(ValueError, match=r"1 \(Linear\) is not exact in an entropy decoder"):
        to_fixed_point(nn.Sequential(conv1x1(4, 4), nn.Linear(4, 4)))


def test_training_is_an_ordinary_convolution():
    conv, x = conv3x3(4, 4), torch.rand(1, 4, 8, 8)
    assert isinstance(conv, FixedConv)
    assert torch.equal(conv(x), F.conv2d(x, conv.weight, conv.bias, padding=1))
