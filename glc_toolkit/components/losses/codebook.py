"""The quantizers' own losses: commitment and codebook terms."""

from typing import cast

from torch import Tensor, nn

from glc_toolkit.types import StepOutput


class Codebook(nn.Module):
    """Sum of the losses that the backbone's and the hyper module's quantizers report."""

    def forward(self, out: StepOutput) -> Tensor:
        return cast(Tensor, sum(out[key] for key in ("codebook_loss", "hyper_loss") if key in out))
