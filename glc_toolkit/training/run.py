"""From a recipe to a zoo folder: train, find the quality of the promised rate, measure, write the card."""

import math
import os
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from glc_toolkit import api, io, zoo
from glc_toolkit.evaluation.evaluate import METRICS, measure, summary
from glc_toolkit.models import GLCModel, GLCVideo
from glc_toolkit.registry import build
from glc_toolkit.training.data import decode, decode_clip, find_clips, find_pictures, split
from glc_toolkit.training.dry_run import dry_run
from glc_toolkit.training.loop import train
from glc_toolkit.training.recipe import Recipe
from glc_toolkit.training.state import STATE

LARGEST = 768  # longer sides of validation pictures are cut to this
FRAMES = 48  # of a validation clip that are measured


def run(
    recipe_file: Path,
    out: Path | None = None,
    smoke: bool = False,
    minutes: float | None = None,
    changes: Iterable[str] = (),
    device: str = "auto",
) -> str:
    """Train by a recipe and export the model; returns a line that says what came of it.

    Args:
        smoke: take two small steps of each stage, adversary included. This always begins anew, and keeps its state
            apart from that of the run.
        minutes: a budget that the stages share.
        changes: as in :meth:`Recipe.read`.
        device: as in :func:`glc_toolkit.training.loop.train`.

    Of several processes the first one exports, and the others return an empty line.
    """
    recipe = Recipe.read(recipe_file, changes)
    if minutes is not None:
        recipe = recipe.within(minutes)
    out = out or Path("runs") / recipe.name
    state = out
    if smoke:
        if (out / STATE).exists():
            raise ValueError(f"{out} holds another run, and its model would be replaced; give another folder")
        state = out / "smoke"
        (state / STATE).unlink(missing_ok=True)
        for stage in recipe.stages:
            stage.steps, stage.batch, stage.warmup, stage.gan_start = 2, 2 * int(os.environ.get("WORLD_SIZE", 1)), 1, 0
    started = time.monotonic()
    model = train(recipe, state, device=device)
    if int(os.environ.get("RANK", 0)) > 0:
        return ""
    folder = export(model, recipe, out / recipe.name)
    return f"{folder}: {zoo.info(folder)['bytes']:,} bytes, {time.monotonic() - started:.0f} s"


def planned(recipe_file: Path, minutes: float | None = None, changes: Iterable[str] = ()) -> Iterator[str]:
    """What ``glc train --dry-run`` says: a heading, then a line for each stage as soon as it was tried."""
    recipe = Recipe.read(recipe_file, changes)
    if minutes is not None:
        recipe = recipe.within(minutes)
    head = ("stage", "objective", "learns", "of weights", "GFLOP a step", "memory", "s a step", "minutes", "images")
    yield " ".join(f"{name:>12}" for name in head)
    for row in dry_run(recipe):
        cells = (
            row["stage"],
            row["objective"],
            f"{row['learning'] / 1e6:.2f} M",
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['GFLOP']:.0f}",
            f"{row['memory']:.0f} MB",
            f"{row['seconds']:.2f}",
            f"{row['minutes']:.0f}",
            f"{row['images']:,}",
        )
        yield " ".join(f"{cell:>12}" for cell in cells)


def export(model: GLCModel, recipe: Recipe, folder: Path) -> Path:
    """Write a trained model as a zoo folder, checked by loading it, its card filled with held-out numbers."""
    samples, measured_on = held_out(model, recipe)
    model.update(force=True)
    if recipe.rate is not None:
        model.config = {**model.config, "default_quality": quality_for(model, samples, recipe.rate)}
    zoo.save(model, folder, recipe.name, exact=False)
    model = zoo.load(folder)
    table = [validate(model, samples, level) for level in (*range(model.levels), None)]
    (folder / zoo.CARD).write_text(card(recipe, model, table, measured_on))
    zoo.write_sums(folder)
    zoo.load(folder)
    return folder


def held_out(model: GLCModel, recipe: Recipe) -> tuple[list[list[Tensor]], str]:
    """The samples that a model is measured on, and their name. A sample is a list of frames (3, H, W) uint8; a picture
    is one frame."""
    data = recipe.data
    if isinstance(model, GLCVideo) and data.clips:
        found = find_clips(data.clips)
        kept = [path for path in found if path.name in data.holdout_clips]
        chosen = kept or found[:2]
        with tempfile.TemporaryDirectory() as cache:
            clips = [decode_clip(path, data.clip_side, Path(cache))[:FRAMES] for path in chosen]
            samples = [[torch.from_numpy(frame.copy()).permute(2, 0, 1) for frame in clip] for clip in clips]
        return samples, f"{'Held-out' if kept else 'Training'} clips ({len(samples)}, {FRAMES} frames)"
    pictures = find_pictures(data.sources)
    _, kept = split(pictures, data.holdout)
    samples = [[centre(decode(name, picture))] for name, picture in kept or pictures[:8]]
    return samples, f"{'Held-out' if kept else 'Training'} pictures ({len(samples)})"


def centre(picture: Tensor) -> Tensor:
    """The middle of a large picture."""
    _, height, width = picture.shape
    h, w = min(height, LARGEST), min(width, LARGEST)
    top, left = (height - h) // 2, (width - w) // 2
    return picture[:, top : top + h, left : left + w]


def compress(model: GLCModel, sample: list[Tensor], quality: float | None) -> bytes:
    """The file of a sample."""
    if isinstance(model, GLCVideo):
        return b"".join(api.encode_video(sample, model=model, quality=quality))
    return api.encode(sample[0], model=model, quality=quality)


def bpp(data: bytes, sample: list[Tensor]) -> float:
    return 8 * len(data) / sum(frame[0].numel() for frame in sample)


def quality_for(model: GLCModel, samples: list[list[Tensor]], target: float) -> float:
    """The quality, to a sixteenth of a level, whose files for ``samples`` are nearest to ``target`` bpp.

    The rate is the bits over the pixels of all samples together. In a mean of their rates the headers of small pictures
    would count as much as the content of large ones.
    """
    rates: dict[int, float] = {}
    pixels = sum(frame[0].numel() for sample in samples for frame in sample)

    def rate(step: int) -> float:
        if step not in rates:
            rates[step] = 8 * sum(len(compress(model, sample, step / 16)) for sample in samples) / pixels
        return rates[step]

    levels = {level: rate(16 * level) for level in range(model.levels)}
    if not min(levels.values()) <= target <= max(levels.values()):
        nearest = min(levels, key=lambda level: abs(math.log(levels[level] / target)))
        warnings.warn(
            f"rate: no level reaches {target:g} bpp; the nearest is level {nearest} with {levels[nearest]:.4f}",
            stacklevel=2,
        )
        return float(nearest)
    low, high = 0, 16 * (model.levels - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rate(middle) <= target else (low, middle)
    return min((low, high), key=lambda step: abs(math.log(rate(step) / target))) / 16


def validate(model: GLCModel, samples: list[list[Tensor]], quality: float | None) -> dict[str, float]:
    """Means of the bpp of real files, and of metrics over pictures or every eighth frame."""
    distances = {name: build("metric", {"name": name}) for name in METRICS}
    rows = []
    for sample in samples:
        data = compress(model, sample, quality)
        decoded = api.decode(data, model=model)
        pictures = [decoded] if isinstance(decoded, Image.Image) else decoded
        pairs = list(zip(pictures, sample, strict=True))[::8]
        measured = [measure(io.to_tensor(x_hat), io.to_tensor(x), distances) for x_hat, x in pairs]
        rows.append({"bpp": bpp(data, sample), **summary(measured)})
    level = model.default_quality if quality is None else quality
    return {"quality": level, **summary(rows)}


def card(recipe: Recipe, model: GLCModel, table: list[dict], measured_on: str) -> str:
    """The model card."""
    head = list(table[0])
    lines = [
        f"# {recipe.name}",
        "",
        recipe.card.strip(),
        "",
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters. "
        f"`quality=None` is level {model.default_quality:g}.",
        "",
        f"{measured_on}, mean, bytes of the real file:",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(f"{row[key]:.4f}" for key in head) + " |" for row in table),
        "",
    ]
    return "\n".join(lines)
