"""Crops that keep a latent of their own. The loss changes such a latent directly, with no encoder between.

A decoder that learns from an encoder's latents alone learns from the encoder's mistakes. From latents that are
optimized themselves, as :mod:`glc_toolkit.refine` optimizes that of one picture, it learns what is possible. Starting
each of them anew in every step (Kim et al., ICML 2018) would cost many passes a step. Latents that are kept take one
step of Adam whenever their crop is seen.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from glc_toolkit.training.recipe import Stage

FIRST = 2**40  # the number of the first sample that has a latent of its own


class OwnLatents(nn.Module):
    """The latents of ``stage.own_latents`` crops, and the state of their Adam. Each is seen once in a turn; the order
    of a turn is random."""

    mean_decay, square_decay = 0.5, 0.9  # short, as in `glc_toolkit.refine`: a crop is seen some 20 times
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
        """Start from what the encoder ``analysis`` makes of the crops."""
        for row, l in enumerate(self.l):
            x, _ = samples[FIRST + row]
            l.copy_(analysis(x[None].to(l.device).float() / 255)[0])

    def rows(self, first: int, count: int) -> list[int]:
        """The rows of the ``first``-th latent to be seen and of the ``count - 1`` after it."""
        turns = range(first // len(self.l), (first + count - 1) // len(self.l) + 1)
        order = np.concatenate([np.random.default_rng((self.seed, turn)).permutation(len(self.l)) for turn in turns])
        return order[first - turns[0] * len(self.l) :][:count].tolist()

    def take(self, rows: list[int]) -> Tensor:
        """A copy of the latents of ``rows``, which collects a gradient."""
        return self.l[rows].requires_grad_()

    @torch.no_grad()
    def step(self, rows: list[int], grad: Tensor, share: float) -> None:
        """Take a step against ``grad``, of the latents of ``rows`` (from one or several processes), at ``share`` of the
        learning rate."""
        grad = grad.reshape(-1, *self.l.shape[1:])
        self.visits[rows] += 1
        self.mean[rows] = torch.lerp(grad, self.mean[rows], self.mean_decay)
        self.square[rows] = torch.lerp(grad.square(), self.square[rows], self.square_decay)
        mean = self.mean[rows] / (1 - self.mean_decay ** self.visits[rows])
        square = self.square[rows] / (1 - self.square_decay ** self.visits[rows])
        self.l[rows] -= share * self.lr * self.l.std() * mean / (square.sqrt() + 1e-12)
