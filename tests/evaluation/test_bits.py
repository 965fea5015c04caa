import numpy as np
import pytest
import torch

from glc_toolkit import api, io
from glc_toolkit.conformance import tiny
from glc_toolkit.evaluation.bits import bit_map, spread
from glc_toolkit.models.image import GLCImage


@pytest.mark.parametrize("quality", [None, 0, 1.7, 3])
def test_the_map_adds_up_to_the_file(model, photo, quality):
    picture = photo.crop((0, 0, 200, 130))
    bits = bit_map(model, io.to_tensor(picture), quality)
    size = len(api.encode(picture, model=model, quality=quality))
    assert bits.shape == (12, 16)  # of 256 x 192 pixels, padding included
    assert abs(float(bits.sum()) / 8 - size) <= 0.01 * size + 16


def test_bits_lie_where_their_symbols_are(model, photo):
    """By NumPy, from what a training loop would see."""
    x = io.to_tensor(photo.crop((0, 0, 256, 192)))
    with torch.no_grad():
        likelihoods = {k: p[0].double().numpy() for k, p in model(x, 1.0)["likelihoods"].items()}
    z = np.kron(-np.log2(likelihoods["z"]).sum(0), np.full((4, 4), 1 / 16))
    expected = -np.log2(likelihoods["y"]).sum(0) + z
    assert np.allclose(bit_map(model, x, 1).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("hyper", ["factorized", "spatial_categorical"])
def test_any_hyper_module_has_a_map(hyper):
    model = GLCImage(tiny.model_config(hyper={"name": hyper})).eval()
    model.update()
    x = torch.rand(1, 3, 70, 33, generator=torch.Generator().manual_seed(0))
    size = len(api.encode(x, model=model, quality=1))
    assert abs(float(bit_map(model, x, 1).sum()) / 8 - size) <= 0.01 * size + 16


def test_spreading_keeps_the_sum():
    bits = torch.tensor([[4.0, 8.0]])
    assert spread(bits, 2, 2).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]
