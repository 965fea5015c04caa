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
    data = [glc.encode(crop, model=model, quality=2, effort=effort) for effort in (0, 4)]
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
    crop = crop[..., :128, :128]
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
    model = zoo.load(api.DEFAULT_MODEL, precision=precision)
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
    slope = Distortion(network.backbone, x.device)(torch.randn(1, model.backbone.latent_channels, 4, 80), x)
    assert (slope.abs().sum((0, 1, 2)) > 0).all()


def distance_of_the_last(frames, quality=1, **options):
    """LPIPS of the last frame, and the bytes of the file."""
    data = b"".join(glc.encode_video(frames, quality=quality, **options))
    return float(lpips_alex()(io.to_tensor([*glc.decode(data)][-1]), frames[-1])), len(data)


def test_effort_in_a_video(crop, monkeypatch):
    """Better by the intra frame's descent, which what stands still keeps, and better still by those of P frames."""
    model = zoo.load(api.DEFAULT_VIDEO_MODEL)
    frames = [crop[..., 64:192, 64:192]] * 5
    plain, size = distance_of_the_last(frames, model=model)
    both, size_of_both = distance_of_the_last(frames, model=model, effort=6)
    monkeypatch.setattr("glc_toolkit.refine.P_SHARE", 0)
    intra, _ = distance_of_the_last(frames, model=model, effort=6)
    assert intra < 0.97 * plain
    assert both < 0.99 * intra
    assert size_of_both <= 1.05 * size


@pytest.mark.parametrize("precision", ["float32", "bf16", "auto"])
def test_effort_in_a_video_of_any_precision(crop, precision):
    model = zoo.load("glc-video-0.01", precision=precision)
    frames = [crop[..., i : 65 + i, :50] for i in range(3)]
    with torch.inference_mode():
        data = b"".join(glc.encode_video(frames, model=model, effort=2, intra_period=2))
    assert [picture.size for picture in glc.decode(data, model=model)] == [(50, 65)] * 3


def test_effort_where_nothing_happens():
    """P frames that take no bytes leave nothing to steer by."""
    data = b"".join(glc.encode_video([torch.zeros(1, 3, 32, 32)] * 3, effort=1))
    assert len([*glc.decode(data)]) == 3


def test_impossible_efforts_in_a_video_are_refused(crop):
    with pytest.raises(ValueError, match="effort has to be a number of steps, not -1"):
        next(glc.encode_video([crop], effort=-1))


def test_what_was_found_goes_where_nothing_moves():
    l, offset = torch.randn(1, 4, 6, 8), torch.randn(1, 4, 6, 8)
    found = Found(l, offset)
    assert torch.equal(found.added_to(l), l + offset)
    moved = torch.cat([l[..., :4], torch.randn(1, 4, 6, 4) + 8], 3)
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
