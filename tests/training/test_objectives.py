import pytest
import torch
from pydantic import ValidationError

from glc_toolkit import zoo
from glc_toolkit.conformance import tiny
from glc_toolkit.models import GLCImage, GLCVideo
from glc_toolkit.training.module import StageModule
from glc_toolkit.training.objectives import Batch, Clip, Teacher
from glc_toolkit.training.recipe import Stage
from tests.conftest import moving_config

STAGE = {"name": "s", "objective": "joint", "trains": ["backbone"], "steps": 1, "crop": 64, "losses": {"l1": {}}}


@pytest.mark.parametrize("share, drawn", [(1.0, [0, 1, 2, 3]), (0.5, [1, 3]), (0.25, [3])])
def test_a_teacher_draws_its_share_of_a_batch(tiny_folder, share, drawn):
    pupil = GLCImage(tiny.MODEL)
    x, l_hat = torch.rand(4, 3, 64, 64), torch.randn(4, tiny.CHANNELS, 4, 4)
    seen = Teacher(str(tiny_folder), share, pupil).among(x, l_hat)
    pictures = zoo.load(str(tiny_folder)).backbone.synthesis(l_hat).clamp(0, 1)
    for i in range(4):
        torch.testing.assert_close(seen[i], pictures[i] if i in drawn else x[i])


def test_losses_see_what_the_teacher_draws(tiny_folder):
    torch.manual_seed(0)
    module = StageModule(GLCImage(tiny.MODEL), Stage.model_validate({**STAGE, "teacher": str(tiny_folder)}))
    batch = torch.rand(2, 3, 64, 64), torch.tensor([0.0, 1.0])
    out, terms = module(*batch, 0, 0)
    assert not torch.equal(out["x"], batch[0])
    assert terms["l1"] == (out["x_hat"] - out["x"]).abs().mean()
    assert not any("teacher" in name for name in module.state_dict())


def test_a_teacher_of_another_latent_or_stage_is_refused(tiny_folder):
    other = GLCImage(tiny.model_config(backbone=tiny.config("backbone", "thumbnail")))
    with pytest.raises(ValueError, match="no pictures from a latent like this model's"):
        Teacher(str(tiny_folder), 1.0, other)
    with pytest.raises(ValidationError, match="a teacher is for joint stages"):
        Stage.model_validate({**STAGE, "objective": "latent", "teacher": "glc-image-0.03"})


@pytest.mark.parametrize("loss, named", [("l1", False), ("code_prediction", True)])
def test_a_joint_stage_names_codes_for_a_loss_that_needs_them(loss, named):
    losses = {"l1": {}, "term": {"loss": loss, "args": tiny.config("loss", loss)["args"]}}
    module = StageModule(GLCImage(tiny.MODEL), Stage.model_validate({**STAGE, "losses": losses}))
    out, _ = module(torch.rand(2, 3, 64, 64), torch.tensor([0.0, 1.0]), 0, 0)
    assert ("codes" in out) == named


@pytest.mark.parametrize("first", [0, 4])
def test_flicker_sees_each_frame_with_the_one_before(first):
    """Frames in shades of grey, so that a picture says its number."""
    torch.manual_seed(0)
    video = GLCVideo(tiny.VIDEO)
    clip = Clip(video, pixels=True, codes=False, flicker=True, thumbnails=False)
    shades = torch.arange(5) / 10
    frames = shades[:, None, None, None].expand(2, 5, 3, 64, 64)
    numbers = set()
    for start in (0, first):
        for step in range(4):
            out = clip(Batch(frames, torch.tensor([0.0, 2.0]), start, step))
            torch.testing.assert_close(out["x"], out["x_before"] + 0.1)
            assert out["x_hat"].shape == out["x_hat_before"].shape == out["x"].shape
            numbers |= {round(10 * float(shade)) for shade in out["x"][:, 0, 0, 0]}
    assert numbers == {1, 2, 3, 4}


def test_a_teacher_is_for_pictures_and_for_a_share_that_there_is(tiny_folder):
    video = {**STAGE, "trains": ["temporal"], "teacher": str(tiny_folder)}
    with pytest.raises(ValueError, match="a teacher draws pictures, and this is a video model"):
        StageModule(GLCVideo(tiny.VIDEO), Stage.model_validate(video))
    with pytest.raises(ValidationError, match="none of a batch of 2"):
        Stage.model_validate({**STAGE, "teacher": "glc-image-0.03", "teacher_share": 0.25, "batch": 2})
    with pytest.raises(ValidationError, match="without own_latents"):
        Stage.model_validate({**STAGE, "teacher": "glc-image-0.03", "own_latents": 4})


def test_thumbnails_of_a_clip_are_those_of_its_p_frames():
    torch.manual_seed(0)
    video = GLCVideo(moving_config())
    clip = Clip(video, pixels=False, codes=False, flicker=False, thumbnails=True)
    frames = torch.rand(2, 4, 3, 64, 64)
    out = clip(Batch(frames, torch.tensor([0.0, 2.0])))
    torch.testing.assert_close(out["t"], video.backbone.thumbnail(torch.cat(frames.unbind(1)[1:])))
    assert out["t_hat"].shape == out["t"].shape
    assert out["likelihoods"].keys() == {"y", "z", "motion"}


def test_thumbnails_need_a_backbone_that_draws_them():
    with pytest.raises(ValueError, match="needs a backbone that draws one"):
        StageModule(
            GLCImage(tiny.MODEL), Stage.model_validate({**STAGE, "losses": {"small": {"loss": "thumbnail_mse"}}})
        )


def test_flicker_needs_a_clip():
    with pytest.raises(ValueError, match="flicker compares frames"):
        StageModule(GLCImage(tiny.MODEL), Stage.model_validate({**STAGE, "losses": {"flicker": {}}}))
