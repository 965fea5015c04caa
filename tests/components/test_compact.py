import pytest
import torch
import torch.nn.functional as F

from glc_toolkit.components.backbones.compact import CompactNet
from glc_toolkit.components.backbones.thumbnail import ThumbnailBackbone

SMALL = {"latent_channels": 64, "width": 16, "wide": 16, "generator": "compact", "blocks": [1, 1, 1]}


@torch.no_grad()
def test_it_draws_four_times_as_large():
    net = CompactNet(inputs=8, wide=16, features=12, narrow=8, blocks=(2, 1, 1))
    x = torch.rand(2, 3, 8, 12)
    assert net(x, torch.rand(2, 8, 4, 6)).shape == (2, 3, 32, 48)
    net.last_weight.zero_()
    net.head[-2].bias.zero_()  # pyright: ignore
    assert torch.equal(net(x, torch.rand(2, 8, 4, 6)), F.interpolate(x, scale_factor=4, mode="bilinear"))


def test_it_is_a_generator_of_the_backbone():
    torch.manual_seed(0)
    backbone = ThumbnailBackbone(**SMALL)
    x = torch.rand(1, 3, 64, 96)
    x_hat = backbone.synthesis(backbone.analysis(x))
    assert x_hat.shape == x.shape
    x_hat.sum().backward()
    assert backbone.last_weight.grad is not None
    drawn = [name for name, _ in backbone.named_parameters() if name.startswith("generator.")]
    assert drawn and all(p.grad is not None for n, p in backbone.named_parameters() if n in drawn)
    assert not any(name.startswith("stem.features") for name, _ in backbone.named_parameters())


@pytest.mark.parametrize(
    "arguments", [{"blocks": 6}, {"blocks": [1, 1]}, {"generator": "rrdb"}, {"generator": "other"}]
)
def test_blocks_are_those_of_the_generator(arguments):
    with pytest.raises(ValueError, match="'rrdb' with a number of blocks, or 'compact' with three"):
        ThumbnailBackbone(**{**SMALL, **arguments})
