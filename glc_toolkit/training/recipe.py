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
    """One loss."""

    loss: str | None = None  #: the component; None for the one that has the name of the loss
    weight: float = 1.0
    args: dict[str, Any] = {}  #: of the component


class Data(Strict):
    sources: list[str]  #: folders and tar files, relative to the working directory
    holdout: int = Field(40, ge=0)  #: of every so many pictures one is kept for validation; 0 keeps none
    scales: tuple[float, float] = (0.5, 1.0)  #: lowest and highest; a crop comes from a square ``1 / scale`` as large
    clips: list[str] = []  #: folders and video files, for a video model
    holdout_clips: list[str] = []  #: names of the clips that are kept for validation
    synthetic: float = Field(0.5, ge=0, le=1)  #: share of clips made by panning and zooming over pictures
    clip_side: int = Field(320, gt=0)  #: short side, in pixels, that clips are reduced to


class Optimizer(Strict):
    """Any optimizer of timm, by its name there. The stage has its ``lr``."""

    name: str = "adamw"
    args: dict[str, Any] = {"betas": (0.9, 0.99), "weight_decay": 0.01}


class Stage(Strict):
    """A stretch of training with one objective."""

    name: str
    objective: Literal["vqvae", "latent", "thumbnail", "joint"]
    trains: list[str]  #: parts of the model that learn, as backbone or backbone.encoder; the others are frozen
    steps: int | None = Field(None, gt=0)  #: length of the stage; steps or minutes have to be given
    minutes: float | None = Field(None, gt=0)  #: likewise; a stage that has both ends with what is over first
    batch: int = Field(16, gt=0)
    crop: int = Field(128, gt=0)
    turns: bool = False  #: also turn crops of pictures by quarters
    frames: int = Field(3, gt=1)  #: of a clip, for a video model; the first is an intra frame
    chunk: int | None = Field(None, gt=0)  #: P frames a step; None for all P frames of a clip in one step
    lr: float = Field(2e-4, gt=0)  #: learning rate
    lr_scale: dict[str, float] = {}  #: multiples of ``lr`` for parts, as {backbone.generator: 0.1}
    optimizer: Optimizer = Optimizer()
    lr_end: float = Field(0.02, ge=0, le=1)  #: the share of ``lr`` at the end of the schedule
    warmup: int = Field(200, ge=0)  #: steps
    ema: float = Field(0.999, ge=0, lt=1)  #: decay of the averaged weights
    clip: float = 1.0  #: the highest norm of gradients
    gan_start: int = 0  #: the step at which an adversarial loss begins
    all_levels: bool = False  #: code each picture at every quality level, instead of at a random quality
    checkpointing: bool = False  #: compute activations of residual blocks again in the backward pass, for less memory
    compile: bool = False  #: torch.compile the backbone's ``encoder`` and ``generator``, and the losses
    own_latents: int = Field(0, ge=0)  #: number of crops with a latent of their own, half of each batch; joint stages
    own_lr: float = Field(0.05, gt=0)  #: learning rate of these latents, in standard deviations of the latent
    teacher: str | None = None  #: a zoo model of the same latent, whose pictures are learned from; joint stages
    teacher_share: float = Field(1.0, gt=0, le=1)  #: of each batch that is compared with the teacher's pictures
    least_codes: int = 3  #: fewer codes of a codebook in use over 50 steps stop the run
    losses: dict[str, Term]

    @model_validator(mode="after")
    def it_ends(self) -> "Stage":
        if self.steps is None and self.minutes is None:
            raise ValueError("a stage needs steps or minutes")
        return self

    @property
    def most_steps(self) -> int:
        """The number of steps that ends the stage; for a stage that ends by the clock, more than there can be."""
        return self.steps or ENDLESS

    @model_validator(mode="after")
    def own_latents_have_a_stage(self) -> "Stage":
        if self.own_latents and (self.objective != "joint" or self.all_levels):
            raise ValueError("own_latents are for joint stages that code each picture at one level")
        return self

    @model_validator(mode="after")
    def teacher_has_a_stage(self) -> "Stage":
        if self.teacher and (self.objective != "joint" or self.own_latents):
            raise ValueError("a teacher is for joint stages, which draw pictures, without own_latents")
        if self.teacher and self.batch * self.teacher_share < 1:
            raise ValueError(f"a teacher_share of {self.teacher_share} is none of a batch of {self.batch}")
        return self

    def uses(self, loss: str) -> bool:
        """Whether a loss is among the stage's, by whatever name."""
        return any((term.loss or name) == loss for name, term in self.losses.items())

    @property
    def chunks(self) -> int:
        """The number of steps that a clip takes."""
        return -(-(self.frames - 1) // (self.chunk or self.frames - 1))


class Pretrained(Strict):
    """A network of the zoo that a part of the model begins as."""

    network: str
    args: dict[str, Any] = {}  #: of the part's ``load_pretrained``


class Recipe(Strict):
    """A training run."""

    name: str
    model: dict[str, Any]
    start: str | None = None  #: a zoo model to start from, of the same config or of another depth
    pretrained: dict[str, Pretrained] = {}  #: parts of the model that begin as networks of the zoo
    anew: list[str] = []  #: parts of ``model``, such as ``backbone.generator``, that are not taken from ``start``
    image: str | None = None  #: the zoo model that codes the intra frames of a video model
    data: Data
    stages: list[Stage]
    seed: int = 0
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"
    rate: float | None = None  #: bpp that ``quality=None`` means: bits over pixels, of all held-out pictures together
    card: str = ""  #: what the model card says besides the numbers

    def identity(self, stages: int) -> str:
        """A hash of all that a run depends on up to the end of its first ``stages`` stages, except their length."""
        first = self.model_copy(update={"stages": self.stages[:stages]})
        kept = first.model_dump(exclude={"card": True, "rate": True, "stages": {"__all__": {"steps", "minutes"}}})
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

    def transform_begins_after(self, stage: int) -> bool:
        """Whether the transform still has the random weights that it began with after stage number ``stage``."""
        given = self.start is not None and "transform" not in self.anew
        trained = (part.partition(".")[0] for done in self.stages[: stage + 1] for part in done.trains)
        return not given and "transform" not in trained

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
            raise ValueError("anew needs start: it lists the parts that are not taken from there")
        return self

    @classmethod
    def read(cls, path: str | Path, changes: Iterable[str] = ()) -> "Recipe":
        """The recipe in a file, with ``changes`` such as ``stages.0.lr=1e-4``.

        Raises ``ValueError`` for a change that names no place in the recipe.
        """
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
