"""CompressAI's factorized prior (Ballé et al., ICLR 2018) with tables of a fixed range, coded by constriction."""

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor

from glc_toolkit.components.entropy.tables import PRECISION, TableCoding


class FactorizedTable(TableCoding, EntropyBottleneck):
    """One learned density for each channel, on integers around its median.

    Args:
        channels: of ``z``.
        max_symbol: ``z`` is clamped to the median +- this.
    """

    def __init__(self, channels: int, max_symbol: int = 63):
        super().__init__(channels, entropy_coder_precision=PRECISION)
        self.max_symbol = max_symbol

    def medians(self) -> Tensor:
        return self._get_medians().detach().reshape(1, -1, 1, 1)

    def symbols(self, z: Tensor) -> Tensor:
        """Integers of ``z`` (B, C, h, w)."""
        return (z - self.medians()).round().clamp(-self.max_symbol, self.max_symbol)

    def rows(self, z: Tensor) -> Tensor:
        return torch.arange(z.shape[1], device=z.device).reshape(1, -1, 1, 1).expand_as(z)

    @torch.no_grad()
    def update(self, force: bool = False, update_quantiles: bool = False) -> bool:
        """Fill the coding tables; True if that was needed."""
        if self.tables_ready and not force:
            return False
        if update_quantiles:
            self._update_quantiles()
        samples = torch.arange(-self.max_symbol, self.max_symbol + 1, device=self.quantiles.device)
        pmf = self._likelihood(samples + self._get_medians())[0][:, 0]
        self.set_tables(pmf, torch.full((self.channels,), -self.max_symbol))
        return True
