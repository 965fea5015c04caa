"""A Laplacian in the place of the Gaussian: sharper at zero, with longer tails."""

import torch
from torch import Tensor

from glc_toolkit.components.entropy.gaussian import GaussianTable
from glc_toolkit.components.entropy.tables import PRECISION


class EntropyModel(GaussianTable):
    """Residuals under a zero-mean Laplacian whose standard deviation is the scale."""

    def likelihood(self, symbols: Tensor, scales: Tensor) -> Tensor:
        """Probability of each symbol; in evaluation that of the coding tables."""
        symbols, scales = symbols.float(), scales.float()
        if self.training:
            return self.likelihood_lower_bound(mass(symbols, self.scale_bound(scales)))
        rows = self.rows(scales)
        probability = mass(symbols, self.scale_table[rows.clamp(min=0)])
        return torch.where(rows < 0, 1.0, probability.clamp(min=2.0**-PRECISION))

    def update(self, force: bool = False) -> bool:
        """Fill the coding tables; True if that was needed."""
        if self.tables_ready and not force:
            return False
        symbols = torch.arange(-self.max_symbol, self.max_symbol + 1, device=self.scale_table.device)
        pmf = mass(symbols[None].double(), self.scale_table.double()[:, None])
        self.set_tables(pmf, torch.full((len(pmf),), -self.max_symbol))
        return True


def mass(symbols: Tensor, scales: Tensor) -> Tensor:
    """Of a Laplacian on symbols +- 1/2."""
    rate = 2**0.5 / scales
    tail = torch.exp(-rate * (symbols.abs() - 0.5).clamp(min=0)) * -torch.expm1(-rate) / 2
    return torch.where(symbols == 0, -torch.expm1(-rate / 2), tail)
