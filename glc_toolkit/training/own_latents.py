"""Crops that keep a latent of their own: it is learned as the networks are, with no encoder between it and the loss.

A decoder that has only seen what an encoder makes of pictures is taught by that encoder's mistakes. From latents that
are descended on themselves, as :mod:`glc_toolkit.refine` does for one picture, it learns what is possible. Descending
afresh in every step (Kim et al., ICML 2018) would make a step cost that many; latents that are kept go on a step
whenever their crop is seen.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from glc_toolkit.training.recipe import Stage

FIRST = 2**40  # number of the first sample that has a latent of its own


class OwnLatents(nn.Module):
    """The latents of ``stage.own_latents`` crops, and the moments of an Adam for them. All pass in an order that is
    drawn anew every time."""

    mean_decay, square_decay = 0.5, 0.9  # as few steps want it (`glc_toolkit.refine`): a crop is seen some 20 times
    l: Tensor
    mean: Tensor
    square: Tensor
    visits: Tensor

    def __init__(self, stage: Stage, channels: int, side: int, seed: int):
        super().__init__()
        for name in ("l", "mean", "square"):
            self.register_buffer(name, torch.zeros(stage.own_latents, channels, side, side))
        self.register_buffer("visits", torch.zeros(stage.own_latents, 1, 1, 1))
        self.lr, self.seed = stage.own_lr, seed

    @torch.no_grad()
    def begin(self, samples: Dataset, analysis: Callable[[Tensor], Tensor]) -> None:
        """Start from what an encoder makes of the crops."""
        for row, l in enumerate(self.l):
            x, _ = samples[FIRST + row]
            l.copy_(analysis(x[None].to(l.device).float() / 255)[0])

    def rows(self, first: int, count: int) -> list[int]:
        """Which latents are the ``first``-th to be seen and the ``count - 1`` after it."""
        turns = range(first // len(self.l), (first + count - 1) // len(self.l) + 1)
        order = np.concatenate([np.random.default_rng((self.seed, turn)).permutation(len(self.l)) for turn in turns])
        return order[first - turns[0] * len(self.l) :][:count].tolist()

    def take(self, rows: list[int]) -> None:
        """Make ``taken`` the latents of ``rows``, to be given a gradient."""
        self.taken = self.l[rows].requires_grad_()

    @torch.no_grad()
    def step(self, rows: list[int], grad: Tensor, share: float) -> None:
        """Descend on the latents of ``rows`` at ``share`` of the rate."""
        self.visits[rows] += 1
        self.mean[rows] = torch.lerp(grad, self.mean[rows], self.mean_decay)
        self.square[rows] = torch.lerp(grad.square(), self.square[rows], self.square_decay)
        mean = self.mean[rows] / (1 - self.mean_decay ** self.visits[rows])
        square = self.square[rows] / (1 - self.square_decay ** self.visits[rows])
        self.l[rows] -= share * self.lr * self.l.std() * mean / (square.sqrt() + 1e-12)
