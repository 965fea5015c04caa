"""Distance in the latent: the decoder's latent against the encoder's."""

import torch.nn.functional as F
from torch import Tensor, nn

from glc_toolkit.types import StepOutput


class LatentMSE(nn.Module):
    """Mean squared error of ``l_hat`` against ``l`` (GLC, stage II)."""

    def forward(self, out: StepOutput) -> Tensor:
        return F.mse_loss(out["l_hat"].float(), out["l"].detach().float())
