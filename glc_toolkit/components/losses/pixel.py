"""Pixel distances."""

import torch.nn.functional as F
from torch import Tensor, nn

from glc_toolkit.types import StepOutput


class L1(nn.Module):
    """Mean absolute error of ``x_hat``."""

    def forward(self, out: StepOutput) -> Tensor:
        return F.l1_loss(out["x_hat"].float(), out["x"])


class Flicker(nn.Module):
    """How much the error of a video's frame differs from that of the frame before: mean absolute difference. It is zero
    if each frame has the same error as the one before."""

    def forward(self, out: StepOutput) -> Tensor:
        change = out["x"] - out["x_before"]
        return F.l1_loss(out["x_hat"].float() - out["x_hat_before"].float(), change)


class ThumbnailMSE(nn.Module):
    """Mean squared error of the thumbnail that a latent draws (``t_hat``) against that of ``x`` (``t``)."""

    def forward(self, out: StepOutput) -> Tensor:
        return F.mse_loss(out["t_hat"].float(), out["t"].float())
