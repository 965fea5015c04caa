from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from glc_toolkit import clips, zoo
from glc_toolkit.conformance import tiny
from glc_toolkit.models import GLCVideo
from glc_toolkit.training import loop
from glc_toolkit.training.batches import steps_of
from glc_toolkit.training.data import ClipCrops, decode_clip, find_clips
from glc_toolkit.training.initial import untrained
from glc_toolkit.training.loop import train
from glc_toolkit.training.module import StageModule
from glc_toolkit.training.recipe import Recipe, Stage
from glc_toolkit.training.run import run
from tests.test_clips import frames
from tests.training.test_loop import RATE, write

pytest.importorskip("av")
P_FRAMES = ["temporal", "transform", "hyper", "context", "entropy_model"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(3):
        clips.save(frames(10, 96, 72), folder / f"{i}.mp4", Fraction(25))
    return folder


@pytest.fixture
def recipe(pictures, folder, tiny_folder) -> dict:
    common = {"trains": P_FRAMES, "steps": 3, "batch": 2, "crop": 64, "warmup": 1, "frames": 3}
    return {
        "name": "smoke",
        "image": str(tiny_folder),
        "model": {key: value for key, value in tiny.VIDEO.items() if key != "image"},
        "data": {"sources": [str(pictures)], "clips": [str(folder)], "holdout_clips": ["2.mp4"]},
        "precision": "32-true",
        "stages": [
            {"name": "II", "objective": "latent", "losses": {**RATE, "latent_mse": {}, "codebook": {}}, **common},
            {"name": "III", "objective": "joint", "losses": {**RATE, "l1": {}, "codebook": {}}, **common},
        ],
    }


def test_both_stages_end_in_a_zoo_folder(recipe, tmp_path):
    run(write(recipe, tmp_path / "recipe.yaml"), tmp_path / "out")
    model = zoo.load(tmp_path / "out" / "smoke")
    assert isinstance(model, GLCVideo)
    assert "Held-out clips (1," in (tmp_path / "out" / "smoke" / "README.md").read_text()
    image = zoo.load(recipe["image"])
    for name, value in image.state_dict().items():  # it codes the intra frames as it was
        if value.is_floating_point() and not name.startswith("transform.dec"):
            assert torch.allclose(model.image.state_dict()[name].double(), value.double(), atol=1e-4), name


def test_clips_alone_will_do_and_held_out_ones_have_to_be_there(recipe, tmp_path):
    recipe["data"]["sources"] = []
    recipe["stages"] = recipe["stages"][:1]
    train(Recipe.model_validate(recipe), tmp_path / "out")
    recipe["data"]["holdout_clips"] = ["2"]
    with pytest.raises(FileNotFoundError, match="holdout_clips names 2, but clips has no such file"):
        train(Recipe.model_validate(recipe), tmp_path / "other")


def test_the_frames_of_a_clip_are_what_the_losses_see(recipe, tmp_path):
    before = train(Recipe.model_validate({**recipe, "stages": []}), tmp_path / "out").state_dict()
    after = train(Recipe.model_validate(recipe), tmp_path / "two").state_dict()
    moved = {k.split(".")[0] for k, v in after.items() if k in before and not torch.equal(v, before[k])}
    assert {"temporal", "transform", "hyper", "context"} <= moved
    assert "image" not in moved


def test_a_stopped_run_goes_on_as_if_it_had_not_been(recipe, tmp_path, monkeypatch):
    recipe["stages"][0] |= {"steps": 5, "chunk": 1}  # two steps a clip: the run is saved between clips
    whole = train(Recipe.model_validate(recipe), tmp_path / "whole").state_dict()
    save = loop.save_state

    def save_and_stop(*args):
        save(*args)
        if args[-1]["step"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save_state", save_and_stop)
        train(Recipe.model_validate(recipe), tmp_path / "two", save_every=0)
    resumed = train(Recipe.model_validate(recipe), tmp_path / "two").state_dict()
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_a_clip_is_learned_chunk_after_chunk(recipe):
    def latents(**changes) -> list[torch.Tensor]:
        """What the steps of one clip decode, frame by frame."""
        stage = Stage.model_validate({**recipe["stages"][0], "frames": 6, **changes})
        module = StageModule(model, stage).eval()
        steps = list(steps_of([(x, quality)], stage))
        assert len(steps) == stage.chunks
        outs = [module(*part, step)[0] for step, part in enumerate(steps)]
        assert all(out["l_hat"].requires_grad for out in outs) and not module.objective.reference.l_hat.requires_grad
        assert module.objective.reference.age == 5
        return [l_hat for out in outs for l_hat in out["l_hat"].split(2)]

    model = untrained(Recipe.model_validate(recipe))
    x, quality = torch.rand(2, 6, 3, 64, 64), torch.zeros(2)
    whole, chunked = latents(), latents(chunk=2)
    assert len(whole) == len(chunked) == 5
    for one, other in zip(whole, chunked, strict=True):
        torch.testing.assert_close(one, other)


def test_the_frames_of_a_chunk_take_turns_in_pixels(recipe):
    stage = Stage.model_validate({**recipe["stages"][1], "frames": 5, "chunk": 4})
    module = StageModule(untrained(Recipe.model_validate(recipe)), stage)
    x, quality = torch.rand(2, 5, 3, 64, 64), torch.zeros(2)

    def order(first: int, steps: int) -> list[list[int]]:
        seen = [module(x, quality, first, step)[0]["x"] for step in range(steps)]
        return [[next(k for k in range(5) if torch.equal(drawn[i], x[i, k])) for drawn in seen] for i in range(2)]

    assert [sorted(turns) for turns in order(0, 5)] == [[0, 1, 2, 3, 4]] * 2
    assert [sorted(turns) for turns in order(4, 4)] == [[1, 2, 3, 4]] * 2  # the chunk before has had its last frame


def test_the_generator_learns_with_the_p_frames_and_may_be_shallower(recipe, tmp_path):
    recipe["model"]["image"] = {"backbone": {"args": {"decoder_blocks": [0, 1, 1]}}}
    recipe["stages"][1]["trains"] = [*P_FRAMES, "image.backbone.generator"]
    before = train(Recipe.model_validate({**recipe, "stages": []}), tmp_path / "out").state_dict()
    model = train(Recipe.model_validate(recipe), tmp_path / "two")
    moved = {k for k, v in model.state_dict().items() if k.startswith("image.") and not torch.equal(v, before[k])}
    assert moved and all(name.startswith("image.backbone.generator.") for name in moved)
    given = zoo.load(recipe["image"])
    args = given.config["backbone"]["args"]
    assert model.config["image"]["backbone"]["args"] == {**args, "decoder_blocks": [0, 1, 1]}
    assert len(model.image.backbone.generator.blocks) == len(given.backbone.generator.blocks) - 1


def test_crops_are_of_consecutive_frames_and_depend_on_their_number_alone(folder, tmp_path):
    read = [decode_clip(path, 64, tmp_path) for path in find_clips([str(folder)])]
    assert read[0].shape == (10, 64, 85, 3)
    made = ClipCrops(read, [], 0.0, frames=4, size=48, scales=(0.8, 1.0), levels=3, seed=1)
    again = ClipCrops(read, [], 0.0, frames=4, size=48, scales=(0.8, 1.0), levels=3, seed=1)
    for i in (0, 7):
        x, quality = made[i]
        assert x.shape == (4, 3, 48, 48) and x.dtype == torch.uint8 and 0 <= quality <= 2
        assert torch.equal(x, again[i][0])
    with pytest.raises(ValueError, match="no clip has 40 frames"):
        ClipCrops(read, [], 0.5, frames=40, size=48, scales=(1.0, 1.0), levels=3, seed=1)


def test_a_made_clip_moves_steadily_over_its_picture(tmp_path):
    ramp = np.broadcast_to(np.linspace(0, 255, 256)[None, :, None], (200, 256, 3)).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    samples = ClipCrops([], [("ramp", tmp_path / "ramp.png")], 1.0, 5, 64, (0.8, 1.0), 3, seed=0)
    paces = []
    for i in range(6):
        means = samples[i][0].float().mean((1, 2, 3))
        steps = means.diff()
        assert (steps - steps.mean()).abs().max() < 1.5
        paces.append(float(steps.mean()))
    assert max(map(abs, paces)) > 0.2


def test_no_videos_where_they_are_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a folder nor a video"):
        find_clips([str(tmp_path / "none")])
    with pytest.raises(FileNotFoundError, match="no videos in"):
        find_clips([str(tmp_path)])
