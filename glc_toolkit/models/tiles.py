"""A backbone over pictures that are too large for it: in tiles that overlap, blended where they do.

Tiles start at multiples of 32 latents, the window of the VQGAN's attention, so that positions attend to the same others
as in the whole picture. What lies beyond a tile's edge is missing in the features near it: of the 32 latents that two
tiles share, the 8 next to either's edge are not used, and the 16 between go over from one to the other linearly. Only
an average over all positions, as group normalization takes, differs between a tile and the whole; the blend spreads
that over 256 pixels where a latent has 16.
"""

from collections.abc import Callable

import torch
from torch import Tensor

SIDE = 128  # of a tile, in latents
OVERLAP = 32
UNUSED = 8


def tiled(half: Callable[[Tensor], Tensor], t: Tensor, cell_in: int, cell_out: int, overlap: int = OVERLAP) -> Tensor:
    """``half`` of ``t`` (B, C, h * cell_in, w * cell_in), ``cell_in`` positions giving ``cell_out`` on each side:
    in one piece where it has no more latents (h * w) than a tile, else in tiles that share ``overlap`` latents."""
    height, width = t.shape[2] // cell_in, t.shape[3] // cell_in
    if height * width <= SIDE**2:
        return half(t)
    out = t.new_zeros(0)
    for top, bottom in spans(height, SIDE, overlap):
        for left, right in spans(width, SIDE, overlap):
            part = half(t[..., top * cell_in : bottom * cell_in, left * cell_in : right * cell_in])
            if not out.numel():
                out = part.new_zeros(*part.shape[:2], height * cell_out, width * cell_out)
            part *= share(top, bottom, height, cell_out, overlap).to(part)[:, None]
            part *= share(left, right, width, cell_out, overlap).to(part)
            out[..., top * cell_out : bottom * cell_out, left * cell_out : right * cell_out] += part
    return out


def spans(length: int, side: int = SIDE, overlap: int = OVERLAP) -> list[tuple[int, int]]:
    """Start and end of the tiles along a side of so many latents."""
    starts = range(0, max(length - overlap, 1), side - overlap)
    return [(start, min(start + side, length)) for start in starts]


def share(start: int, end: int, length: int, cell: int, overlap: int = OVERLAP) -> Tensor:
    """Weight of a tile at each of its positions, ``cell`` a latent; those of all tiles add up to one."""
    inside = (torch.arange((end - start) * cell) + 0.5) / cell
    unused = overlap * UNUSED // OVERLAP
    blend = overlap - 2 * unused
    weight = torch.ones_like(inside)
    if start > 0:
        weight = ((inside - unused) / blend).clamp(0, 1)
    if end < length:
        weight = weight * (1 - (inside - (end - start - overlap) - unused) / blend).clamp(0, 1)
    return weight
