"""How a field of motion is coded: coarse to fine, each vector against the mean of those around it that are known."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from glc_toolkit.components.entropy.categorical import CategoricalTable
from glc_toolkit.components.temporals.motion import BIT, MOST, Search, better
from glc_toolkit.types import SymbolDecoder, SymbolEncoder

LARGEST = 2 * MOST  # difference of a vector from the expected one, in each direction
APART = (0, 2, 8)  # a table each for vectors around that are no further apart than this, and one for all others
SCALES = (0.05, 0.2, 1, 2, 0.2, 0.5, 1, 4)  # widths of the tables at first: four where no motion is expected, then four


class FieldCoder(nn.Module):
    """Fields (B, 2, rows, columns) <-> symbols. The tables are chosen by the vectors around, and learn with a model."""

    def __init__(self):
        super().__init__()
        self.entropy_model = CategoricalTable(2 * LARGEST + 1, len(SCALES))
        with torch.no_grad():  # most vectors are nearly the expected ones
            distance = torch.arange(-LARGEST, LARGEST + 1).abs()
            logits = -2 * torch.log1p(distance / torch.tensor(SCALES)[:, None])
            self.entropy_model.logits.copy_(logits / self.entropy_model.speed)

    def likelihood(self, field: Tensor) -> Tensor:
        """Of each symbol of a field, (B, 2, rows, columns)."""
        table = self.entropy_model.log_probability().exp()
        known, out = torch.zeros_like(field), torch.ones_like(field, dtype=table.dtype)
        for place, expected, rows in steps(known):
            out[place] = table[rows, field[place] - expected + LARGEST]
            known[place] = field[place]
        return out

    def put(self, encoder: SymbolEncoder, field: Tensor) -> None:
        """Write the field (1, 2, rows, columns) of one frame."""
        known = torch.zeros_like(field)
        for place, expected, rows in steps(known):
            self.entropy_model.put(encoder, (field[place] - expected + LARGEST).reshape(-1), rows.reshape(-1))
            known[place] = field[place]

    def get(self, decoder: SymbolDecoder, shape: tuple[int, int]) -> Tensor:
        """Read the field (1, 2, *shape) of one frame."""
        known = torch.zeros(1, 2, *shape, dtype=torch.int64, device=self.entropy_model.logits.device)
        for place, expected, rows in steps(known):
            symbols = self.entropy_model.get(decoder, rows.reshape(-1)).reshape(rows.shape)
            known[place] = (symbols - LARGEST + expected).clamp(-MOST, MOST)
        return known

    @torch.no_grad()
    def worthwhile(self, field: Tensor, search: Search) -> Tensor:
        """``field``, where a vector becomes the expected one, or zero, if the bits saved are worth more than the error
        added."""
        bits = -self.entropy_model.log_probability() / math.log(2)
        known, still = torch.zeros_like(field), torch.zeros_like(field)
        errors = {"own": search.error(field), "still": search.error(still)}
        for place, expected, rows in steps(known):
            known[place] = expected
            choices = (known.clone(), search.error(known)), (field, errors["own"]), (still, errors["still"])
            least = torch.full_like(errors["own"][place], torch.inf)
            for vectors, error in choices:
                cost = error[place] + BIT * bits[rows, vectors[place] - expected + LARGEST].sum(1)
                known[place], least = better(known[place], least, vectors[place], cost)
        return known


def steps(known: Tensor) -> Iterator[tuple[tuple, Tensor, Tensor]]:
    """The order in which the vectors of a field are coded, coarse to fine. Each step gives the place of its vectors in
    the field, and, both (B, 2, rows, columns), the vectors expected there and the tables of their difference. Fill in
    the vectors of a step in ``known`` before asking for the next step."""
    height, width = known.shape[2:]
    yield from step(known, (0, 0), (height, width), ())
    stride = 1 << (max(height, width) - 1).bit_length()
    while stride > 1:
        half = stride // 2
        across = ((-half, -half), (-half, half), (half, -half), (half, half))
        beside = ((-half, 0), (half, 0), (0, -half), (0, half))
        yield from step(known, (half, half), (stride, stride), across)
        yield from step(known, (0, half), (stride, stride), beside)
        yield from step(known, (half, 0), (stride, stride), beside)
        stride = half


def step(known: Tensor, first: tuple[int, int], strides: tuple[int, int], around: tuple) -> Iterator:
    """One step: every so many blocks from the ``first`` on, expected to move as the mean of those ``around``."""
    height, width = known.shape[2:]
    if first[0] >= height or first[1] >= width:
        return
    down = torch.arange(first[0], height, strides[0], device=known.device)
    right = torch.arange(first[1], width, strides[1], device=known.device)
    place = (..., slice(first[0], None, strides[0]), slice(first[1], None, strides[1]))
    total, count = torch.zeros_like(known[place]), torch.zeros_like(known[place])
    low, high = count + 4 * LARGEST, count - 4 * LARGEST
    for d, r in around:
        there = ((down + d >= 0) & (down + d < height))[:, None] & ((right + r >= 0) & (right + r < width))
        vectors = known[:, :, (down + d).clamp(0, height - 1)][..., (right + r).clamp(0, width - 1)]
        total, count = total + vectors * there, count + there
        low, high = torch.where(there, low.minimum(vectors), low), torch.where(there, high.maximum(vectors), high)
    expected = torch.div(2 * total + count, (2 * count).clamp(min=1), rounding_mode="floor")
    apart = torch.where(count == 0, LARGEST, high - low).amax(1, keepdim=True)
    moves = (expected != 0).any(1, keepdim=True)
    rows = torch.bucketize(apart, torch.tensor(APART, device=known.device)) + (len(APART) + 1) * moves
    yield place, expected, rows.expand_as(expected)
