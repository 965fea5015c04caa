"""Hinge PatchGAN with the adaptive weight of VQGAN (Esser et al., CVPR 2021; Isola et al., CVPR 2017)."""

import torch.nn.functional as F
from torch import Tensor, nn


class PatchGAN(nn.Module):
    """Adversarial term: ``loss(out)`` for the generator, ``discriminator_loss(out)`` for the discriminator.

    Args:
        width: of the discriminator's first layer (64 as published).
        layers: strided layers after the first.
        limit: the adaptive weight is clamped to [0, limit].
    """

    def __init__(self, width: int = 64, layers: int = 3, limit: float = 1.0):
        super().__init__()
        self.limit = limit
        widths = [width * min(2**i, 8) for i in range(layers + 1)]
        body: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i in range(layers):
            body += self.block(widths[i], widths[i + 1], stride=2)
        body += self.block(widths[-1], widths[-1], stride=1)
        body.append(nn.Conv2d(widths[-1], 1, 4, 1, 1))
        self.discriminator = nn.Sequential(*body)
        for module in self.discriminator.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    @staticmethod
    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, 4, stride, 1, bias=False),
            nn.BatchNorm2d(outputs, track_running_stats=False),
            nn.LeakyReLU(0.2),
        ]

    def judge(self, x: Tensor) -> Tensor:
        return self.discriminator(2 * x - 1).float()

    def forward(self, out: dict) -> Tensor:
        return -self.judge(out["x_hat"]).mean()

    def discriminator_loss(self, out: dict) -> Tensor:
        real, fake = self.judge(out["x"]), self.judge(out["x_hat"].detach())
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def adaptive_weight(self, reconstruction: Tensor, adversarial: Tensor) -> Tensor:
        """From the gradients of both losses with respect to the same tensor, the generator's last weight."""
        return (reconstruction.norm() / (adversarial.norm() + 1e-4)).clamp(0, self.limit).detach()
