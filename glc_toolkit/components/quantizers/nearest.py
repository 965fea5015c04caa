"""The nearest-code quantizer of the paper: plain squared Euclidean distance, learned by gradient."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from glc_toolkit.types import Quantized


class NearestCode(nn.Module):
    """Nearest code of a table (van den Oord et al., 2017), with GLC's loss weights.

    The published loss weighs the commitment of the encoder 1 and the pull on the codebook ``beta`` = 0.25.
    """

    num_codebooks = 1

    def __init__(self, channels: int, codebook_size: int = 1024, beta: float = 0.25):
        super().__init__()
        self.codebook_size = codebook_size
        self.beta = beta
        self.embedding = nn.Embedding(codebook_size, channels)
        nn.init.uniform_(self.embedding.weight, -1 / codebook_size, 1 / codebook_size)

    def forward(self, l: Tensor) -> Quantized:
        flat = rearrange(l, "b c h w -> (b h w) c")
        table = self.embedding.weight.to(flat.dtype)
        # argmin |a - b|^2 = argmin |b|^2 - 2ab: |a|^2 is the same for every code
        nearest = torch.addmm(table.square().sum(1), flat, table.T, alpha=-2).argmin(1)
        indices = rearrange(nearest, "(b h w) -> b 1 h w", b=l.shape[0], h=l.shape[2])
        codes = self.lookup(indices).to(l.dtype)
        loss = F.mse_loss(l, codes.detach()) + self.beta * F.mse_loss(codes, l.detach())
        return Quantized(l + (codes - l).detach(), indices, loss)

    def lookup(self, indices: Tensor) -> Tensor:
        return rearrange(self.embedding(indices[:, 0]), "b h w c -> b c h w")
