"""PSNR of the luma alone, where eyes are sharpest."""

import torch
from torch import Tensor, nn


class Metric(nn.Module):
    """Peak signal-to-noise ratio of BT.601 luma, in dB; 100 for equal images."""

    higher_is_better = True
    luma: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("luma", torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1))

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """``x_hat`` and ``x`` (B, 3, H, W) in [0, 1] -> (B,)."""
        mse = ((x_hat - x) * self.luma).sum(1).square().mean((1, 2))
        return (-10 * torch.log10(mse)).clamp(max=100.0)
