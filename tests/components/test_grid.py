import pytest
import torch
import torch.nn.functional as F

from glc_toolkit import io, registry


@pytest.fixture
def x(photo):
    """A real picture (1, 3, 353, 417): 22 x 26 cells."""
    return io.to_tensor(photo)[..., 100:453, 100:517]


def grid(x_hat, x):
    return float(registry.build("metric", {"name": "grid"})(x_hat, x))


def dotted(x):
    dots = torch.zeros_like(x)
    dots[..., 5::16, 9::16] = 0.1
    return x + dots


def test_is_nothing_for_the_picture_itself(x):
    assert grid(x, x) == 0


def test_sees_dots_at_one_place_of_all_cells_and_not_as_many_anywhere(x):
    dots, places = len(x[0, 0, 5::16]) * len(x[0, 0, 0, 9::16]), x[0, 0].numel()
    scattered = x.clone().reshape(1, 3, -1)
    scattered[..., torch.randperm(places, generator=torch.Generator().manual_seed(0))[:dots]] += 0.1
    assert grid(dotted(x), x) > 20 * grid(scattered.reshape(x.shape), x)


def test_minds_neither_noise_nor_blur(x):
    noise = 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert max(grid(x + noise, x), grid(F.avg_pool2d(x, 5, 1, 2), x)) < grid(dotted(x), x) / 8


def test_as_a_loss_brings_a_pattern_down(x):
    loss = registry.build("loss", {"name": "grid"})
    x_hat = dotted(x).requires_grad_()
    optimizer = torch.optim.Adam([x_hat], lr=5e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss({"x": x, "x_hat": x_hat}).backward()
        optimizer.step()
    assert grid(x_hat.detach(), x) < grid(dotted(x), x) / 4


def test_less_than_a_cell_has_no_value():
    assert torch.isnan(registry.build("metric", {"name": "grid"})(*torch.rand(2, 1, 3, 64, 16))).all()
