import pytest
import torch
import torch.nn.functional as F

from glc_toolkit.components.backbones.rrdb import RRDBNet
from glc_toolkit.components.backbones.thumbnail import COEFFICIENTS, STEP, ThumbnailBackbone, block_transform
from glc_toolkit.components.transforms.scaled import ScaledTransform


@pytest.fixture
def backbone() -> ThumbnailBackbone:
    torch.manual_seed(0)
    return ThumbnailBackbone(**ThumbnailBackbone.example_args)


def test_block_transform_is_orthonormal_and_begins_with_the_mean():
    transform = block_transform()
    assert torch.allclose(transform @ transform.T, torch.eye(COEFFICIENTS), atol=1e-5)
    grey = torch.ones(COEFFICIENTS)
    assert torch.allclose(transform @ grey, F.one_hot(torch.tensor(0), COEFFICIENTS) * COEFFICIENTS**0.5, atol=1e-5)


@torch.no_grad()
def test_an_untrained_backbone_draws_the_thumbnail(backbone):
    x = torch.rand(2, 3, 64, 96)
    l = backbone.analysis(x)
    assert l.shape == (2, 64, 4, 6)
    assert not l[:, COEFFICIENTS:].any()
    thumbnail = backbone.thumbnail(x)
    assert thumbnail.shape == (2, 3, 16, 24)
    assert torch.allclose(backbone.draw(l), thumbnail, atol=1e-5)
    mean = (thumbnail - 0.5).unfold(2, 4, 4).unfold(3, 4, 4).sum((1, 4, 5)) / COEFFICIENTS**0.5 / STEP
    assert torch.allclose(l[:, 0], mean, atol=1e-4)
    assert torch.allclose(backbone.synthesis(l), backbone.generator(thumbnail), atol=1e-4)


def test_a_latent_narrower_than_a_block_is_refused():
    with pytest.raises(ValueError, match="48 coefficients"):
        ThumbnailBackbone(latent_channels=32)


@torch.no_grad()
def test_rrdbnet_is_the_published_network():
    """Against the operations of the paper, one after the other, on weights that let every block be seen."""
    torch.manual_seed(0)
    net = RRDBNet(blocks=2, features=8, growth=4)
    for weight in net.parameters():
        weight.normal_(0, 0.2)
    weights = net.state_dict()

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    x = torch.rand(1, 3, 5, 7)
    first = h = conv("conv_first", x)
    for i in range(2):
        block = h
        for j in (1, 2, 3):
            dense = [block]
            for k in (1, 2, 3, 4):
                dense.append(F.leaky_relu(conv(f"body.{i}.rdb{j}.conv{k}", torch.cat(dense, 1)), 0.2))
            block = block + 0.2 * conv(f"body.{i}.rdb{j}.conv5", torch.cat(dense, 1))
        h = h + 0.2 * block
    h = first + conv("conv_body", h)
    for name in ("conv_up1", "conv_up2"):
        h = F.leaky_relu(conv(name, F.interpolate(h, scale_factor=2, mode="nearest")), 0.2)
    expected = conv("conv_last", F.leaky_relu(conv("conv_hr", h), 0.2))
    assert torch.allclose(net(x), expected, rtol=1e-3, atol=1e-3)


def test_a_shorter_network_keeps_the_blocks_that_it_is_told_to():
    whole, short = RRDBNet(4, 8, 4), RRDBNet(2, 8, 4)
    short.load_pretrained(whole.state_dict(), blocks=[1, 3])
    for new, old in enumerate((1, 3)):
        assert torch.equal(short.body[new].rdb2.conv3.weight, whole.body[old].rdb2.conv3.weight)
    assert torch.equal(short.conv_hr.weight, whole.conv_hr.weight)
    with pytest.raises(ValueError, match="3 blocks are to be kept for the 2"):
        short.load_pretrained(whole.state_dict(), blocks=[0, 1, 3])


@torch.no_grad()
def test_scaled_transform_begins_as_gains_alone():
    transform = ScaledTransform(64, 64, levels=3, spread=4.0)
    l, quality = torch.randn(2, 64, 4, 4), torch.tensor([0.0, 2.0])
    y = transform.analysis(l, quality)
    assert torch.allclose(y, l * torch.tensor([0.5, 2.0]).view(2, 1, 1, 1))
    assert torch.allclose(transform.synthesis(y, quality), l, atol=1e-5)
    with pytest.raises(ValueError, match="it needs its 64 channels, not 48"):
        ScaledTransform(64, 48)
