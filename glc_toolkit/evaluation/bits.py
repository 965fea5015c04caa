"""Where the bits of a picture go, by the model's own likelihoods."""

import torch
from torch import Tensor

from glc_toolkit.models.image import GLCImage


@torch.no_grad()
def bit_map(model: GLCImage, x: Tensor, quality: float | None = None) -> Tensor:
    """Bits of each position of the latent ``y``, (h, w), for a picture ``x`` (1, 3, H, W) in [0, 1].

    A position covers ``model.backbone.downsampling`` pixels each way; the last row and column may lie in the padding.
    The bits of a position of z are shared evenly by the positions of y that it covers. The sum is the size of the file
    within 1 % and 16 bytes, header included.
    """
    l = model.analysis(x.to(next(model.parameters()).device))
    quality = model.quality_of(model.quality_code(quality))  # what a file can hold
    likelihoods = model.code_latent(l, torch.tensor([quality], device=l.device))["likelihoods"]
    maps = [-p[0].float().log2().sum(0) for p in (likelihoods["y"], likelihoods["z"])]
    h, w = (max(sides) for sides in zip(*(m.shape for m in maps), strict=True))
    return torch.stack([spread(m, h // m.shape[0], w // m.shape[1]) for m in maps]).sum(0)


def spread(bits: Tensor, rows: int, columns: int) -> Tensor:
    """(h, w) -> (h * rows, w * columns) with the same sum."""
    return bits.repeat_interleave(rows, 0).repeat_interleave(columns, 1) / (rows * columns)
