"""Adversarial losses: hinge, with the adaptive weight of VQGAN (Esser et al., CVPR 2021)."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from glc_toolkit.components.losses.perceptual import check_fraction, part
from glc_toolkit.components.metrics.dists import DISTS
from glc_toolkit.types import StepOutput


class Adversary(nn.Module):
    """Adversarial term: ``loss(out)`` for the generator, ``discriminator_loss(out)`` for the discriminator.

    ``judge`` gives maps of numbers, higher for what looks real; the adaptive weight is clamped to [0, ``limit``].
    """

    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit

    def judge(self, x: Tensor) -> list[Tensor]:
        """``x`` (B, 3, H, W) in [0, 1] -> maps (B, 1, h, w)."""
        raise NotImplementedError

    def seen(self, out: StepOutput) -> tuple[Tensor, Tensor]:
        """What is judged of ``x`` and ``x_hat``."""
        return out["x"], out["x_hat"]

    def forward(self, out: StepOutput) -> Tensor:
        _, x_hat = self.seen(out)
        return -torch.stack([fake.mean() for fake in self.judge(x_hat)]).mean()

    def discriminator_loss(self, out: StepOutput) -> Tensor:
        x, x_hat = self.seen(out)
        reals, fakes = self.judge(x), self.judge(x_hat.detach())
        hinges = [F.relu(1 - real).mean() + F.relu(1 + fake).mean() for real, fake in zip(reals, fakes, strict=True)]
        return torch.stack(hinges).mean()

    def adaptive_weight(self, reconstruction: Tensor, adversarial: Tensor) -> Tensor:
        """From the gradients of both losses with respect to the same tensor, the generator's last weight."""
        return (reconstruction.norm() / (adversarial.norm() + 1e-4)).clamp(0, self.limit).detach()


class PatchGAN(Adversary):
    """A convolutional network that judges patches (Isola et al., CVPR 2017).

    Args:
        width: of the discriminator's first layer (64 as published).
        layers: strided layers after the first.
        limit: the adaptive weight is clamped to [0, limit].
    """

    def __init__(self, width: int = 64, layers: int = 3, limit: float = 1.0):
        super().__init__(limit)
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

    def judge(self, x: Tensor) -> list[Tensor]:
        return [self.discriminator(2 * x - 1).float()]


class ProjectedGAN(Adversary):
    """Small heads on the features of a frozen VGG16 (projected GAN, Sauer et al., NeurIPS 2021), pooled as in DISTS.

    A network that begins with random weights has to see very many pictures before it tells a real one by what matters;
    these features know already. They cost more than a light codec does, so that a part of a batch may do.

    Args:
        width: of the heads.
        limit: the adaptive weight is clamped to [0, limit].
        fraction: of a batch that is judged, its first pictures.
        side: of the random window of each that is judged, in pixels; ``None`` is all of it.
    """

    widths = DISTS.widths[1:5]  # of four stages; the fifth sees too much at once
    sizes: Tensor  #: of features, by stage; taken from the first pictures

    def __init__(self, width: int = 64, limit: float = 10.0, fraction: float = 1.0, side: int | None = None):
        super().__init__(limit)
        check_fraction(fraction)
        self.fraction, self.side = fraction, side
        self.vgg = DISTS()
        self.heads = nn.ModuleList(head(inputs, width, 2 if i < 2 else 1) for i, inputs in enumerate(self.widths))
        self.register_buffer("sizes", torch.zeros(len(self.widths)))

    def seen(self, out: StepOutput) -> tuple[Tensor, Tensor]:
        return part(out, self.fraction, self.side)

    def judge(self, x: Tensor) -> list[Tensor]:
        features = self.vgg.stages(x, len(self.widths))[1:]
        if not self.sizes.any():
            self.sizes.copy_(torch.stack([f.detach().square().mean().sqrt() for f in features]).clamp(min=1e-6))
        judged = zip(self.heads, features, self.sizes, strict=True)
        return [cast(Tensor, head(f / size)).float() for head, f, size in judged]


def head(inputs: int, width: int, stride: int) -> nn.Sequential:
    """Layers of a bounded slope, without batch statistics: a judgement depends on its picture alone."""
    return nn.Sequential(
        spectral_norm(nn.Conv2d(inputs, width, 1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, width, 3, stride, 1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, width, 3, 1, 1)),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 1, 1),
    )
