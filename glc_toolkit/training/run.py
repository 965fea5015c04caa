"""From a recipe to a zoo folder: train, find the quality of the promised rate, measure, write the card."""

import math
import os
import time
from pathlib import Path

from torch import Tensor

from glc_toolkit import api, io, zoo
from glc_toolkit.evaluation.evaluate import METRICS, measure
from glc_toolkit.models.image import GLCImage
from glc_toolkit.registry import build
from glc_toolkit.training.data import decode, find_pictures, split
from glc_toolkit.training.loop import train
from glc_toolkit.training.recipe import Recipe

LARGEST = 768  # longer sides of validation pictures are cut to this


def run(recipe_file: Path, out: Path | None = None, smoke: bool = False, minutes: float | None = None) -> str:
    """Train by a recipe and export; returns a line that says what came of it.

    ``minutes`` is a budget that the stages share. Of several processes the first exports, the others return at once.
    """
    recipe = Recipe.read(recipe_file)
    if minutes is not None:
        recipe = recipe.within(minutes)
    out = out or Path("runs") / recipe.name
    if smoke:
        for stage in recipe.stages:
            stage.steps, stage.batch, stage.warmup = 2, 2, 1
    started = time.monotonic()
    model = train(recipe, out)
    if int(os.environ.get("RANK", 0)) > 0:
        return ""
    folder = export(model, recipe, out / recipe.name)
    return f"{folder}: {zoo.info(folder)['bytes']:,} bytes, {time.monotonic() - started:.0f} s"


def export(model: GLCImage, recipe: Recipe, folder: Path) -> Path:
    """Write a trained model as a zoo folder, checked by loading it, its card filled with held-out numbers."""
    _, held_out = split(find_pictures(recipe.data.sources), recipe.data.holdout)
    pictures = [centre(decode(data)) for _, data in held_out or find_pictures(recipe.data.sources)[:8]]
    model.update(force=True)
    if recipe.rate is not None:
        model.config = {**model.config, "default_quality": quality_for(model, pictures, recipe.rate)}
    zoo.save(model, folder, recipe.name)
    model = zoo.load(folder)
    table = [validate(model, pictures, level) for level in (*range(model.levels), None)]
    measured_on = f"{'Held-out' if held_out else 'Training'} pictures ({len(pictures)})"
    (folder / zoo.CARD).write_text(card(recipe, model, table, measured_on))
    zoo.write_sums(folder)
    zoo.load(folder)
    return folder


def centre(picture: Tensor) -> Tensor:
    """The middle of a large picture."""
    _, height, width = picture.shape
    h, w = min(height, LARGEST), min(width, LARGEST)
    top, left = (height - h) // 2, (width - w) // 2
    return picture[:, top : top + h, left : left + w]


def quality_for(model: GLCImage, pictures: list[Tensor], bpp: float) -> float:
    """The quality (to a sixteenth of a level) whose mean file size over ``pictures`` is nearest to ``bpp``."""
    rates: dict[int, float] = {}

    def rate(step: int) -> float:
        if step not in rates:
            sizes = [8 * len(api.encode(p, model=model, quality=step / 16)) / p[0].numel() for p in pictures]
            rates[step] = sum(sizes) / len(sizes)
        return rates[step]

    low, high = 0, 16 * (model.levels - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rate(middle) <= bpp else (low, middle)
    return min((low, high), key=lambda step: abs(math.log(rate(step) / bpp))) / 16


def validate(model: GLCImage, pictures: list[Tensor], quality: float | None) -> dict[str, float]:
    """Mean bpp of real files and metrics over pictures (3, H, W) uint8."""
    distances = {name: build("metric", {"name": name}) for name in METRICS}
    rows = []
    for picture in pictures:
        data = api.encode(picture, model=model, quality=quality)
        x_hat = io.to_tensor(api.decode(data, model=model))
        rows.append({"bpp": 8 * len(data) / picture[0].numel(), **measure(x_hat, io.to_tensor(picture), distances)})
    level = model.default_quality if quality is None else quality
    return {"quality": level, **{key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}}


def card(recipe: Recipe, model: GLCImage, table: list[dict], measured_on: str) -> str:
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
