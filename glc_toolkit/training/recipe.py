"""What a training recipe may say, checked before anything runs."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Term(Strict):
    """One loss: its weight and the arguments of its component."""

    weight: float = 1.0
    args: dict[str, Any] = {}


class Data(Strict):
    sources: list[str]  #: folders and tar files, relative to the working directory
    holdout: int = Field(40, ge=0)  #: every so many pictures one is kept for validation
    scales: tuple[float, float] = (0.5, 1.0)


class Stage(Strict):
    """A stretch of training with one objective."""

    name: str
    objective: Literal["vqvae", "latent", "joint"]
    trains: list[str]  #: parts of the model that learn; the others are frozen
    steps: int = Field(gt=0)
    minutes: float | None = Field(None, gt=0)  #: ends the stage (and its schedule) earlier
    batch: int = Field(16, gt=0)
    crop: int = Field(128, gt=0)
    lr: float = Field(2e-4, gt=0)
    warmup: int = 200
    ema: float = Field(0.999, ge=0, lt=1)
    clip: float = 1.0
    gan_start: int = 0
    losses: dict[str, Term]


class Recipe(Strict):
    """A training run."""

    name: str
    model: dict[str, Any]
    start: str | None = None  #: a zoo model of the same config, whose weights the first stage starts from
    data: Data
    stages: list[Stage]
    seed: int = 0
    precision: str = "bf16-mixed"
    rate: float | None = None  #: bpp that ``quality=None`` means, found on the held-out pictures
    card: str = ""  #: what the model card says besides the numbers

    @classmethod
    def read(cls, path: str | Path) -> "Recipe":
        return cls.model_validate(yaml.safe_load(Path(path).read_text()))
