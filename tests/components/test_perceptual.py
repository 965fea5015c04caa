import pytest
import torch

from glc_toolkit import io, registry
from glc_toolkit.components.losses.perceptual import jittered


@pytest.fixture
def picture(photo):
    return io.to_tensor(photo)[..., :128, :160]


def test_jitter_changes_both_pictures_alike_and_otherwise_each_time(picture):
    torch.manual_seed(0)
    seen = [jittered(picture, picture.clone(), 0.3) for _ in range(8)]
    assert all(torch.equal(x, x_hat) for x, x_hat in seen)
    heights = [x.shape[-2] / (picture.shape[-2] - 8) for x, _ in seen]
    assert len(set(heights)) > 4 and min(heights) > 0.69 and max(heights) < 1.11


def test_jitter_reaches_the_metric(picture):
    """The window of an unchanged picture would have one distance, whatever the seed."""
    loss = registry.build("loss", {"name": "dists", "args": {"jitter": 0.3}})
    out = {"x": picture, "x_hat": (0.7 * picture).requires_grad_()}
    torch.manual_seed(0)
    first, second = loss(out), loss(out)
    assert 0 < first != second
    assert torch.autograd.grad(first, out["x_hat"])[0].abs().sum() > 0


@pytest.mark.parametrize("jitter", [-0.1, 1.0])
def test_jitter_out_of_range_is_refused(jitter):
    with pytest.raises(ValueError, match="jitter"):
        registry.build("loss", {"name": "lpips", "args": {"jitter": jitter}})
