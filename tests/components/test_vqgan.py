import pytest
import torch
import torch.nn.functional as F

from glc_toolkit.components.backbones.vqgan import Upsample


@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_upsampling_is_nearest_neighbour_and_a_convolution(size):
    upsample = Upsample(4)
    x = torch.randn(2, 4, *size)
    expected = upsample.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(upsample(x), expected)
