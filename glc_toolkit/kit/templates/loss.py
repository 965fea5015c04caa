"""Edges weigh as much as colours: the distance of neighbouring differences."""

from torch import Tensor, nn


class Loss(nn.Module):
    """Mean absolute difference of the horizontal and vertical gradients of ``x_hat`` and ``x``."""

    def forward(self, out: dict) -> Tensor:
        """``out`` holds what a training step knows: see ``glc_toolkit.components.losses``."""
        error = out["x_hat"] - out["x"]
        return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
