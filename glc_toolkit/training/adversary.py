"""The loss of a stage that has a discriminator, which learns in turn with the model."""

from functools import reduce

import torch
from lightning.fabric import Fabric
from torch import Tensor

from glc_toolkit import registry
from glc_toolkit.models import GLCModel
from glc_toolkit.training.recipe import Stage
from glc_toolkit.types import Balanced, StepOutput

BALANCE_EVERY = 10  # steps; measuring it costs a second pass back through the perceptual networks
PERCEPTUAL = ("l1", "lpips", "dists")  # what the adversarial term is balanced against


def adversarial_loss(stage: Stage) -> str | None:
    """The name of the loss that has a discriminator to train, if the stage has one."""
    known = registry.components("loss")
    found = [name for name in stage.losses if name in known and hasattr(known[name][0], "discriminator_loss")]
    if len(found) > 1:
        raise ValueError(f"stage {stage.name!r}: {' and '.join(found)} each have a discriminator; one is possible")
    return found[0] if found else None


def check_adversary(model: GLCModel, stage: Stage, name: str) -> None:
    """Raise ``ValueError`` for what would stop the run at step ``stage.gan_start``."""
    if stage.objective == "latent":
        raise ValueError(f"stage {stage.name!r}: {name} judges pictures, and objective latent makes none")
    if not hasattr(registry.components("loss")[name][0], "adaptive_weight"):
        return
    if not model.backbone.last_weight.requires_grad:
        raise ValueError(f"stage {stage.name!r}: {name} needs a stage that trains the generator")
    if not set(PERCEPTUAL) & set(stage.losses):
        known = " or ".join(PERCEPTUAL)
        raise ValueError(f"stage {stage.name!r}: {name} needs {known} among the losses, to balance its weight")


class Adversary:
    """The adversarial term of a stage: for the model a loss, :meth:`term`; for the discriminator a step,
    :meth:`learn`.

    Args:
        name: of the loss, as :func:`adversarial_loss` finds it.
        balance: the adaptive weight, as it was last measured.
    """

    def __init__(self, fabric: Fabric, stage: Stage, name: str, balance: float):
        self.fabric, self.name, self.start = fabric, name, stage.gan_start
        self.loss = registry.build("loss", {"name": name, "args": stage.losses[name].args}).train()
        self.learning = [p for p in self.loss.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.learning, lr=stage.lr, betas=(0.5, 0.9), weight_decay=0.0)
        self.engine, self.stepper = fabric.setup(self.loss, self.optimizer)
        self.engine.mark_forward_method("discriminator_loss")
        self.weights = {term: stage.losses[term].weight for term in PERCEPTUAL if term in stage.losses}
        self.balance = torch.tensor(balance, device=fabric.device)

    def term(self, out: StepOutput, terms: dict[str, Tensor], last_weight: Tensor, step: int) -> Tensor:
        """The generator's loss. ``balance`` is measured anew in every tenth step, from ``terms`` at ``last_weight``."""
        for parameter in self.learning:
            parameter.requires_grad_(False)
        term = self.engine(out)
        if (step - self.start) % BALANCE_EVERY == 0:
            self.balance = self.measured(term, terms, last_weight)
        for parameter in self.learning:
            parameter.requires_grad_(True)
        return term

    def measured(self, term: Tensor, terms: dict[str, Tensor], last_weight: Tensor) -> Tensor:
        """The weight that balances ``term``: the published one, from the gradients of both losses at the generator's
        last weight. It is 1 if the loss is not :class:`glc_toolkit.types.Balanced`."""
        if not isinstance(self.loss, Balanced):
            return term.new_ones(())
        pixels = reduce(torch.add, [weight * terms[name] for name, weight in self.weights.items()])
        grads = [torch.autograd.grad(loss, last_weight, retain_graph=True)[0] for loss in (pixels, term)]
        return self.loss.adaptive_weight(*grads)

    def learn(self, out: StepOutput) -> Tensor:
        """A step of the discriminator; returns its loss."""
        loss = self.engine.discriminator_loss(out)
        self.stepper.zero_grad()
        self.fabric.backward(loss)
        self.stepper.step()
        return loss
