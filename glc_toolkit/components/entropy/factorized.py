"""CompressAI's factorized prior (Ballé et al., ICLR 2018) with tables of a fixed range, coded by constriction."""

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor

from glc_toolkit.components.entropy.tables import PRECISION, TableCoding


def by_channel(values: Tensor, like: Tensor) -> Tensor:
    """``values``, one a channel, in the shape of ``like`` (B, C, ...)."""
    return values.reshape(1, -1, *(1 for _ in like.shape[2:])).expand_as(like)


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
        """Integers of ``z`` (B, C, ...)."""
        return (z - by_channel(self.medians(), z)).round().clamp(-self.max_symbol, self.max_symbol)

    def rows(self, z: Tensor) -> Tensor:
        return by_channel(torch.arange(self.channels, device=z.device), z)

    # The signatures of compressai's EntropyBottleneck.

    def compress(self, x: Tensor) -> list[bytes]:
        """One string for each sample of ``x`` (B, channels, ...); what is beyond the tables is clamped to them."""
        medians = by_channel(self.medians(), x)
        return super().compress(self.symbols(x) + medians, self.rows(x), medians)

    def decompress(self, strings: list[bytes], size: torch.Size) -> Tensor:
        """What :meth:`compress` wrote, (B, channels, *size)."""
        shape = (len(strings), self.channels, *size)
        like = torch.empty(shape, device=self.quantiles.device)
        medians = by_channel(self.medians(), like)
        return super().decompress(strings, self.rows(like), medians.dtype, medians)

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
