"""What a run says while it goes on: a bar or lines on the terminal, ``log.jsonl``, and TensorBoard."""

import json
import math
from pathlib import Path
from typing import cast

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import TensorBoardLogger
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torchvision.utils import make_grid

from glc_toolkit.training.recipe import Stage
from glc_toolkit.training.window import Window
from glc_toolkit.types import StepOutput

COLUMNS = (BarColumn(20), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
LOG_EVERY = 50  # steps
SAY_EVERY = 1.0  # seconds; numbers have to be waited for


class TrainingError(RuntimeError):
    """A run that must not go on."""


class StageLog:
    """The log of one stage, in the folder of its run."""

    def __init__(self, fabric: Fabric, folder: Path, stage: Stage, bar: Progress):
        self.fabric, self.folder, self.stage, self.bar = fabric, folder, stage, bar
        self.task = bar.add_task(stage.name, total=1.0)
        self.window = Window()
        self.said = -math.inf

    def add(
        self, step: int, progress: float, seconds: float, images: int, terms: dict[str, Tensor], out: StepOutput
    ) -> None:
        """Take the numbers of a step, and say what is due. Raises :class:`TrainingError` for a collapsed codebook."""
        stage, window = self.stage, self.window
        window.add(terms, out)
        if seconds - self.said > SAY_EVERY:
            text = " ".join(f"{name} {value:.3g}" for name, value in window.numbers(stage.batch).items())
            self.bar.update(self.task, completed=progress, description=f"{stage.name} {step}: {text}")
            self.said = seconds
        if window.steps == LOG_EVERY or step == stage.most_steps - 1:
            if self.fabric.is_global_zero:
                self.write(step, seconds, images, window.numbers(stage.batch))
            collapse = window.collapsed(stage.least_codes)
            if collapse and step >= stage.warmup and window.steps == LOG_EVERY:
                raise TrainingError(f"stage {stage.name!r}, step {step}: {collapse} in {LOG_EVERY} steps")
            window.clear()

    def write(self, step: int, seconds: float, images: int, numbers: dict[str, float]) -> None:
        """A line of ``log.jsonl``, and the scalars of TensorBoard against images seen."""
        numbers = {name: round(value, 5) for name, value in numbers.items()}
        where = {"stage": self.stage.name, "step": step, "seconds": round(seconds, 1), "images": images}
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps({**where, **numbers}) + "\n")
        self.fabric.log_dict({f"{self.stage.name}/{name}": value for name, value in numbers.items()}, step=images)

    def write_samples(self, out: StepOutput, images: int) -> None:
        """Up to eight pictures of the batch over their reconstructions, for TensorBoard, if the stage draws any."""
        if "x" not in out or "x_hat" not in out:
            return
        pairs = torch.cat([out["x"][:8], out["x_hat"][:8].detach().float().clamp(0, 1)]).cpu()
        board = cast(TensorBoardLogger, self.fabric.logger).experiment
        board.add_image(f"{self.stage.name}/x_over_x_hat", make_grid(pairs, len(pairs) // 2), images)
