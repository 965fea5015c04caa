"""PSNR and MS-SSIM."""

import torch
from torch import Tensor, nn


class PSNR(nn.Module):
    """Peak signal-to-noise ratio over RGB, in dB; 100 for equal images."""

    higher_is_better = True

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        mse = (x_hat - x).square().mean((1, 2, 3))
        return (-10 * torch.log10(mse)).clamp(max=100.0)


class MSSSIM(nn.Module):
    """Multi-scale structural similarity (Wang et al., 2003) as pytorch-msssim computes it.

    Its five scales need sides above 160 pixels; smaller images have no value (NaN).
    """

    higher_is_better = True
    shortest_side = 161

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        from pytorch_msssim import ms_ssim

        if min(x.shape[-2:]) < self.shortest_side:
            return x.new_full((len(x),), float("nan"))
        return ms_ssim(x_hat, x, data_range=1.0, size_average=False)
