"""Gaussian conditional on a table of scales, coding the rounded residual itself."""

import math

import torch
from compressai.entropy_models import EntropyModel
from compressai.ops import LowerBound
from torch import Tensor

from glc_toolkit.components.entropy.tables import PRECISION, TableCoding
from glc_toolkit.components.layers import round_ste


class GaussianTable(TableCoding, EntropyModel):
    """Zero-mean Gaussian on integer residuals. An element whose scale is below the first of the table is not coded.

    Training takes the scale as it is, but no less than ``scale_min``. Evaluation takes the nearest scale of the table,
    and so estimates the very bits that are written.

    Args:
        scale_min: low end of the table, in units of the quantization step.
        scale_max: its high end.
        scale_levels: its length, spaced evenly in the logarithm.
        max_symbol: residuals are clamped to +- this.
        skip: False codes every element, one below the table with its first row: for weights that were trained without
            a bound and put symbols there. A zero costs next to nothing there, another symbol up to 24 bits.
    """

    scale_table: Tensor

    def __init__(
        self,
        scale_min: float = 0.11,
        scale_max: float = 32.0,
        scale_levels: int = 64,
        max_symbol: int = 127,
        skip: bool = True,
    ):
        super().__init__(entropy_coder_precision=PRECISION)
        self.max_symbol = max_symbol
        self.skip = skip
        logs = torch.linspace(math.log(scale_min), math.log(scale_max), scale_levels, dtype=torch.float64)
        self.register_buffer("scale_table", logs.exp().float())
        self.scale_bound = LowerBound(scale_min)

    def quantize_residual(self, residual: Tensor, scales: Tensor) -> Tensor:
        """Symbols of ``residual`` (B, ...), as floats with a straight-through gradient."""
        symbols = round_ste(residual).clamp(-self.max_symbol, self.max_symbol)
        return symbols if self.training else symbols * self.coded(scales)

    def coded(self, scales: Tensor) -> Tensor:
        """Whether each element is coded, by its scale."""
        return scales >= self.scale_table[0] if self.skip else torch.ones_like(scales, dtype=torch.bool)

    def rows(self, scales: Tensor) -> Tensor:
        """Row of the table nearest to each scale, -1 for those not coded."""
        middles = (self.scale_table[:-1].double() * self.scale_table[1:].double()).sqrt().to(scales.dtype)
        rows = torch.bucketize(scales.contiguous(), middles)
        return torch.where(self.coded(scales), rows, -1)

    def likelihood(self, residual: Tensor, scales: Tensor) -> Tensor:
        """Probability of the symbol that each ``residual`` rounds to (a symbol is its own), in float32 or better.

        In training its logarithm has two gradients: to the scales, that of the symbol's bits; to the residual, that of
        :meth:`soft_bits`, as bits are constant where rounding is, which is nearly everywhere.
        """
        residual, scales = residual.float(), scales.float()
        symbols = residual.detach().round().clamp(-self.max_symbol, self.max_symbol)
        if self.training:
            scales = self.scale_bound(scales)
            bits = self.soft_bits(residual, scales.detach())
            return self.likelihood_lower_bound(self.mass(symbols, scales)) * (bits.detach() - bits).exp()
        rows = self.rows(scales)
        probability = self.mass(symbols, self.scale_table[rows.clamp(min=0)])
        return torch.where(rows < 0, 1.0, probability.clamp(min=2.0**-PRECISION))  # no less in the coding tables

    def soft_bits(self, residual: Tensor, scales: Tensor) -> Tensor:
        """Bits (to base e) that rise from one symbol's to the next one's between a quarter and three quarters."""
        below = residual.detach().floor()
        up = (2 * (residual - below) - 0.5).clamp(0, 1)
        first, second = (-self.likelihood_lower_bound(self.mass(below + i, scales)).log() for i in (0, 1))
        return first + up * (second - first)

    def forward(self, y: Tensor, scales: Tensor, means: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """CompressAI's signature: ``y_hat`` and the likelihoods, both in the shape of ``y``."""
        means = torch.zeros_like(y) if means is None else means
        symbols = self.quantize_residual(y - means.detach(), scales)
        return symbols + means, self.likelihood(y - means if self.training else symbols, scales)

    def update(self, force: bool = False) -> bool:
        """Fill the coding tables; True if that was needed."""
        if self.tables_ready and not force:
            return False
        symbols = torch.arange(-self.max_symbol, self.max_symbol + 1, dtype=torch.float64)
        pmf = self.mass(symbols[None], self.scale_table.double().cpu()[:, None])
        self.set_tables(pmf.to(self.scale_table.device), torch.full((len(pmf),), -self.max_symbol))
        return True

    def mass(self, symbols: Tensor, scales: Tensor) -> Tensor:
        """Probability of symbols +- 1/2 under N(0, scales), computed in the tail that keeps its digits. A subclass with
        another distribution overrides this."""
        distance = symbols.abs()
        return standard_cdf((0.5 - distance) / scales) - standard_cdf((-0.5 - distance) / scales)


def standard_cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-x * 0.5**0.5)
