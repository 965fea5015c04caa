import pytest
import torch

import glc_toolkit as glc
from glc_toolkit import api, io, zoo
from glc_toolkit.components.metrics.lpips import lpips_alex
from glc_toolkit.refine import Distortion, Found, differentiable, refine


@pytest.fixture(scope="module")
def crop(photo):
    return io.to_tensor(photo)[..., :192, :256]


def test_a_better_picture_in_no_more_bytes(crop, model):
    data = [glc.encode(crop, model=model, quality=2, effort=effort) for effort in (0, 6)]
    assert api.info(data[0])["quality"] == api.info(data[1])["quality"]
    assert len(data[1]) <= 1.05 * len(data[0])
    metric = lpips_alex()
    before, after = (float(metric(io.to_tensor(glc.decode(d)), crop)) for d in data)
    assert after < 0.97 * before


def test_the_same_bytes_again_and_the_model_as_it_was(crop, model):
    fingerprint = model.fingerprint()
    crop = crop[..., :64, :64]
    first, second = (glc.encode(crop, model=model, effort=3) for _ in range(2))
    assert first == second != glc.encode(crop, model=model)
    assert model.fingerprint() == fingerprint and not model.training


def test_budgets_are_kept(crop, model):
    size = len(glc.encode(crop, model=model, quality=1))
    shares = []
    data = glc.encode(crop, model=model, max_bytes=size, effort=4, progress=shares.append)
    assert len(data) <= size
    assert shares == [0.25, 0.5, 0.75, 1.0]
    with pytest.raises(ValueError, match="over the budget of 20"):
        glc.encode(crop, model=model, max_bytes=20, effort=4)


def test_impossible_efforts_are_refused(crop, model):
    with pytest.raises(ValueError, match="effort has to be a number of steps, not -1"):
        glc.encode(crop, model=model, effort=-1)


@pytest.mark.parametrize("precision", ["bf16", "auto"])
def test_models_for_coding_alone(crop, precision):
    model = zoo.load("glc-image-0.03", precision=precision)
    data = glc.encode(crop[..., :64, :64], model=model, effort=2)
    assert glc.decode(data).size == (64, 64)


@pytest.mark.parametrize("size", [(1, 1), (40, 130)])
def test_any_size(model, size):
    l = refine(model, torch.rand(1, 3, *size), 1.0, 1)
    assert l.shape == model.analysis(torch.rand(1, 3, *size)).shape
    assert torch.isfinite(l).all()


def test_windows_cover_a_large_picture(model):
    """The gradient reaches every latent, those at the seams of the windows, too."""
    network, x = differentiable(model), torch.zeros(1, 3, 64, 80 * 16)
    slope = Distortion(network, x)(torch.randn(1, model.backbone.latent_channels, 4, 80))
    assert (slope.abs().sum((0, 1, 2)) > 0).all()


def test_effort_on_an_intra_frame_lasts(crop):
    model = zoo.load("glc-video-0.01")
    frames = [crop[..., 64:192, 64:192]] * 4
    data = [b"".join(glc.encode_video(frames, model=model, quality=1, effort=effort)) for effort in (0, 6)]
    assert len(data[1]) <= 1.05 * len(data[0])
    metric = lpips_alex()
    before, after = (float(metric(io.to_tensor([*glc.decode(d)][-1]), frames[-1])) for d in data)
    assert after < 0.97 * before
    with pytest.raises(ValueError, match="effort has to be a number of steps, not -1"):
        next(glc.encode_video(frames, model=model, effort=-1))


def test_what_was_found_goes_where_nothing_moves():
    l, offset = torch.randn(1, 4, 6, 8), torch.randn(1, 4, 6, 8)
    found = Found(l, offset)
    assert torch.equal(found.added_to(l), l + offset)
    moved = torch.cat([l[..., :4], torch.randn(1, 4, 6, 4) + 4], 3)
    later = found.added_to(moved)
    assert torch.equal(later[..., :4], (l + offset)[..., :4])
    assert torch.allclose(later[..., 4:], moved[..., 4:], atol=1e-3)
    flat = torch.zeros(1, 4, 1, 1)
    assert torch.isfinite(Found(flat, flat + 1).added_to(flat)).all()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_effort_where_gradients_are_off(crop, model, mode):
    crop = crop[..., :64, :64]
    expected = glc.encode(crop, model=model, effort=2)
    with mode():
        assert glc.encode(crop.clone(), model=model, effort=2) == expected
