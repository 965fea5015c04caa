import copy
import json
import multiprocessing
import shutil
import subprocess
import sys
import time
import types

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file

from glc_toolkit import hookimpl, models, registry, versions, zoo
from glc_toolkit.components.backbones.rrdb import RRDBNet
from glc_toolkit.components.backbones.thumbnail import ThumbnailBackbone
from glc_toolkit.components.backbones.vqgan import Encoder
from glc_toolkit.components.losses.gan import PatchGAN
from glc_toolkit.conformance import tiny
from glc_toolkit.models.image import GLCImage
from glc_toolkit.training import new
from glc_toolkit.training.adversary import adversarial_loss
from glc_toolkit.training.batches import share_of
from glc_toolkit.training.dry_run import dry_run
from glc_toolkit.training.log import TrainingError
from glc_toolkit.training.loop import train
from glc_toolkit.training.module import StageModule, evaluate_frozen, groups
from glc_toolkit.training.recipe import Recipe, Stage
from glc_toolkit.training.run import compress, planned, quality_for, run
from glc_toolkit.training.state import STATE, load_facts
from tests.conftest import ROOT

GAN = {"l1": {}, "lpips": {"args": {"net": "alex"}}, "gan": {"weight": 0.5, "args": {"width": 8, "layers": 2}}}
RATE = {"rate": {"args": {"lmbda": [4, 2, 1], "target_bpp": [0.2, 0.3, 0.4]}}}
PREDICTION = {"latent_channels": 16, "codebook_size": 64, "positions": 4, "width": 32, "depth": 1, "heads": 2}
ALL = ["backbone", "transform", "hyper", "context", "entropy_model"]


@pytest.fixture
def recipe(pictures) -> dict:
    common = {"steps": 3, "batch": 2, "crop": 64, "warmup": 1}
    return {
        "name": "smoke",
        "model": tiny.MODEL,
        "data": {"sources": [str(pictures)], "holdout": 3},
        "rate": 0.5,
        "precision": "32-true",
        "stages": [
            {"name": "I", "objective": "vqvae", "trains": ["backbone"], "losses": {**GAN, "codebook": {}}, **common},
            {
                "name": "II",
                "objective": "latent",
                "trains": ALL[1:],
                "losses": {**RATE, "latent_mse": {}, "codebook": {}, "code_prediction": {"args": PREDICTION}},
                **common,
            },
            {"name": "III", "objective": "joint", "trains": ALL, "losses": {**RATE, **GAN, "codebook": {}}, **common},
        ],
    }


def write(recipe: dict, path):
    path.write_text(yaml.safe_dump(json.loads(json.dumps(recipe))))
    return path


def test_the_codec_of_thumbnails_is_trained_without_the_generator(recipe, tmp_path, monkeypatch):
    """The generator begins as a network of the zoo, which the stage leaves alone."""
    published = RRDBNet(blocks=2).state_dict()
    monkeypatch.setattr(zoo, "network", {"upscaler": published}.get)
    backbone = {"name": "thumbnail", "args": {**ThumbnailBackbone.example_args, "quantizer": {"name": "vq"}}}
    coding = {
        **recipe["stages"][2],
        "objective": "thumbnail",
        "trains": ["backbone.encoder", "backbone.stem", *ALL[1:]],
        "losses": {**RATE, "thumbnail_mse": {"weight": 600}, "codebook": {}},
    }
    recipe |= {
        "model": {**tiny.MODEL, "backbone": backbone, "channels": 64, "transform": {"name": "scaled"}},
        "pretrained": {"backbone.generator": {"network": "upscaler", "args": {"blocks": [1]}}},
        "stages": [coding],
    }
    model = train(Recipe(**recipe), tmp_path / "coding")
    assert torch.equal(model.backbone.generator.body[0].rdb1.conv1.weight, published["body.1.rdb1.conv1.weight"])
    assert model.backbone.encoder.network[-1].weight.any()


def test_a_loss_may_stand_twice(recipe):
    stage = Stage(**{**recipe["stages"][2], "losses": {"l1": {}, "other": {"loss": "l1", "weight": 2}}})
    module = StageModule(models.build(recipe["model"]), stage)
    _, terms = module(torch.rand(1, 3, 64, 64), torch.zeros(1), 0, 0)
    assert terms["l1"] == terms["other"] > 0


def test_what_a_stage_does_not_train_works_as_in_use(recipe):
    """A codebook that follows what it sees would go on moving."""
    stage = Stage(**{**recipe["stages"][2], "trains": ["backbone.generator", "transform"]})
    model = models.build(recipe["model"]).train()
    evaluate_frozen(model, stage)
    assert model.training and model.backbone.training and model.transform.training
    assert not any(part.training for part in (model.hyper, model.hyper.quantizer, model.context, model.entropy_model))


def test_a_dry_run_says_what_each_stage_takes(recipe, tmp_path):
    recipe["stages"][0] |= {"steps": 1000, "minutes": 0.01}
    rows = list(dry_run(Recipe(**recipe)))
    assert [row["stage"] for row in rows] == ["I", "II", "III"]
    first, second, third = rows
    assert first["learning"] < third["learning"] == third["parameters"] == second["parameters"]
    assert second["GFLOP"] < third["GFLOP"]
    assert first["minutes"] == 0.01
    assert third["images"] == recipe["stages"][2]["steps"] * 2
    assert len(list(planned(write(recipe, tmp_path / "recipe.yaml")))) == 1 + len(rows)


def test_three_stages_end_in_a_zoo_folder(recipe, tmp_path):
    said = run(write(recipe, tmp_path / "recipe.yaml"), tmp_path / "out")
    folder = tmp_path / "out" / "smoke"
    assert str(folder) in said
    model = zoo.load(folder)
    assert model.decompress(*model.compress(torch.rand(1, 3, 64, 64)).values())["x_hat"].shape == (1, 3, 64, 64)
    assert "| quality | bpp |" in (folder / "README.md").read_text()
    stages = [json.loads(line)["stage"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert sorted(set(stages)) == ["I", "II", "III"]


def test_each_stage_trains_its_parts_and_no_others(recipe, tmp_path):
    weights = []
    for count in (0, 1, 2):
        part = Recipe.model_validate({**recipe, "stages": recipe["stages"][:count]})
        weights.append(train(part, tmp_path / "out").state_dict() if count else None)
    moved = {
        k.split(".")[0] for k, v in weights[2].items() if k != "_extra_state" and not torch.equal(v, weights[1][k])
    }
    assert "backbone" not in moved
    assert {"transform", "hyper", "context"} <= moved


def test_parts_of_a_part_learn_at_their_own_rates(recipe):
    told = {"trains": ["backbone", "hyper.h_a"], "lr_scale": {"backbone": 0.5, "backbone.generator": 0.1}}
    stage = Recipe.model_validate({**recipe, "stages": [{**recipe["stages"][2], **told}]}).stages[0]
    module = StageModule(GLCImage(tiny.MODEL), stage)
    model = module.model
    parts = {0.5: model.backbone.encoder, 0.1: model.backbone.generator, 1.0: model.hyper.h_a}
    found = {group["lr_scale"]: {id(p) for p in group["params"]} for group in groups(module, stage)}
    for scale, part in parts.items():
        assert found[scale] >= {id(p) for p in part.parameters()}, scale
    assert not any(p.requires_grad for p in model.hyper.h_s.parameters())


def train_saving(file, folder):
    train(Recipe.read(file), folder, save_every=0.0)


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (0, {}),
        (1, {"optimizer": {"name": "lamb", "args": {}}}),
        (2, {"own_latents": 3, "losses": {**RATE, "l1": {}}}),
        (0, {"losses": {"l1": {}, "lpips": {"args": {"net": "alex", "side": 32}}, "codebook": {}}}),
    ],
    ids=["adversary", "latent, counting optimizer", "own latents", "random windows"],
)
def test_a_killed_run_resumes_where_it_was(recipe, tmp_path, number, change):
    """kill -9 in the middle of a stage, go on, and arrive at the weights of a run that was never stopped."""
    recipe["stages"] = [{**recipe["stages"][number], "steps": 30, **change}]
    file = write(recipe, tmp_path / "recipe.yaml")
    whole = train(Recipe.read(file), tmp_path / "whole").state_dict()
    server = multiprocessing.get_context("forkserver")  # imports once for all of these tests
    server.set_forkserver_preload([__name__])
    process = server.Process(target=train_saving, args=(file, tmp_path / "killed"))
    process.start()
    state = tmp_path / "killed" / "state.safetensors"
    while not state.exists():
        time.sleep(0.02)
        assert process.is_alive()
    time.sleep(0.3)
    process.kill()
    process.join()
    resumed = train(Recipe.read(file), tmp_path / "killed").state_dict()
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_a_smoke_run_leaves_the_run_itself_alone(recipe, tmp_path):
    recipe["stages"] = [{**recipe["stages"][2], "steps": 3, "gan_start": 100, "warmup": 0}]
    recipe["data"]["holdout"] = 6  # one picture, since measuring takes most of the time
    file, out = write(recipe, tmp_path / "recipe.yaml"), tmp_path / "out"
    for _ in range(2):  # always anew
        run(file, out, smoke=True)
        (line,) = (out / "smoke" / "log.jsonl").read_text().splitlines()
        assert json.loads(line)["step"] == 1 and "discriminator" in json.loads(line)
        (out / "smoke" / "log.jsonl").unlink()
    run(file, out)
    assert json.loads((out / "log.jsonl").read_text())["step"] == 2
    with pytest.raises(ValueError, match="holds another run"):
        run(file, out, smoke=True)


def test_a_run_can_start_from_a_zoo_model(recipe, tiny_folder, tiny_model, tmp_path):
    started = Recipe.model_validate({**recipe, "start": str(tiny_folder), "stages": []})
    expected = tiny_model.state_dict()
    for key, value in train(started, tmp_path / "out").state_dict().items():
        if key != "_extra_state":
            assert torch.equal(value, expected[key]), key


def test_a_run_of_another_recipe_is_not_resumed(recipe, tmp_path, capsys):
    recipe["stages"] = recipe["stages"][1:2]
    train(Recipe.model_validate(recipe), tmp_path / "out")
    recipe["stages"][0]["steps"] = 5  # longer is the same recipe, but what is finished stays so
    train(Recipe.model_validate(recipe), tmp_path / "out")
    assert "nothing is left to train" in capsys.readouterr().out
    recipe["stages"][0]["lr"] = 1e-3
    with pytest.raises(TrainingError, match="another recipe"):
        train(Recipe.model_validate(recipe), tmp_path / "out")


DISTRIBUTED = """
import sys
from pathlib import Path
from glc_toolkit.training.loop import train
from glc_toolkit.training.recipe import Recipe, Stage
for recipe in sys.argv[2:]:
    train(Recipe.read(recipe), Path(sys.argv[1], Path(recipe).stem))
"""


def test_two_processes_take_the_steps_of_one(recipe, tmp_path):
    """Gradients are averaged: plain SGD on shared batches moves the weights as one process does."""
    stage = recipe["stages"][2]
    stage.update(steps=2, batch=4, optimizer={"name": "sgd", "args": {}}, lr=0.1, losses={"l1": {}, "codebook": {}})
    stage["losses"]["rate"] = {"args": {"lmbda": [4, 2, 1]}}
    recipe["stages"] = [stage]
    files = []
    for own_latents in (0, 2):
        stage["own_latents"] = own_latents
        files.append(write(recipe, tmp_path / f"{own_latents}.yaml"))
    script = tmp_path / "script.py"
    script.write_text(DISTRIBUTED)
    torchrun = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run([*torchrun, script, tmp_path / "two", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    start = GLCImage(recipe["model"]).state_dict()
    for file in files:
        one = train(Recipe.read(file), tmp_path / "one" / file.stem).state_dict()
        two = load_file(tmp_path / "two" / file.stem / "state.safetensors")
        floats = {k: v.float() for k, v in one.items() if v.is_floating_point()}
        for key, value in floats.items():
            torch.testing.assert_close(two[f"average/module.{key}"], value, rtol=1e-4, atol=3e-5, msg=f"{file} {key}")
        assert sum(not torch.equal(value, start[key].float()) for key, value in floats.items()) > 50


@pytest.mark.parametrize("optimizer", ["adamw", "nmuon"])
def test_gradient_checkpointing_changes_nothing(recipe, tmp_path, optimizer):
    recipe["stages"] = recipe["stages"][2:]
    recipe["stages"][0]["optimizer"] = {"name": optimizer, "args": {}}
    del recipe["stages"][0]["losses"]["gan"]
    plain = train(Recipe.model_validate(recipe), tmp_path / "plain").state_dict()
    recipe["stages"][0]["checkpointing"] = True
    for key, value in train(Recipe.model_validate(recipe), tmp_path / "checkpointed").state_dict().items():
        torch.testing.assert_close(value, plain[key], rtol=1e-4, atol=3e-5, msg=key)


def test_an_adversary_in_bf16(recipe, tmp_path):
    """Its adaptive weight asks for gradients beside the engine's own, every ten steps."""
    recipe.update(precision="bf16-mixed", stages=[{**recipe["stages"][0], "steps": 12, "gan_start": 1}])
    seen = []

    class Watched(StageModule):
        def forward(self, x, quality, *rest):
            seen.append(x)
            return super().forward(x, quality, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glc_toolkit.training.learner.StageModule", Watched)
        train(Recipe.model_validate(recipe), tmp_path / "out")
    grey = 255 * seen[0]
    assert (grey - grey.round()).abs().max() < 1e-3  # pictures are not rounded
    logged = json.loads((tmp_path / "out" / "log.jsonl").read_text())
    assert logged["gan_weight"] > 0 and logged["discriminator"] > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_an_adversary_of_a_compiled_generator(recipe, tmp_path):
    recipe["stages"] = [{**recipe["stages"][0], "compile": True, "gan_start": 1}]
    train(Recipe.model_validate(recipe), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "log.jsonl").read_text())["gan_weight"] > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiling_changes_nothing(recipe, tmp_path):
    recipe["stages"] = [{**recipe["stages"][2], "steps": 2, "losses": {**RATE, "l1": {}, "codebook": {}}}]
    plain = train(Recipe.model_validate(recipe), tmp_path / "plain").state_dict()
    recipe["stages"][0]["compile"] = True
    for key, value in train(Recipe.model_validate(recipe), tmp_path / "compiled").state_dict().items():
        torch.testing.assert_close(value, plain[key], rtol=1e-4, atol=3e-5, msg=key)


def test_each_picture_at_all_levels(recipe, tmp_path):
    recipe["stages"] = recipe["stages"][2:]
    recipe["stages"][0]["all_levels"] = True
    seen = []

    class Watched(StageModule):
        def forward(self, x, quality, *rest):
            seen.append((x, quality))
            return super().forward(x, quality, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glc_toolkit.training.learner.StageModule", Watched)
        train(Recipe.model_validate(recipe), tmp_path / "out")
    x, quality = seen[0]
    assert quality.tolist() == [0, 1, 2, 0, 1, 2]
    assert torch.equal(x[0], x[2]) and not torch.equal(x[2], x[3])


def test_every_second_crop_of_a_batch_has_a_latent_of_its_own(recipe, tmp_path):
    recipe["stages"] = recipe["stages"][2:]
    recipe["stages"][0].update(steps=4, own_latents=2, lr=1e-9)
    seen = []

    class Watched(StageModule):
        def forward(self, x, quality, *rest):
            out = super().forward(x, quality, *rest)
            with torch.no_grad():
                l = self.model.backbone.analysis(x)
            seen.append((x, quality, out[0]["l"].detach(), l))
            return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glc_toolkit.training.learner.StageModule", Watched)
        train(Recipe.model_validate(recipe), tmp_path / "out")
    for x, _, l, encoded in seen:
        torch.testing.assert_close(l[0], encoded[0])
        assert not torch.equal(x[0], x[1])
    for x, quality, l, encoded in seen[:2]:  # both begin where the encoder is, and move on
        torch.testing.assert_close(l[1], encoded[1])
        again = next(later for later in seen[2:] if torch.equal(later[0][1], x[1]))
        assert again[1][1] == quality[1]
        assert (again[2][1] - l[1]).abs().mean() > 0.01 * l.std()
    assert not torch.equal(seen[0][0][1], seen[1][0][1])


def test_stages_that_cannot_have_latents_of_their_own(recipe):
    recipe["stages"][0]["own_latents"] = 4
    with pytest.raises(ValidationError, match="own_latents are for joint stages"):
        Recipe.model_validate(recipe)
    recipe["stages"] = [{**recipe["stages"][2], "own_latents": 4}]
    stage = Recipe.model_validate(recipe).stages[0]
    with pytest.raises(ValueError, match="the latents of a video are not learned themselves"):
        StageModule(models.build(tiny.VIDEO), stage.model_copy(update={"trains": []}))


def test_a_stage_has_one_loss_with_a_discriminator(recipe):
    stage = Recipe.model_validate(recipe).stages[0]
    assert adversarial_loss(stage) == "gan"
    registry.register(types.SimpleNamespace(glc_losses=hookimpl(lambda: {"rival": PatchGAN})), "rivals")
    try:
        stage.losses["rival"] = stage.losses["gan"]
        with pytest.raises(ValueError, match="stage 'I': gan and rival each have a discriminator"):
            adversarial_loss(stage)
        del stage.losses["gan"]
        assert adversarial_loss(stage) == "rival"
        assert set(StageModule(GLCImage(tiny.MODEL), stage).losses) == {"l1", "lpips", "codebook"}
    finally:
        registry.unregister("rivals")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"trains": ["backbone.encoder"]}, "needs a stage that trains the generator"),
        ({"losses": {"gan": GAN["gan"], "codebook": {}}}, "needs l1 or lpips or dists among the losses"),
        ({"objective": "latent", "trains": ALL}, "judges pictures, and objective latent makes none"),
    ],
)
def test_an_adversary_that_could_not_work_is_refused_at_once(recipe, change, says):
    recipe["stages"] = [{**recipe["stages"][0], **change}]
    with pytest.raises(ValueError, match=f"stage 'I': gan (is )?{says}"):
        StageModule(GLCImage(tiny.MODEL), Recipe.model_validate(recipe).stages[0])


def test_an_optimizer_whose_state_cannot_be_kept(recipe, tmp_path):
    recipe["stages"] = [{**recipe["stages"][1], "trains": ["transform"], "optimizer": {"name": "kron", "args": {}}}]
    eager = torch.compiler.set_stance("force_eager")  # to compile Kron's steps takes ten seconds
    with eager, pytest.raises(ValueError, match=r"Kron remembers Q.*, which a state cannot hold"):
        train(Recipe.model_validate(recipe), tmp_path / "out", save_every=0.0)


def test_a_collapsed_codebook_stops_the_run(recipe, tmp_path):
    recipe["stages"][0].update(steps=60, least_codes=65)  # of 64
    with pytest.raises(TrainingError, match=r"step 49: the codebook of the backbone has collapsed: \d+ of its codes"):
        train(Recipe.model_validate(recipe), tmp_path / "out")


def test_a_budget_is_shared_by_the_stages(recipe):
    for stage, minutes in zip(recipe["stages"], (10, 5, 25), strict=True):
        stage["minutes"] = minutes
    whole = Recipe.model_validate(recipe)
    short = whole.within(8)
    assert [stage.minutes for stage in short.stages] == [2, 1, 5]
    assert short.identity(3) == whole.identity(3)
    with pytest.raises(ValueError, match="II does not give"):
        recipe["stages"][1]["minutes"] = None
        Recipe.model_validate(recipe).within(8)


def test_progress_can_be_seen_in_tensorboard(recipe, tmp_path):
    train(Recipe.model_validate(recipe), tmp_path / "out", save_every=0.0)
    events = b"".join(f.read_bytes() for f in (tmp_path / "out" / "tensorboard").glob("events.*"))
    for tag in (b"III/lpips", b"III/bpp", b"I/codes_used", b"III/x_over_x_hat"):
        assert tag in events
    line = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[-1])
    assert line["images/s"] > 0 and line["images"] == 18


def test_a_loss_that_is_not_finite_stops_the_run(recipe, tmp_path):
    recipe["stages"][0]["losses"]["l1"] = {"weight": float("inf")}
    with pytest.raises(TrainingError, match=r"stage 'I', step 0: the loss is (inf|nan) \(.*'l1'"):
        train(Recipe.model_validate(recipe), tmp_path / "out")


@pytest.mark.parametrize("stages, size", [(["I", "III"], 1e3), (["I", "II"], 1e-3), (["II", "I"], None)])
def test_a_new_transform_meets_a_latent_of_about_one(recipe, tmp_path, monkeypatch, stages, size):
    """However large the VQ-VAE left it. Otherwise products of products of it would run away in the first step."""
    convolve = Encoder.forward
    monkeypatch.setattr(Encoder, "forward", lambda self, x: (size or 1) * convolve(self, x))
    losses = {"I": {"l1": {}}, "II": {"latent_mse": {"weight": 1e-9}}, "III": {"l1": {}}}
    by_name = {stage["name"]: {**stage, "losses": losses[stage["name"]]} for stage in recipe["stages"]}
    model = train(Recipe.model_validate({**recipe, "stages": [by_name[name] for name in stages]}), tmp_path / "out")
    assert (model.backbone.unit is not None) == bool(size)
    if size:
        assert 0.2 < model.backbone.analysis(torch.rand(1, 3, 64, 64)).square().mean().sqrt() < 5
        assert torch.equal(GLCImage.from_state_dict(model.state_dict()).backbone.unit, model.backbone.unit)


def test_a_loss_that_runs_away_stops_the_run_with_a_remedy(recipe, tmp_path):
    recipe["stages"] = [{**recipe["stages"][2], "losses": {"l1": {"weight": 1e9}}}]
    with pytest.raises(TrainingError, match=r"the loss is \d+.*latent reaches .*; let a stage of objective latent"):
        train(Recipe.model_validate(recipe), tmp_path / "out")


def test_a_stage_of_minutes_alone(recipe, tmp_path):
    stage = {**recipe["stages"][0], "minutes": 0.02, "losses": {"l1": {}, "codebook": {}}}
    del stage["steps"]
    train(Recipe.model_validate({**recipe, "stages": [stage]}), tmp_path / "out")
    assert load_facts(tmp_path / "out" / STATE)["stage"] == 1  # it ended
    del stage["minutes"]
    with pytest.raises(ValidationError, match="a stage needs steps or minutes"):
        Recipe.model_validate({**recipe, "stages": [stage]})


def test_fields_are_changed_on_the_command_line(recipe, tmp_path):
    path = write(recipe, tmp_path / "recipe.yaml")
    changed = Recipe.read(path, ["stages.0.lr=1e-4", "rate=0.1", "stages.2.losses.l1.weight=3", "stages.0.minutes=5"])
    assert (changed.stages[0].lr, changed.stages[0].minutes, changed.rate) == (1e-4, 5, 0.1)
    assert changed.stages[2].losses["l1"].weight == 3
    for wrong in ("stages.7.lr=1", "stages.0.lr", "stages.lr=1", "name.lr=1"):
        with pytest.raises(ValueError, match=r"changes nothing in .*: give FIELD=VALUE"):
            Recipe.read(path, [wrong])
    with pytest.raises(ValidationError, match="learning"):
        Recipe.read(path, ["stages.0.learning=1"])


@pytest.mark.parametrize("fresh, objectives", [(False, ["joint"]), (True, ["vqvae", "latent", "joint"])])
def test_a_new_recipe_has_its_stages_in_order(fresh, objectives, tiny_folder, tmp_path):
    (tmp_path / "mine.yaml").write_text(new.recipe("mine", str(tiny_folder), fresh, ["my photos"]))
    made = Recipe.read(tmp_path / "mine.yaml")
    assert [stage.objective for stage in made.stages] == objectives and made.data.sources == ["my photos"]
    assert made.start == (None if fresh else str(tiny_folder)) and made.model == tiny.MODEL
    assert len(made.stages[-1].losses["rate"].args["lmbda"]) == tiny.LEVELS
    for stage in made.stages:
        StageModule(GLCImage(made.model), stage)


def test_a_rate_that_no_level_reaches_is_a_warning_with_the_nearest(tiny_model):
    samples = [[torch.randint(256, (3, 64, 64), dtype=torch.uint8)]]
    sizes = [len(compress(tiny_model, samples[0], level)) for level in range(tiny.LEVELS)]
    for target, size in ((1e-4, min(sizes)), (100.0, max(sizes))):
        level = sizes.index(size)
        with pytest.warns(UserWarning, match=rf"no level reaches {target:g} bpp; the nearest is level {level} with "):
            assert quality_for(tiny_model, samples, target) == level


def test_recipes_are_checked_before_anything_runs(recipe):
    wrong = copy.deepcopy(recipe)
    wrong["stages"][0]["learning_rate"] = 1
    with pytest.raises(ValidationError, match="learning_rate"):
        Recipe.model_validate(wrong)
    for field, value, message in (("trains", ["body"], "names body"), ("crop", 65, "no multiple of 64")):
        stage = Recipe.model_validate(recipe).stages[0].model_copy(update={field: value})
        with pytest.raises(ValueError, match=message):
            StageModule(GLCImage(tiny.MODEL), stage)


@pytest.mark.parametrize("file", sorted(ROOT.glob("recipes/*.yaml")), ids=lambda f: f.stem)
def test_shipped_recipes_are_valid(file):
    assert Recipe.read(file).name == versions.split(file.stem)[0]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch": 6}, "'a': a batch of 6 cannot be shared by 4"),
        ({"batch": 12, "own_latents": 24}, "even batch, not 3"),
    ],
)
def test_batches_that_processes_cannot_share(changes, message):
    stage = {"name": "a", "objective": "joint", "trains": ["backbone"], "steps": 1, "losses": {}}
    assert share_of(Stage(**stage, batch=8), 4) == 2
    with pytest.raises(ValueError, match=message):
        share_of(Stage(**stage, **changes), 4)
