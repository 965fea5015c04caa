"""What a training recipe may say, checked before anything runs."""

import hashlib
import json
from collections.abc import Iterable
from functools import reduce
from operator import getitem, setitem
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

ENDLESS = 10**9  # steps


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Term(Strict):
    """One loss: its weight, its component, which is that of its name if none is said, and the component's arguments."""

    loss: str | None = None
    weight: float = 1.0
    args: dict[str, Any] = {}


class Data(Strict):
    sources: list[str]  #: folders and tar files, relative to the working directory
    holdout: int = Field(40, ge=0)  #: every so many pictures one is kept for validation
    scales: tuple[float, float] = (0.5, 1.0)
    clips: list[str] = []  #: folders and video files, for a video model
    holdout_clips: list[str] = []  #: names of those kept for validation
    synthetic: float = Field(0.5, ge=0, le=1)  #: share of clips made by panning and zooming over pictures
    clip_side: int = Field(320, gt=0)  #: short side that clips are reduced to


class Optimizer(Strict):
    """Any optimizer of timm, by its name there; ``lr`` is the stage's."""

    name: str = "adamw"
    args: dict[str, Any] = {"betas": (0.9, 0.99), "weight_decay": 0.01}


class Stage(Strict):
    """A stretch of training with one objective."""

    name: str
    objective: Literal["vqvae", "latent", "thumbnail", "joint"]
    trains: list[str]  #: parts of the model that learn, as backbone or backbone.encoder; the others are frozen
    steps: int | None = Field(None, gt=0)  #: a stage has these or minutes; with both it ends with what is over first
    minutes: float | None = Field(None, gt=0)
    batch: int = Field(16, gt=0)
    crop: int = Field(128, gt=0)
    turns: bool = False  #: crops of pictures are also turned by quarters
    frames: int = Field(3, gt=1)  #: of a clip, the first an intra frame, for a video model
    chunk: int | None = Field(None, gt=0)  #: P frames a step; a clip's steps follow each other; None for all in one
    lr: float = Field(2e-4, gt=0)
    lr_scale: dict[str, float] = {}  #: multiples of ``lr`` for parts, as {backbone.generator: 0.1}
    optimizer: Optimizer = Optimizer()
    lr_end: float = Field(0.02, ge=0, le=1)  #: what is left of ``lr`` at the end of the schedule
    warmup: int = Field(200, ge=0)  #: steps
    ema: float = Field(0.999, ge=0, lt=1)
    clip: float = 1.0
    gan_start: int = 0
    all_levels: bool = False  #: code each picture at every quality level, not at one drawn for it
    checkpointing: bool = False  #: recompute activations of residual blocks in the backward pass, for less memory
    compile: bool = False  #: the backbone's ``encoder`` and ``generator`` and the losses by torch.compile
    own_latents: int = Field(0, ge=0)  #: crops with a latent of their own, every second of a batch; joint stages
    own_lr: float = Field(0.05, gt=0)  #: theirs, in standard deviations of the latent
    least_codes: int = 3  #: fewer codes of a codebook in use over 50 steps stop the run
    losses: dict[str, Term]

    @model_validator(mode="after")
    def it_ends(self) -> "Stage":
        if self.steps is None and self.minutes is None:
            raise ValueError("a stage has steps or minutes")
        return self

    @property
    def most_steps(self) -> int:
        """Steps that end the stage; of one that ends by the clock, more than there can be."""
        return self.steps or ENDLESS

    @model_validator(mode="after")
    def own_latents_have_a_stage(self) -> "Stage":
        if self.own_latents and (self.objective != "joint" or self.all_levels):
            raise ValueError("own_latents are for joint stages that code each picture at one level")
        return self

    @property
    def chunks(self) -> int:
        """Steps that a clip takes."""
        return -(-(self.frames - 1) // (self.chunk or self.frames - 1))


class Pretrained(Strict):
    """A network of the zoo, and what its part makes of it (see ``load_pretrained`` of the part)."""

    network: str
    args: dict[str, Any] = {}


class Recipe(Strict):
    """A training run."""

    name: str
    model: dict[str, Any]
    start: str | None = None  #: a zoo model to start from: of the same config, or shallower (see `grow`)
    pretrained: dict[str, Pretrained] = {}  #: parts of the model that begin as networks of the zoo
    anew: list[str] = []  #: parts of ``model``, such as ``backbone.generator``, that are not taken from there
    image: str | None = None  #: the zoo model that codes the intra frames of a video model
    data: Data
    stages: list[Stage]
    seed: int = 0
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"
    rate: float | None = None  #: bpp that ``quality=None`` means: bits over pixels of all held-out pictures together
    card: str = ""  #: what the model card says besides the numbers

    def identity(self, stages: int) -> str:
        """A hash of what a run depends on up to the end of its first ``stages`` stages, but for their length."""
        begun = self.model_copy(update={"stages": self.stages[:stages]})
        kept = begun.model_dump(exclude={"card": True, "rate": True, "stages": {"__all__": {"steps", "minutes"}}})
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

    def within(self, minutes: float) -> "Recipe":
        """The same recipe with the minutes of its stages scaled to a total; each stage has to say its own."""
        if without := [stage.name for stage in self.stages if stage.minutes is None]:
            raise ValueError(
                f"a time budget is shared by the stages' minutes, which {', '.join(without)} does not give"
            )
        scale = minutes / sum(stage.minutes or 0 for stage in self.stages)
        stages = [stage.model_copy(update={"minutes": (stage.minutes or 0) * scale}) for stage in self.stages]
        return self.model_copy(update={"stages": stages})

    @model_validator(mode="after")
    def anew_is_of_a_start(self) -> "Recipe":
        if self.anew and self.start is None:
            raise ValueError("anew lists what is not taken from start, and there is no start")
        return self

    @classmethod
    def read(cls, path: str | Path, changes: Iterable[str] = ()) -> "Recipe":
        """The recipe in a file, with ``changes`` such as ``stages.0.lr=1e-4``. Raises ``ValueError`` for one that names
        no place in it."""
        said = yaml.safe_load(Path(path).read_text())
        for change in changes:
            place, equals, value = change.partition("=")
            *way, last = cast(list[Any], [int(key) if key.isdigit() else key for key in place.split(".")])
            try:
                inside = reduce(getitem, way, said)
                if isinstance(inside, list):
                    getitem(inside, last)  # only what is there can be changed
                setitem(inside, last, yaml.safe_load(value))
            except (KeyError, IndexError, TypeError):
                equals = ""
            if not equals:
                raise ValueError(f"{change!r} changes nothing in {path}: give FIELD=VALUE, as stages.0.lr=1e-4")
        return cls.model_validate(said)
