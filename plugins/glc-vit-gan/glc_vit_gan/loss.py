"""DISTS, and beside it what a ViT takes for real: both compare features, neither asks for the same pixels."""

import torch.nn.functional as F
from torch import Tensor, nn

from glc_toolkit.components.metrics.dists import DISTS
from glc_vit_gan.discriminator import ViTDiscriminator


class DISTSViTGAN(nn.Module):
    """``loss(out)`` for the generator: DISTS + ``adversarial`` * hinge; ``discriminator_loss(out)`` for the heads.

    A fixed share takes the place of the adaptive weight of ``gan``: heads with a bounded slope cannot run away.

    Args:
        vit: a plain vision transformer, by its name in timm.
        pretrained: fetch its weights.
        depths: blocks whose outputs are judged.
        width: of the discriminator's heads.
        adversarial: weight of the adversarial part against DISTS.
    """

    example_args = {"vit": "test_vit", "pretrained": False, "depths": [1, -1], "width": 16}

    def __init__(
        self,
        vit: str = "vit_small_patch16_224.dino",
        pretrained: bool = True,
        depths: tuple[int, ...] = (2, 5, 8, -1),
        width: int = 128,
        adversarial: float = 0.1,
    ):
        super().__init__()
        self.dists = DISTS()
        self.discriminator = ViTDiscriminator(vit, pretrained, depths, width)
        self.adversarial = adversarial

    def forward(self, out: dict) -> Tensor:
        realism = self.discriminator(out["x_hat"]).mean()
        return self.dists(out["x_hat"], out["x"]).mean() - self.adversarial * realism

    def discriminator_loss(self, out: dict) -> Tensor:
        real, fake = self.discriminator(out["x"]), self.discriminator(out["x_hat"].detach())
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
