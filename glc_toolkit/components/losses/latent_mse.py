"""Distance in the latent: the decoder's latent against the encoder's."""

import torch.nn.functional as F
from torch import Tensor, nn


class LatentMSE(nn.Module):
    """Mean squared error of ``l_hat`` against ``l`` (GLC, stage II)."""

    def forward(self, out: dict) -> Tensor:
        return F.mse_loss(out["l_hat"].float(), out["l"].detach().float())
