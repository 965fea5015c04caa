"""Pixel distance."""

import torch.nn.functional as F
from torch import Tensor, nn


class L1(nn.Module):
    """Mean absolute error of ``x_hat``."""

    def forward(self, out: dict) -> Tensor:
        return F.l1_loss(out["x_hat"].float(), out["x"])
