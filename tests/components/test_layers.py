import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glc_toolkit.components.contexts.spatial import FourPartContext
from glc_toolkit.components.layers import STEPS, FixedConv, conv1x1, conv3x3, depthwise, fixed, to_fixed_point

CONVOLUTIONS = {"1x1": conv1x1(96, 8), "3x3": conv3x3(96, 8), "depth-wise": depthwise(96)}


def integers(x: torch.Tensor) -> np.ndarray:
    return (x * STEPS).round().long().numpy()


@pytest.mark.parametrize("conv", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_fixed_convolution_is_integer_arithmetic(conv):
    """The same sums in int64, whose order cannot matter."""
    torch.manual_seed(0)
    to_fixed_point(conv)
    x = 1000 * torch.randn(1, 96, 5, 6, dtype=torch.float64)
    side, pad = conv.kernel_size[0], conv.padding[0]
    patches = F.unfold(fixed(x), side, padding=pad)  # (1, C * side * side, positions)
    x_int, w_int = integers(patches[0]), integers(conv.weight.detach().flatten(1))
    per_group = x_int.reshape(conv.groups, -1, x_int.shape[-1])
    sums = np.einsum("gow,gwp->gop", w_int.reshape(conv.groups, -1, w_int.shape[1]), per_group).reshape(len(w_int), -1)
    sums += integers(conv.bias.detach())[:, None] << 16
    with torch.no_grad():
        out = conv(x)
    assert np.array_equal((out * STEPS**2).long().numpy().reshape(sums.shape), sums)


def test_an_ordinary_convolution_is_not():
    """What the test above would find without the grid: float64 sums depend on their order."""
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


def test_weights_that_could_leave_the_exact_range_are_refused():
    conv = conv1x1(64, 4)
    with torch.no_grad():
        conv.weight[2] = 17.0  # 64 * 17 * 2**11 > 2**21
    with pytest.raises(ValueError, match=r"allow sums of 2\.23e\+06"):
        to_fixed_point(nn.Sequential(conv))


def test_layers_that_are_not_exact_are_refused():
    with pytest.raises(ValueError, match="1 is not exact in an entropy decoder"):
        to_fixed_point(nn.Sequential(conv1x1(4, 4), nn.Linear(4, 4)))


def test_training_is_an_ordinary_convolution():
    conv, x = conv3x3(4, 4), torch.rand(1, 4, 8, 8)
    assert isinstance(conv, FixedConv)
    assert torch.equal(conv(x), F.conv2d(x, conv.weight, conv.bias, padding=1))
