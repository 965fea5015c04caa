"""What a stage computes from a batch: all that its losses look at.

VQVAE      stage I    x -> l -> codes -> x_hat          trains the backbone
Latent     stage II   l -> y -> y_hat -> l_hat          trains the codec in the latent, with the backbone frozen
Thumbnail  stage II   x -> ... -> l_hat -> t_hat        trains the thumbnail too, for a backbone that draws one
Joint      stage III  x -> ... -> x_hat                 trains everything from pixels
Clip       stages II and III of a video model
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from glc_toolkit import registry, zoo
from glc_toolkit.models import GLCImage, GLCModel, GLCVideo
from glc_toolkit.models.video import Reference
from glc_toolkit.training.recipe import Stage
from glc_toolkit.types import StepOutput, Thumbnails, trait

REMEDY = {  # what helps against a loss or a latent that runs away, by objective
    "vqvae": "lower its lr, or the weight of the loss that grew",
    "latent": "lower its lr, or give latent_mse more weight",
    "thumbnail": "lower its lr, or give latent_mse and thumbnail_mse more weight",
    "joint": "let a stage of objective latent come before, in which a transform learns to repeat the latent (the "
    "products of one that has not run away), take the transform plain, give a video model a bound, or lower its lr",
}


class Batch(NamedTuple):
    """What a step learns from."""

    x: Tensor  #: pictures (B, 3, H, W), or clips (B, T, 3, H, W), in [0, 1]
    quality: Tensor  #: (B,) floats in [0, levels - 1]
    first: int = 0  #: the number that the first frame of ``x`` has in its clip
    step: int = 0  #: the number of the step in its stage
    own: Tensor | None = None  #: (B / 2, C, h, w), latents of every second picture, in the place of the encoder's


Objective = Callable[[Batch], StepOutput]


def objective_of(model: GLCModel, stage: Stage) -> Objective:
    """The objective of a stage, for pictures or for clips."""
    losses = [registry.find("loss", term.loss or name)[0] for name, term in stage.losses.items()]
    codes = any(trait(loss, "needs_codes") for loss in losses)
    if isinstance(model, GLCVideo):
        uses = {"flicker": stage.uses("flicker"), "thumbnails": stage.uses("thumbnail_mse")}
        return Clip(model, stage.objective == "joint", codes, **uses)
    assert isinstance(model, GLCImage)
    if stage.objective == "joint":
        teacher = Teacher(stage.teacher, stage.teacher_share, model) if stage.teacher else None
        return Joint(model, stage.uses("thumbnail_mse"), codes, teacher)
    return {"vqvae": VQVAE, "latent": Latent, "thumbnail": Thumbnail}[stage.objective](model)


class VQVAE:
    """The autoencoder alone."""

    def __init__(self, model: GLCImage):
        self.backbone = model.backbone

    def __call__(self, batch: Batch) -> StepOutput:
        l = self.backbone.analysis(batch.x)
        l_hat, codes, loss = self.backbone.quantize(l)
        x_hat = self.backbone.synthesis(l_hat)
        out = {"x": batch.x, "l": l, "l_hat": l_hat, "codes": codes, "codebook_loss": loss, "x_hat": x_hat}
        return cast(StepOutput, out)


class Latent:
    """The codec in the latent: nothing is drawn, and nothing of the backbone learns."""

    def __init__(self, model: GLCImage):
        self.model = model

    def __call__(self, batch: Batch) -> StepOutput:
        backbone = self.model.backbone
        with frozen(self.model.get_submodule("backbone")):
            l = backbone.analysis(batch.x)
            codes = backbone.quantize(l).indices
        return cast(StepOutput, {"x": batch.x, **self.model.code_latent(l, batch.quality), "codes": codes})


class Thumbnail:
    """The codec and the thumbnail that is drawn from its latent, without the generator."""

    def __init__(self, model: GLCImage):
        self.model = model

    def __call__(self, batch: Batch) -> StepOutput:
        out = self.model.code_latent(self.model.backbone.analysis(batch.x), batch.quality)
        return cast(StepOutput, {"x": batch.x, **out, **thumbnails(self.model, batch.x, out["l_hat"])})


class Joint:
    """Everything, from pixels.

    Args:
        thumbnails: also draw the thumbnail of each picture.
        codes: also name the backbone's codes, for a loss that needs them.
        teacher: what to compare pictures with in the place of some originals.
    """

    def __init__(self, model: GLCImage, thumbnails: bool, codes: bool, teacher: "Teacher | None"):
        self.model = model
        self.thumbnails, self.codes, self.teacher = thumbnails, codes, teacher

    def __call__(self, batch: Batch) -> StepOutput:
        backbone = self.model.backbone
        if batch.own is None:
            out = {**self.model(batch.x, batch.quality)}
        else:
            encoded = backbone.analysis(batch.x[::2]).float()
            l = torch.stack([encoded, batch.own], 1).flatten(0, 1)
            out = {**self.model.code_latent(l, batch.quality)}
            out["x_hat"] = backbone.synthesis(out["l_hat"])
        if self.thumbnails:
            out |= thumbnails(self.model, batch.x, out["l_hat"])
        if self.codes:
            with frozen(self.model.get_submodule("backbone")):
                out["codes"] = backbone.quantize(out["l"]).indices
        x = batch.x if self.teacher is None else self.teacher.among(batch.x, out["l_hat"])
        return cast(StepOutput, {"x": x, **out})


class Teacher:
    """A model that draws from the same latent. A small generator learns from its pictures (Hinton et al., 2015).

    Args:
        name: of the zoo, or a folder.
        share: of each batch that it draws.
        pupil: the model in training.
    """

    def __init__(self, name: str, share: float, pupil: GLCImage):
        model = zoo.load(name)
        if not isinstance(model, GLCImage) or model.backbone.latent_channels != pupil.backbone.latent_channels:
            raise ValueError(f"the teacher {name} draws no pictures from a latent like this model's")
        self.model, self.share = model.requires_grad_(False), share

    @torch.no_grad()
    def among(self, x: Tensor, l_hat: Tensor) -> Tensor:
        """The originals ``x``, of which a share, spread over the batch, is replaced by what is drawn from ``l_hat``."""
        count = torch.arange(len(x) + 1, device=x.device).mul(self.share).floor()
        drawn = count[1:] > count[:-1]
        x = x.clone()
        self.model.get_submodule("backbone").to(x.device)
        x[drawn] = self.model.backbone.synthesis(l_hat[drawn].float()).clamp(0, 1)
        return x


class Clip:
    """P frames in a row. The first frame of a clip is an intra frame of the image model, which does not learn.

    Errors of a frame are felt in those after it. Gradients explode through many frames, so that a clip may take several
    steps, each with a chunk of its frames. ``reference`` is what the last frame of a step leaves for the next step.

    Args:
        pixels: also draw one frame of each clip. The intra frame has its turn, too, except with ``flicker``, which
            needs a frame before.
        codes: also name the backbone's codes, for a loss that needs them.
        flicker: also draw the frame before each that is drawn.
        thumbnails: also draw the thumbnail of each P frame.
    """

    reference: Reference

    def __init__(self, model: GLCVideo, pixels: bool, codes: bool, flicker: bool, thumbnails: bool):
        self.model = model
        self.pixels, self.codes, self.flicker, self.thumbnails = pixels, codes, flicker, thumbnails

    def __call__(self, batch: Batch) -> StepOutput:
        model, frames, quality = self.model, batch.x.unbind(1), batch.quality
        with torch.no_grad():
            if batch.first == 0:
                intra = model.image.code_latent(model.image.analysis(frames[0]), model.image_quality(quality))
                self.reference = Reference(intra["l_hat"], 0, intra["l"])
            latents = [model.analysis(frame) for frame in frames[1:]]
        outs, reference = model.code_inters(latents, self.reference, quality)
        indices = [out["indices"] for out in outs if out["indices"] is not None]
        l_hats = [self.reference.l_hat, *(out["l_hat"] for out in outs)]
        self.reference = reference._replace(l_hat=reference.l_hat.detach())

        # pixels cost most: those of one frame of each clip, all frames taking turns
        start = int(batch.first > 0 or self.flicker)  # later, it had its turn in the step before
        drawn = [(start + (batch.step + i) % (len(l_hats) - start), i) for i in range(len(batch.x))]
        before = [(k - 1, i) for k, i in drawn]
        seen = {
            "x": torch.stack([frames[k][i] for k, i in drawn]),
            "l": torch.cat([out["l"] for out in outs]),
            "l_hat": torch.cat([out["l_hat"] for out in outs]),
            "likelihoods": {k: torch.cat([out["likelihoods"][k] for out in outs]) for k in outs[0]["likelihoods"]},
            "quality": quality.repeat(len(outs)),
            "indices": torch.cat(indices) if indices else None,
            "hyper_loss": reduce(torch.add, [out["hyper_loss"] for out in outs]) / len(outs),
        }
        if self.pixels:
            seen["x_hat"] = model.backbone.synthesis(torch.stack([l_hats[k][i] for k, i in drawn]))
        if self.flicker:
            seen["x_before"] = torch.stack([frames[k][i] for k, i in before])
            seen["x_hat_before"] = model.backbone.synthesis(torch.stack([l_hats[k][i] for k, i in before]))
        if self.thumbnails:
            seen |= thumbnails(model, torch.cat(frames[1:]), seen["l_hat"])
        if self.codes:
            with torch.no_grad():
                seen["codes"] = model.backbone.quantize(seen["l"]).indices
        return cast(StepOutput, seen)


def thumbnails(model: GLCImage | GLCVideo, x: Tensor, l_hat: Tensor) -> dict[str, Tensor]:
    """The thumbnail of ``x``, and the one that ``l_hat`` draws."""
    backbone = model.backbone
    assert isinstance(backbone, Thumbnails)  # check_stage saw to it
    return {"t": backbone.thumbnail(x), "t_hat": backbone.draw(l_hat)}


@contextmanager
def frozen(part: nn.Module) -> Iterator[None]:
    """``part`` works as it will in use, and has no gradients: otherwise a codebook would learn while it names codes."""
    training = part.training
    part.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        part.train(training)
