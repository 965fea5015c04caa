"""Perceptual distances as losses. A model trained on one should say so beside its score on it."""

from torch import Tensor, nn

from glc_toolkit.components.metrics.dists import DISTS
from glc_toolkit.components.metrics.lpips import LPIPS


class PerceptualLoss(nn.Module):
    """A metric of the first ``fraction`` of the batch: VGG16 costs more than a light codec, and crops are in
    random order, so a part gives the same gradient on average."""

    def __init__(self, metric: nn.Module, fraction: float):
        super().__init__()
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction has to be in (0, 1], not {fraction}")
        self.metric = metric
        self.fraction = fraction

    def forward(self, out: dict) -> Tensor:
        count = max(1, round(self.fraction * len(out["x"])))
        return self.metric(out["x_hat"][:count], out["x"][:count]).mean()


class LPIPSLoss(PerceptualLoss):
    """LPIPS on ``net`` ("vgg" as in the paper, or "alex")."""

    def __init__(self, net: str = "vgg", fraction: float = 1.0):
        super().__init__(LPIPS(net), fraction)


class DISTSLoss(PerceptualLoss):
    """DISTS."""

    def __init__(self, fraction: float = 1.0):
        super().__init__(DISTS(), fraction)
