"""The training loop: the same for every stage of a recipe, on Lightning Fabric.

What a step computes is in ``objectives.py``; how the model and the discriminator of a loss learn from it in
``learner.py`` and ``adversary.py``.
"""

import math
import time
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from torch.utils.data import Dataset

from glc_toolkit.components.losses.rate import bpp_estimate
from glc_toolkit.models import GLCModel, GLCVideo
from glc_toolkit.progress import shown
from glc_toolkit.training.batches import batches, prepared, share_of, steps_of
from glc_toolkit.training.data import Material
from glc_toolkit.training.engine import launch
from glc_toolkit.training.initial import initial_model
from glc_toolkit.training.learner import Average, Learner
from glc_toolkit.training.log import COLUMNS, StageLog, TrainingError
from glc_toolkit.training.module import checkpointed, compiled
from glc_toolkit.training.recipe import Recipe, Stage
from glc_toolkit.training.state import STATE, load_facts, load_state, save_state
from glc_toolkit.types import Backbone, Unit


def train(recipe: Recipe, folder: Path, save_every: float = 300.0, device: str = "auto") -> GLCModel:
    """Run a recipe, or go on with it from ``folder/state.safetensors``; returns the averaged model in evaluation mode.

    Writes that state and a grid of pictures every ``save_every`` seconds, and means of the losses every 50 steps, to
    ``folder/log.jsonl`` and for TensorBoard. Started by ``torchrun``, the processes share each batch. ``device`` is
    ``"cpu"``, ``"cuda"``, or ``"auto"`` for a GPU where there is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fabric = launch(recipe.precision, folder, device)
    fabric.seed_everything(recipe.seed, verbose=False)
    for stage in recipe.stages:
        share_of(stage, fabric.world_size)
    data = Material(recipe, folder)
    model = initial_model(recipe)
    average = Average(model)
    state = folder / STATE
    facts = {"stage": 0, "step": 0, "seconds": 0.0, "images": 0}
    if state.exists():
        facts = load_facts(state)
        if facts["recipe"] != recipe.identity(facts["stage"] + (facts["step"] > 0)):
            raise TrainingError(f"{state} is of another recipe; train into another folder, or delete it to start over")
        load_state(state, {"model": model, "average": average}, {})
        if facts["stage"] == len(recipe.stages):
            fabric.print("every stage of this recipe is finished: nothing is left to train")
    if fabric.broadcast(facts) != facts:
        raise TrainingError(f"{folder} is not the same for all processes: each has to read what the first one writes")
    for number in range(facts["stage"], len(recipe.stages)):
        facts.update(stage=number, recipe=recipe.identity(number + 1))
        run_stage(fabric, recipe, model, average, data, folder, facts, save_every)
        facts.update(stage=number + 1, step=0, seconds=0.0)
        if fabric.is_global_zero:
            save_state(state, {"model": model, "average": average}, {}, facts)
    return average.module.eval()


def run_stage(
    fabric: Fabric,
    recipe: Recipe,
    model: GLCModel,
    average: Average,
    data: Material,
    folder: Path,
    facts: dict,
    save_every: float,
) -> None:
    """Stage ``facts["stage"]`` of a recipe, from step ``facts["step"]`` to its end."""
    stage, seed = recipe.stages[facts["stage"]], recipe.seed + facts["stage"]
    if facts["step"] == 0:
        model.load_state_dict(average.module.state_dict())  # a stage starts from the average of the one before
    learner = Learner(fabric, stage, model, average, facts.get("balance", 0.0), recipe.seed)
    samples = data.samples(stage, model, seed, fabric.device)
    if facts["step"] == 0:
        learner.begin(samples)
    else:
        load_state(folder / STATE, learner.modules, learner.optimizers)
    learner.evaluate_frozen()

    chunks = stage.chunks if isinstance(model, GLCVideo) else 1
    loader = batches(fabric, stage, samples, facts["step"], chunks, learner.own)
    started, saved = time.monotonic() - facts["seconds"], time.monotonic()
    quiet = not fabric.is_global_zero
    with checkpointed(model, stage), compiled(learner.module, stage), shown(*COLUMNS, quiet=quiet) as bar:
        log = StageLog(fabric, folder, stage, bar)
        for step, (pixels, quality, first) in enumerate(steps_of(loader, stage), facts["step"]):
            progress = step / stage.most_steps
            if stage.minutes:  # one clock for all processes, or some would wait for ever
                progress = fabric.broadcast(max(progress, (time.monotonic() - started) / 60 / stage.minutes))
            if progress >= 1:
                break
            # random numbers of a step follow from its number: none of them has to be kept to go on
            torch.manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1)[0]))
            x, quality = prepared(pixels, quality, stage, model.levels)
            out, terms = learner.step(x, quality, first, step, schedule(step, progress, stage))

            facts["images"] += stage.batch
            if "likelihoods" in out:
                terms["bpp"] = bpp_estimate(out["likelihoods"], stage.crop**2).mean()
            seconds = time.monotonic() - started
            log.add(step, progress, seconds, facts["images"], terms, out)
            due = time.monotonic() - saved > save_every and (step + 1) % chunks == 0  # no clip is half way
            if due and fabric.is_global_zero:
                facts.update(step=step + 1, seconds=seconds)
                if learner.adversary is not None:
                    facts["balance"] = learner.adversary.balance.item()
                save_state(folder / STATE, learner.modules, learner.optimizers, facts)
                log.write_samples(out, facts["images"])
                saved = time.monotonic()
    if stage.objective == "vqvae" and recipe.transform_begins_after(facts["stage"]):
        take_unit(fabric, average.module.backbone, samples, stage.batch)


@torch.no_grad()
def take_unit(fabric: Fabric, backbone: Backbone, samples: Dataset, count: int) -> None:
    """Give the latent a size of about one before a transform sees it: a VQ-VAE's own may be any, and products of
    products of it, as in the transform ``gated``, run away where it is large (Rombach et al., CVPR 2022, 4.3.2, divide
    theirs by its deviation)."""
    if isinstance(backbone, Unit):
        backbone.take_unit(torch.stack([samples[i][0] for i in range(count)]).to(fabric.device) / 255)


def schedule(step: int, progress: float, stage: Stage) -> float:
    """The share of the learning rate: a linear warm-up, then half a cosine down to ``lr_end``."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * progress)
    return min((step + 1) / max(stage.warmup, 1), stage.lr_end + (1 - stage.lr_end) * cosine)
