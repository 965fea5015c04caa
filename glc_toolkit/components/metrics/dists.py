"""DISTS (Ding et al., TPAMI 2020): structure and texture similarity on VGG16 with blurred pooling."""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from glc_toolkit.components.metrics.lpips import VGG_PIXELS, Features
from glc_toolkit.paths import shipped_zoo


class L2PooledVGG(Features):
    """VGG16 with every max-pooling replaced by the root of a Hann-weighted mean of squares."""

    blur: Tensor

    def __init__(self):
        super().__init__("vgg", load_file(shipped_zoo() / "lpips-vgg" / "model.safetensors"))
        hann = torch.tensor([0.5, 1.0, 0.5])
        self.register_buffer("blur", (hann[:, None] * hann / hann.sum() ** 2)[None, None])

    def downsample(self, h: Tensor) -> Tensor:
        kernel = self.blur.to(h.dtype).expand(h.shape[1], 1, 3, 3)
        return F.conv2d(h.square(), kernel, stride=2, padding=1, groups=h.shape[1]).add(1e-12).sqrt()


class DISTS(nn.Module):
    """Deep image structure and texture similarity; 0 for equal images. Differentiable; the network is frozen."""

    higher_is_better = False
    most_pixels = VGG_PIXELS
    widths = (3, 64, 128, 256, 512, 512)
    alpha: Tensor
    beta: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self):
        super().__init__()
        self.features = L2PooledVGG()
        weights = load_file(shipped_zoo() / "dists" / "model.safetensors")
        total = weights["alpha"].sum() + weights["beta"].sum()
        self.register_buffer("alpha", (weights["alpha"] / total).flatten())
        self.register_buffer("beta", (weights["beta"] / total).flatten())
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def stages(self, x: Tensor, count: int = 5) -> list[Tensor]:
        """``x`` (B, 3, H, W) in [0, 1] and the features of the first ``count`` stages of VGG16."""
        return [x.float(), *(f.float() for f in self.features((x - self.mean) / self.std, count))]

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        similarity = x_hat.new_zeros(len(x_hat), dtype=torch.float32)
        weights = zip(self.alpha.split(self.widths), self.beta.split(self.widths), strict=True)
        for a, b, (alpha, beta) in zip(self.stages(x_hat), self.stages(x), weights, strict=True):
            a_mean, b_mean = a.mean((2, 3), keepdim=True), b.mean((2, 3), keepdim=True)
            a_rest, b_rest = a - a_mean, b - b_mean
            variances = (a_rest.square() + b_rest.square()).mean((2, 3))
            covariance = (a_rest * b_rest).mean((2, 3))
            texture = ((2 * a_mean * b_mean + 1e-6) / (a_mean.square() + b_mean.square() + 1e-6)).flatten(1)
            structure = (2 * covariance + 1e-6) / (variances + 1e-6)
            similarity = similarity + (alpha * texture + beta * structure).sum(1)
        return 1 - similarity
