"""Nearest code by angle on the unit sphere (Yu et al., ICLR 2022), which keeps small codebooks in use."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from glc_toolkit.types import Quantized


class CosineQuantizer(nn.Module):
    """Latent and codes are compared, and passed on, with length ``sqrt(channels)``."""

    num_codebooks = 1

    def __init__(self, channels: int, codebook_size: int = 1024):
        super().__init__()
        self.codebook_size = codebook_size
        self.length = channels**0.5
        self.embedding = nn.Embedding(codebook_size, channels)

    def forward(self, l: Tensor) -> Quantized:
        unit = F.normalize(l, dim=1) * self.length
        similarity = rearrange(unit, "b c h w -> b h w c") @ F.normalize(self.embedding.weight, dim=1).T
        indices = similarity.argmax(-1)[:, None]
        codes = self.lookup(indices)
        loss = F.mse_loss(unit, codes.detach()) + 0.25 * F.mse_loss(codes, unit.detach())
        return Quantized(unit + (codes - unit).detach(), indices, loss)

    def lookup(self, indices: Tensor) -> Tensor:
        codes = F.normalize(self.embedding(indices[:, 0]), dim=-1) * self.length
        return rearrange(codes, "b h w c -> b c h w")
