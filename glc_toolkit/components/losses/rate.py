"""Rate: lambda times bits per pixel, one lambda a quality level, fixed or steered towards a target."""

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from glc_toolkit.types import Component, StepOutput


def bpp_estimate(likelihoods: Mapping[str, object], pixels: int) -> Tensor:
    """Estimated bits per pixel of each sample (B,), from the ``Likelihoods`` of a model."""
    tensors = cast(Mapping[str, Tensor], likelihoods)  # a TypedDict does not say that all its values are
    bits = [-p.float().log2().flatten(1).sum(1) for p in tensors.values()]
    return torch.stack(bits).sum(0) / pixels


class Rate(Component, nn.Module):
    """Rate term.

    Args:
        lmbda: weight of one bit per pixel, for each level (low rate first).
        target_bpp: if given, lambda follows the error of the rate, level by level, so that the average of training
            images arrives at these. In a distributed run the pictures of the first process steer for all.
        levels: of the model, where they are known; there have to be as many values.
        speed: how fast it follows, in relative change of lambda a step and relative error.
    """

    log_lmbda: Tensor
    target: Tensor | None
    example_args = {"lmbda": [4.0, 2.0, 1.0], "target_bpp": [0.02, 0.03, 0.04]}

    def __init__(
        self,
        lmbda: tuple[float, ...],
        target_bpp: tuple[float, ...] | None = None,
        speed: float = 0.01,
        levels: int | None = None,
    ):
        super().__init__()
        if levels is not None and len(lmbda) != levels:
            raise ValueError(f"{len(lmbda)} values of lmbda for the {levels} levels of the model")
        if target_bpp is not None and len(target_bpp) != len(lmbda):
            raise ValueError(f"{len(lmbda)} values of lmbda but {len(target_bpp)} of target_bpp")
        self.speed = speed
        self.register_buffer("log_lmbda", torch.tensor([math.log(v) for v in lmbda]))
        self.register_buffer("target", None if target_bpp is None else torch.tensor(target_bpp))

    def forward(self, out: StepOutput) -> Tensor:
        bpp = bpp_estimate(out["likelihoods"], out["x"].shape[-2] * out["x"].shape[-1])
        near = self.nearness(out["quality"])
        loss = ((near @ self.log_lmbda).exp() * bpp).mean()
        if self.target is not None and self.training:
            error = (bpp.detach() / (near @ self.target) - 1).clamp(-1, 1)
            self.log_lmbda += self.speed * (near * error[:, None]).sum(0) / len(error)
        return loss

    def nearness(self, quality: Tensor) -> Tensor:
        """Linear interpolation weights (B, levels)."""
        levels = torch.arange(len(self.log_lmbda), device=quality.device)
        return (1 - (quality[:, None] - levels).abs()).clamp(min=0)
