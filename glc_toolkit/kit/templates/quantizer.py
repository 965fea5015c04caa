"""The nearest code of a learned table, which follows the codes' gradient."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glc_toolkit.types import Quantized


class Quantizer(nn.Module):
    """Nearest code by Euclidean distance.

    Args:
        channels: of the latent.
        codebook_size: codes to choose from.
        commitment: how strongly the latent is drawn to its code.
    """

    num_codebooks = 1

    def __init__(self, channels: int, codebook_size: int = 1024, commitment: float = 0.25):
        super().__init__()
        self.codebook_size = codebook_size
        self.commitment = commitment
        self.codes = nn.Embedding(codebook_size, channels)

    def forward(self, l: Tensor) -> Quantized:
        """``l`` (B, C, h, w) -> values with the gradient of the identity, indices (B, 1, h, w), and a loss."""
        flat = l.movedim(1, -1).flatten(0, 2)
        nearest = torch.cdist(flat.float(), self.codes.weight.float()).argmin(-1)
        indices = nearest.reshape(len(l), 1, *l.shape[-2:])
        values = self.lookup(indices).to(l.dtype)
        loss = F.mse_loss(values, l.detach()) + self.commitment * F.mse_loss(l, values.detach())
        return Quantized(l + (values - l).detach(), indices, loss)

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (B, 1, h, w) -> values (B, C, h, w): what a decoder does."""
        return self.codes(indices[:, 0]).movedim(-1, 1)
