"""A discriminator that names the VQ-VAE's codes (Muckley et al., ICML 2023), on the codes of the model at hand."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MADE_UP = 0  # the class of what a generator made; a code's is one more than its index


class LabelledGAN(nn.Module):
    """Adversarial term of classes: cross entropy of each position's code, or of being made up.

    Args:
        codebook_size: codes of the backbone's quantizer.
        width: of the first layer; each of the others has twice that of the one before, up to eight times.
        layers: strided by two; 2 ** layers pixels to a position, which has to be the backbone's downsampling.
        limit: the adaptive weight is clamped to [0, limit].
    """

    needs_codes = True
    example_args = {"codebook_size": 64, "width": 8}

    def __init__(self, codebook_size: int, width: int = 64, layers: int = 4, limit: float = 1.0):
        super().__init__()
        self.limit = limit
        widths = [3, *(width * min(2**i, 8) for i in range(layers))]
        body: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            body += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.GroupNorm(4, outputs), nn.LeakyReLU(0.2)]
        body += [nn.Conv2d(widths[-1], widths[-1], 3, padding=1), nn.LeakyReLU(0.2)]
        self.discriminator = nn.Sequential(*body, nn.Conv2d(widths[-1], 1 + codebook_size, 1))

    def logits(self, x: Tensor) -> Tensor:
        """``x`` (B, 3, H, W) in [0, 1] -> (B, 1 + codebook_size, h, w)."""
        return self.discriminator(2 * x - 1).float()

    @staticmethod
    def labels(out: dict) -> Tensor:
        """(B, h, w) of what the real pictures are."""
        return out["codes"][:, 0].long() + 1

    def forward(self, out: dict) -> Tensor:
        return F.cross_entropy(self.logits(out["x_hat"]), self.labels(out))

    def discriminator_loss(self, out: dict) -> Tensor:
        real, made = self.logits(out["x"]), self.logits(out["x_hat"].detach())
        labels = self.labels(out)
        return F.cross_entropy(real, labels) + F.cross_entropy(made, torch.full_like(labels, MADE_UP))

    def adaptive_weight(self, reconstruction: Tensor, adversarial: Tensor) -> Tensor:
        """From the gradients of both losses with respect to the same tensor, the generator's last weight."""
        return (reconstruction.norm() / (adversarial.norm() + 1e-4)).clamp(0, self.limit).detach()
