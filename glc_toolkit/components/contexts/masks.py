"""Coding orders as boolean masks (1, C, h, w), one a pass."""

import torch
from torch import Tensor

# Position a (even row, even column), b, c, d of each 2x2 cell by pass (rows) and channel group (columns): GLC, 1.6.
FOUR_PART = ("abcd", "dcba", "cdab", "badc")


def four_part(y: Tensor) -> list[Tensor]:
    """Four passes over a 2x2 pattern that differs between four groups of channels."""
    _, channels, height, width = y.shape
    rows = torch.arange(height, device=y.device)[:, None] % 2
    columns = torch.arange(width, device=y.device)[None] % 2
    position = 2 * rows + columns
    group = torch.arange(channels, device=y.device) * 4 // channels
    order = torch.tensor([["abcd".index(p) for p in row] for row in FOUR_PART], device=y.device)
    return [order[k][group][None, :, None, None] == position for k in range(4)]


def checkerboard(y: Tensor) -> list[Tensor]:
    """Two passes: first the even squares of the first half of the channels and the odd ones of the second."""
    _, channels, height, width = y.shape
    rows = torch.arange(height, device=y.device)[:, None]
    columns = torch.arange(width, device=y.device)[None]
    odd = ((rows + columns) % 2).bool()
    second = (torch.arange(channels, device=y.device) * 2 // channels).bool()[:, None, None]
    first_pass = (odd == second)[None]
    return [first_pass, ~first_pass]
