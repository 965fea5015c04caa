"""The checks that the built-ins pass, a smoke test of training, and what only this hyper module promises."""

import pytest
import torch

from glc_toolkit import registry
from glc_toolkit.coder import Encoder
from glc_toolkit.conformance import smoke
from glc_toolkit.conformance.test_components import *  # noqa: F403

PLUGIN = "glc_fsq_hyper"
FSQ = {"name": "fsq", "args": {"levels": [8, 5, 3]}}


@pytest.fixture
def hyper():
    return registry.build("hyper", FSQ, channels=16)


def test_a_recipe_trains_with_it(tmp_path):
    model = smoke.train(tmp_path, model={"hyper": FSQ})
    assert model.config["hyper"] == FSQ
    x = torch.rand(1, 3, 60, 70)
    assert model.decompress(*model.compress(x).values())["x_hat"].shape == x.shape


def test_every_level_is_reached_and_no_other(hyper):
    hyper.narrow.weight.data.mul_(100)
    indices = hyper(torch.randn(4, 16, 64, 64))["indices"]
    assert [channel.unique().tolist() for channel in indices.unbind(1)] == [[*range(n)] for n in (8, 5, 3)]


def test_rate_and_distortion_both_teach(hyper):
    out = hyper(torch.randn(2, 16, 16, 16))
    (out["params"].square().mean() - out["likelihoods"]["z"].log2().mean()).backward()
    for parameter in (hyper.narrow.weight, hyper.h_a[-1].weight, hyper.entropy_model.logits):
        assert parameter.grad.abs().sum() > 0


def test_the_bytes_are_those_of_the_estimate(hyper):
    torch.nn.init.normal_(hyper.entropy_model.logits, std=0.05)
    hyper.eval().update()
    y = torch.randn(1, 16, 256, 256)
    encoder = Encoder()
    with torch.no_grad():
        bits = -hyper(y)["likelihoods"]["z"].log2().sum().item()
        hyper.encode(encoder, y)
    assert 8 * len(encoder.bytes()) == pytest.approx(bits, rel=0.001, abs=64)
