"""Code prediction: a transformer has to find the VQ-VAE's codes in the decoded latent (GLC, section 1.9)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from glc_toolkit.types import Component, StepOutput


class Layer(nn.Module):
    """Pre-norm transformer layer; positions are added to queries and keys, not to values."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.self_attn(h + position, h + position, h, need_weights=False)[0]
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class CodePrediction(Component, nn.Module):
    """Cross entropy of the predicted codes of ``l`` from ``l_hat``. Trained along, thrown away after.

    Args:
        latent_channels: width of ``l``.
        codebook_size: codes of the backbone's quantizer.
        positions: side of the latent of a training crop; others are interpolated.
        width, depth, heads: of the transformer.
    """

    needs_codes = True
    example_args = {"latent_channels": 16, "codebook_size": 64, "positions": 8, "width": 32, "depth": 1, "heads": 2}

    def __init__(
        self,
        latent_channels: int = 256,
        codebook_size: int = 16384,
        positions: int = 16,
        width: int = 512,
        depth: int = 9,
        heads: int = 8,
    ):
        super().__init__()
        self.position_emb = nn.Parameter(torch.zeros(positions**2, width))
        self.feat_emb = nn.Linear(latent_channels, width)
        self.ft_layers = nn.ModuleList(Layer(width, heads, 2 * width) for _ in range(depth))
        self.idx_pred_layer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, codebook_size, bias=False))

    def logits(self, l_hat: Tensor) -> Tensor:
        """``l_hat`` (B, C, h, w) -> (B, h * w, codes)."""
        side = round(len(self.position_emb) ** 0.5)
        position = self.position_emb.T.reshape(1, -1, side, side)
        if position.shape[-2:] != l_hat.shape[-2:]:
            position = F.interpolate(position, size=l_hat.shape[-2:], mode="bilinear", align_corners=True)
        position = rearrange(position, "1 c h w -> 1 (h w) c")
        x = self.feat_emb(rearrange(l_hat, "b c h w -> b (h w) c"))
        for layer in self.ft_layers:
            x = layer(x, position)
        return self.idx_pred_layer(x)

    def forward(self, out: StepOutput) -> Tensor:
        logits = self.logits(out["l_hat"])
        return F.cross_entropy(logits.float().flatten(0, 1), out["codes"].flatten())
