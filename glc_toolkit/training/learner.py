"""All that learns in a stage, and the step it takes on a batch."""

from typing import cast

import torch
from lightning.fabric import Fabric
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset

from glc_toolkit.models import GLCModel
from glc_toolkit.training.adversary import Adversary, adversarial_loss
from glc_toolkit.training.batches import share_of
from glc_toolkit.training.log import TrainingError
from glc_toolkit.training.module import StageModule, evaluate_frozen, groups
from glc_toolkit.training.objectives import REMEDY
from glc_toolkit.training.own_latents import OwnLatents
from glc_toolkit.training.recipe import Stage
from glc_toolkit.types import StepOutput

RUNAWAY = 1e6  # of a loss, or of a latent: what is trained here stays far below


class Average(AveragedModel):
    """The average of a model's weights over the steps."""

    module: GLCModel


class Learner:
    """The model and its average, the losses, the adversary, the latents of their own, and the optimizer of each.

    ``modules`` and ``optimizers`` are what a state holds, by their names in its file.

    Args:
        balance: the adversary's adaptive weight, as it was last measured.
        seed: of the order of latents of their own.
    """

    def __init__(self, fabric: Fabric, stage: Stage, model: GLCModel, average: Average, balance: float, seed: int):
        self.fabric, self.stage, self.model, self.average = fabric, stage, model, average
        self.module = StageModule(model, stage).train().to(memory_format=torch.channels_last)
        self.weights = [p for p in self.module.parameters() if p.requires_grad]
        told = stage.optimizer
        optimizer = create_optimizer_v2(groups(self.module, stage), told.name, stage.lr, **told.args)
        self.modules: dict[str, nn.Module] = {"model": model, "average": average, "losses": self.module.losses}
        self.optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": optimizer}
        self.engine, self.optimizer = fabric.setup(self.module, optimizer)
        average.to(fabric.device)
        self.adversary = self.own = None
        if rival := adversarial_loss(stage):
            self.adversary = Adversary(fabric, stage, rival, balance)
            self.modules["gan"], self.optimizers["judge"] = self.adversary.loss, self.adversary.optimizer
        if stage.own_latents:
            side = stage.crop // model.backbone.downsampling
            self.own = OwnLatents(stage, model.backbone.latent_channels, side, seed).to(fabric.device)
            self.modules["own"] = self.own

    def begin(self, samples: Dataset) -> None:
        """Make ready for the first step of the stage."""
        if self.own is not None:
            self.own.begin(samples, self.model.backbone.analysis)

    def evaluate_frozen(self) -> None:
        """What the stage does not train works as in use from now on. Loading a state ends that."""
        evaluate_frozen(self.model, self.stage)
        evaluate_frozen(self.average.module, self.stage)

    def step(
        self, x: Tensor, quality: Tensor, first: int, step: int, share: float
    ) -> tuple[StepOutput, dict[str, Tensor]]:
        """Learn from ``x`` at ``share`` of the learning rate; returns what the losses saw, and numbers for the log.

        ``first`` and ``step`` are as in :class:`objectives.Batch`. Raises :class:`TrainingError` for a loss that runs
        away.
        """
        stage, own = self.stage, self.own
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr_scale"] * stage.lr * share

        # forward: the terms of the loss
        half, mine = stage.batch // 2, share_of(stage, self.fabric.world_size) // 2
        latents = None if own is None else own.take(own.rows(step * half + self.fabric.global_rank * mine, mine))
        out, terms = self.engine(x, quality, first, step, latents)
        total = cast(Tensor, sum(stage.losses[name].weight * term for name, term in terms.items()))
        adversary = self.adversary if step >= stage.gan_start else None
        if adversary is not None:
            terms[adversary.name] = adversary.term(out, terms, self.model.backbone.last_weight, step)
            terms["gan_weight"] = adversary.balance
            total = total + stage.losses[adversary.name].weight * adversary.balance * terms[adversary.name]
        check_runaway(total, terms, out, stage, step)

        # backward, and a step of each optimizer
        self.optimizer.zero_grad()
        self.fabric.backward(total)
        terms["grad_norm"] = nn.utils.clip_grad_norm_(self.weights, stage.clip)
        self.optimizer.step()
        if own is not None and latents is not None and latents.grad is not None:
            grad = cast(Tensor, self.fabric.all_gather(latents.grad))
            own.step(own.rows(step * half, half), grad, share)
        if adversary is not None:
            terms["discriminator"] = adversary.learn(out)
        # a young average forgets faster, or a short stage would end with the weights that it began with
        self.average.multi_avg_fn = get_ema_multi_avg_fn(min(stage.ema, (1 + step) / (10 + step)))
        self.average.update_parameters(self.model)
        return out, terms


def check_runaway(total: Tensor, terms: dict[str, Tensor], out: StepOutput, stage: Stage, step: int) -> None:
    """Raise :class:`TrainingError` for a loss that is not finite, or for a loss or a latent beyond ``RUNAWAY``."""
    largest = out["l_hat"].detach().float().abs().amax()
    if not torch.maximum(total.detach().abs(), largest) < RUNAWAY:  # NaN is not, either
        values = {name: float(term.detach()) for name, term in terms.items()}
        raise TrainingError(
            f"stage {stage.name!r}, step {step}: the loss is {float(total.detach())} ({values}), and the "
            f"latent reaches {float(largest):.3g}; {REMEDY[stage.objective]}"
        )
