import pytest
import torch

from glc_toolkit.components import integers
from glc_toolkit.components.layers import GatedFFN, conv1x1, to_fixed_point

needs_integers = pytest.mark.skipif(not integers.fast(), reason="this processor has no exact 8-bit products")


def exact(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The same product in int64, in steps of 2**-32."""
    steps = [torch.round(t * integers.STEPS).long() for t in (x, weight)]
    return steps[0] @ steps[1].t()


@needs_integers
@pytest.mark.parametrize("rows, inputs, outputs", [(1, 1, 1), (3, 5, 7), (33, 96, 40), (64, 512, 16)])
def test_products_are_those_of_integers(rows, inputs, outputs):
    torch.manual_seed(0)
    x = (2 * torch.rand(rows, inputs, dtype=torch.float64) - 1) * integers.LARGEST_INPUT
    weight = torch.round((torch.rand(outputs, inputs, dtype=torch.float64) - 0.5) * 0.2 * integers.STEPS)
    x[0], weight[0] = integers.LARGEST_INPUT, -1
    weight /= integers.STEPS
    out = integers.product(x, integers.weight_digits(weight))
    assert torch.equal((out * integers.STEPS**2).long(), exact(x, weight))


@needs_integers
@pytest.mark.parametrize("value", [-32639, -32512, -129, -128, 127, 128, 32639])
def test_digits_at_the_ends_of_their_range(value):
    weight = torch.full((8, 4), value / integers.STEPS, dtype=torch.float64)
    for x in (integers.LARGEST_INPUT, -integers.LARGEST_INPUT, 128 / integers.STEPS, -129 / integers.STEPS):
        x = torch.full((2, 4), x, dtype=torch.float64)
        out = integers.product(x, integers.weight_digits(weight))
        assert torch.equal((out * integers.STEPS**2).long(), exact(x, weight))


def test_weights_that_need_more_are_left_to_float64():
    assert integers.weight_digits(torch.full((1, 1), 0.5, dtype=torch.float64)) is None
    assert integers.weight_digits(torch.full((1, 600), 127 / integers.STEPS, dtype=torch.float64)) is None


@needs_integers
def test_a_network_gives_the_same_bits_either_way():
    torch.manual_seed(0)
    network = GatedFFN(24)
    to_fixed_point(network)
    assert network.conv.digits is not None
    x = 20 * torch.randn(1, 24, 9, 7, dtype=torch.float64)
    with torch.no_grad():
        ours = network(x)
        network.conv.digits = network.conv_out.digits = None
        assert torch.equal(network(x), ours)


@needs_integers
@pytest.mark.parametrize("large", [128.0, 3000.0, float("nan")])
def test_inputs_that_are_too_large_take_the_other_way(large):
    conv = conv1x1(4, 4)
    to_fixed_point(conv)
    x = torch.zeros(1, 4, 2, 2, dtype=torch.float64)
    x[0, 0, 0, 0] = large
    with torch.no_grad():
        ours = conv(x)
        conv.digits = None
        torch.testing.assert_close(ours, conv(x), rtol=0, atol=0, equal_nan=True)
