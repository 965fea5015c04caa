"""What a recipe would take, before hours are spent: one real step of each stage, counted and timed."""

import time
from collections.abc import Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from glc_toolkit.evaluation import memory
from glc_toolkit.models import GLCVideo
from glc_toolkit.training.batches import every_level
from glc_toolkit.training.initial import initial_model
from glc_toolkit.training.module import StageModule, checkpointed, evaluate_frozen
from glc_toolkit.training.recipe import Recipe, Stage


def dry_run(recipe: Recipe) -> Iterator[dict]:
    """A row for each stage: ``stage objective learning parameters GFLOP memory seconds minutes images``.

    ``learning`` counts the weights that the stage trains, ``parameters`` all weights. ``GFLOP`` and ``seconds`` are of
    one step, forward and backward, without adversary, optimizer and reading of pictures. ``memory`` is the megabytes
    that the process grows by in that step. ``minutes`` is what the stage takes on this machine, ``images`` what it sees
    in that time. Pictures are random numbers.
    """
    torch.manual_seed(recipe.seed)
    model = initial_model(recipe)
    for stage in recipe.stages:
        module = StageModule(model, stage).train().to(memory_format=torch.channels_last)
        evaluate_frozen(model, stage)
        with checkpointed(model, stage):
            with FlopCounterMode(display=False) as counter:  # counting takes time: a second step is timed
                step(module, recipe, stage)
            with memory.peak() as grown:
                started = time.perf_counter()
                step(module, recipe, stage)
                seconds = time.perf_counter() - started
        minutes = min(stage.most_steps * seconds / 60, stage.minutes or float("inf"))
        weights = [p for p in model.parameters()]
        yield {
            "stage": stage.name,
            "objective": stage.objective,
            "learning": sum(p.numel() for p in weights if p.requires_grad),
            "parameters": sum(p.numel() for p in weights),
            "GFLOP": counter.get_total_flops() / 1e9,
            "memory": grown["megabytes"],
            "seconds": seconds,
            "minutes": minutes,
            "images": round(min(60 * minutes / seconds, stage.most_steps)) * stage.batch,
        }


def step(module: StageModule, recipe: Recipe, stage: Stage) -> None:
    """A step forward and backward, with the losses that have no discriminator."""
    video = isinstance(module.model, GLCVideo)
    frames = (stage.frames if stage.chunk is None else stage.chunk + 1,) if video else ()
    x = torch.rand(stage.batch, *frames, 3, stage.crop, stage.crop)
    quality = (module.model.levels - 1) * torch.rand(stage.batch)
    if stage.all_levels:
        quality = every_level(module.model.levels, stage.batch, x.device)
        x = x.repeat_interleave(module.model.levels, 0)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16-mixed"):
        _, terms = module(x, quality, 0, 0)
    total = sum(stage.losses[name].weight * term for name, term in terms.items())
    assert isinstance(total, torch.Tensor)
    total.backward()
    module.zero_grad()
