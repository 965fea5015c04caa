"""Focal frequency loss (Jiang et al., ICCV 2021): hard frequencies weigh more."""

import torch
from torch import Tensor, nn


class FocalFrequency(nn.Module):
    """Squared distance of the spectra of ``x_hat`` and ``x``, weighted by its own size to the power ``alpha``."""

    def __init__(self, alpha: float = 1.0):
        super().__init__()
        self.alpha = alpha

    def forward(self, out: dict) -> Tensor:
        difference = torch.fft.rfft2(out["x_hat"].float() - out["x"], norm="ortho")
        distance = difference.real.square() + difference.imag.square()
        weight = distance.detach().sqrt() ** self.alpha
        weight = weight / weight.amax((-2, -1), keepdim=True).clamp(min=1e-12)
        return (weight * distance).mean()
