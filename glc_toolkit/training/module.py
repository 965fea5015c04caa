"""What a stage trains: the model with its objective and losses, checked before anything runs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch._functorch import config as functorch
from torch.utils.checkpoint import checkpoint

from glc_toolkit import registry
from glc_toolkit.evaluation.replaced import replaced
from glc_toolkit.models import GLCModel, GLCVideo
from glc_toolkit.training.adversary import adversarial_loss, check_adversary
from glc_toolkit.training.grow import check_parts
from glc_toolkit.training.objectives import Batch, objective_of
from glc_toolkit.training.recipe import Stage
from glc_toolkit.types import Block, Compiled, StepOutput, Thumbnails


class StageModule(nn.Module):
    """A model with the losses of a stage: one forward computes every term, as distributed engines want it.

    From then on only what the stage trains has gradients. Raises ``ValueError`` for a stage that does not fit the
    model.
    """

    def __init__(self, model: GLCModel, stage: Stage):
        super().__init__()
        self.model = model
        self.objective = objective_of(model, stage)
        rival = adversarial_loss(stage)
        self.losses = nn.ModuleDict(
            {
                name: registry.build("loss", {"name": term.loss or name, "args": term.args}, levels=model.levels)
                for name, term in stage.losses.items()
                if name != rival
            }
        )
        check_stage(model, stage)
        model.requires_grad_(False)
        for part in stage.trains:
            model.get_submodule(part).requires_grad_(True)
        if rival:
            check_adversary(model, stage, rival)

    def forward(
        self, x: Tensor, quality: Tensor, first: int, step: int, own: Tensor | None = None
    ) -> tuple[StepOutput, dict[str, Tensor]]:
        """What the objective makes of a :class:`Batch`, and each loss by its name in the recipe."""
        out = self.objective(Batch(x, quality, first, step, own))
        return out, {name: loss(out) for name, loss in self.losses.items()}


def check_stage(model: GLCModel, stage: Stage) -> None:
    """Raise ``ValueError`` for a stage that is not for this model."""
    check_parts(model, [*stage.trains, *stage.lr_scale], f"stage {stage.name!r}")
    video = isinstance(model, GLCVideo)
    if stage.uses("flicker") and not (video and stage.objective == "joint"):
        raise ValueError(f"stage {stage.name!r}: flicker compares frames, which a joint stage of a video model draws")
    if stage.uses("thumbnail_mse") and not isinstance(model.backbone, Thumbnails):
        raise ValueError(f"stage {stage.name!r}: thumbnail_mse needs a backbone that draws one, such as thumbnail")
    if stage.teacher and video:
        raise ValueError(f"stage {stage.name!r}: a teacher draws pictures, and this is a video model")
    if stage.crop % model.downsampling_factor:
        raise ValueError(f"stage {stage.name!r}: a crop of {stage.crop} is no multiple of {model.downsampling_factor}")
    if stage.own_latents and isinstance(model, GLCVideo):
        raise ValueError(f"stage {stage.name!r}: the latents of a video are not learned themselves")


def evaluate_frozen(model: GLCModel, stage: Stage) -> None:
    """Put what a stage does not train into evaluation mode, as it will be used: a codebook would go on learning by
    itself. The image model and the backbone of a video model belong to it."""
    learning = {name.partition(".")[0] for name in stage.trains}
    for name, part in model.named_children():
        if name not in learning:
            part.eval()
    if isinstance(model, GLCVideo):
        model.image.eval()
        model.get_submodule("backbone").eval()


def groups(module: StageModule, stage: Stage) -> list[dict]:
    """Parameter groups of an optimizer, by the multiple of the stage's learning rate: that of the longest name in
    ``lr_scale`` that fits."""
    found: dict[float, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parts = [part for part in stage.lr_scale if name.startswith(f"model.{part}.")]
            found.setdefault(stage.lr_scale[max(parts, key=len)] if parts else 1.0, []).append(parameter)
    return [{"params": parameters, "lr_scale": scale} for scale, parameters in found.items()]


@contextmanager
def checkpointed(model: GLCModel, stage: Stage) -> Iterator[None]:
    """While it lasts, residual blocks compute their activations again in the backward pass, if the stage says so."""
    blocks = [part for part in model.modules() if isinstance(part, Block)]
    with ExitStack() as stack:
        for block in blocks if stage.checkpointing else ():
            stack.enter_context(replaced(block, "forward", recomputed))
        yield


def recomputed(forward: Callable) -> Callable:
    return partial(checkpoint, forward, use_reentrant=False)


@contextmanager
def compiled(module: StageModule, stage: Stage) -> Iterator[None]:
    """While it lasts, ``torch.compile`` runs the backbone's ``networks`` and the losses, if the stage says so."""
    if not stage.compile:
        yield
        return
    backbone = module.model.backbone
    networks = backbone.networks if isinstance(backbone, Compiled) else ()
    donated = adversarial_loss(stage) is None  # the adaptive weight runs backward twice, and buffers have to last
    with functorch.patch(donated_buffer=donated), ExitStack() as stack:
        for part in (*networks, *module.losses.values()):
            stack.enter_context(replaced(part, "forward", partial(torch.compile, dynamic=False)))
        yield
