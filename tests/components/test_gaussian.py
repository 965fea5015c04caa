"""What training makes of rounding: the bits that are written, and gradients that lead somewhere."""

import pytest
import torch

from glc_toolkit import registry
from glc_toolkit.conformance import tiny
from glc_toolkit.kit.templates.entropy_model import EntropyModel
from glc_toolkit.models.image import GLCImage

SCALES = torch.tensor([0.11, 0.3, 1.0, 5.0])


@pytest.fixture
def gaussian():
    return registry.build("entropy_model", {"name": "gaussian"}, channels=1).train()


def test_a_residual_has_the_bits_of_its_symbol(gaussian):
    residual = torch.randn(200, 4, generator=torch.Generator().manual_seed(0)) * 2
    assert torch.equal(gaussian.likelihood(residual, SCALES), gaussian.likelihood(residual.round(), SCALES))


def test_gradient_to_the_scales_is_that_of_the_bits(gaussian):
    symbols = torch.tensor([0.0, 1.0, -2.0, 3.0])
    scales = SCALES.clone().requires_grad_()
    gaussian.likelihood(symbols + 0.3, scales).log().sum().backward()

    def log_likelihood(change: float) -> torch.Tensor:
        return gaussian.likelihood(symbols, SCALES + change).double().log()

    expected = (log_likelihood(1e-3) - log_likelihood(-1e-3)) / 2e-3
    torch.testing.assert_close(scales.grad[1:], expected[1:].float(), rtol=1e-2, atol=1e-3)


def test_gradient_to_the_residual_is_the_next_symbols_bits(gaussian):
    residual = torch.tensor([0.1, -0.2, 1.2, 0.4, 0.6, -0.4, 1.6]).requires_grad_()
    scales = torch.ones(7)
    (-gaussian.likelihood(residual, scales).log()).sum().backward()

    def bits(symbol: float) -> torch.Tensor:
        return -gaussian.likelihood(torch.tensor([symbol]), torch.ones(1)).log()

    step, second = 2 * (bits(1.0) - bits(0.0)), 2 * (bits(2.0) - bits(1.0))
    torch.testing.assert_close(residual.grad, torch.cat([0 * step] * 3 + [step, step, -step, second]))


def test_means_learn_where_every_symbol_is_zero():
    model = GLCImage(tiny.MODEL).train()
    params = torch.zeros(1, 3 * tiny.MODEL["channels"], 4, 4, requires_grad=True)
    y = torch.full((1, tiny.MODEL["channels"], 4, 4), 0.01, requires_grad=True)
    y_hat, _, _ = model.estimate(y, params)
    first = model.context.masks(y_hat)[0].expand_as(y)  # its means are those of the parameters
    y_hat[first].sum().backward()
    assert (params.grad.chunk(3, 1)[2][first] > 0).all()
    assert torch.equal(y.grad[first], torch.ones_like(y.grad[first]))


def test_another_distribution_has_the_same_gradients(gaussian):
    """What a plugin overrides is ``mass`` alone: rounding stays ours."""
    laplacian = EntropyModel().train()
    residual = torch.tensor([0.3, 0.3, 0.3, 0.3])
    assert torch.equal(laplacian.likelihood(residual, SCALES), laplacian.likelihood(0 * residual, SCALES))
    assert laplacian.likelihood(residual, torch.tensor(0.2))[0] > 0.9
    assert laplacian.eval().update()
    torch.testing.assert_close(laplacian.mass(torch.arange(-127, 128), SCALES[:, None]).sum(1), torch.ones(4))
