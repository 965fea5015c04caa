"""A backbone over pictures that are too large for it: in overlapping tiles, which are blended.

Tiles start at multiples of 32 latents, the window of the VQGAN's attention: a position attends to the same others as in
the whole picture. Features near the edge of a tile miss what lies beyond it. Two tiles share 32 latents; the 8 next to
either edge are not used, and in the 16 between, one tile fades linearly into the other. Only an average over all
positions, as in group normalization, differs between a tile and the whole picture. The blend spreads that difference
over 256 pixels if a latent has 16.
"""

from collections.abc import Callable

import torch
from torch import Tensor

SIDE = 128  # of a tile, in latents
OVERLAP = 32
UNUSED = 8


def tiled(half: Callable[[Tensor], Tensor], t: Tensor, cell_in: int, cell_out: int, overlap: int = OVERLAP) -> Tensor:
    """Run ``half`` of a backbone on ``t`` (B, C, h * cell_in, w * cell_in) -> (B, C', h * cell_out, w * cell_out).

    ``t`` goes through in one piece if it has no more latents (h * w) than a tile, and otherwise in tiles that share
    ``overlap`` latents. Raises ``ValueError`` for an overlap by which three tiles would meet, or none."""
    if not 0 < overlap <= 2 * SIDE // 3:
        raise ValueError(f"tiles of {SIDE} latents overlap by 1 to {2 * SIDE // 3}, not by {overlap}")
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
    """Start and end of each tile along a side of ``length`` latents."""
    starts = range(0, max(length - overlap, 1), side - overlap)
    return [(start, min(start + side, length)) for start in starts]


def share(start: int, end: int, length: int, cell: int, overlap: int = OVERLAP) -> Tensor:
    """Weight of a tile at each of its positions, ``cell`` of them a latent. The weights of all tiles add up to one."""
    inside = (torch.arange((end - start) * cell) + 0.5) / cell
    unused = overlap * UNUSED // OVERLAP
    blend = overlap - 2 * unused
    weight = torch.ones_like(inside)
    if start > 0:
        weight = ((inside - unused) / blend).clamp(0, 1)
    if end < length:
        weight = weight * (1 - (inside - (end - start - overlap) - unused) / blend).clamp(0, 1)
    return weight
