"""The classic hyperprior (Ballé et al., ICLR 2018) in the place of the categorical one, for comparison."""

import torch
from torch import Tensor

from glc_toolkit import registry
from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.components.hypers.base import SpatialHyper
from glc_toolkit.components.layers import round_ste
from glc_toolkit.types import DensityModel, HyperOutput


class FactorizedHyper(SpatialHyper):
    """y -> z -> integers under a factorized density -> params.

    Args:
        channels: of ``y``.
        entropy_model: registry config of the density of z.
    """

    entropy_model: DensityModel

    def __init__(self, channels: int, entropy_model: dict | None = None):
        super().__init__(channels)
        self.channels = channels
        self.entropy_model = registry.build("entropy_model", entropy_model or {"name": "factorized"}, channels=channels)

    def forward(self, y: Tensor) -> HyperOutput:
        """-> likelihoods of z, ``params`` and a ``loss`` of zero."""
        z = self.h_a(y).float()
        medians = self.entropy_model.medians()
        if self.training:  # noise for the rate, rounding for the rest (Minnen & Singh, 2020)
            _, likelihoods = self.entropy_model(z)
            symbols = round_ste(z - medians)
        else:
            symbols = self.entropy_model.symbols(z)
            _, likelihoods = self.entropy_model(symbols + medians)
        return {"likelihoods": {"z": likelihoods}, "params": self.params(symbols), "loss": z.new_zeros(())}

    def encode(self, encoder: Encoder, y: Tensor) -> Tensor:
        symbols = self.symbols(y)
        self.entropy_model.put(encoder, symbols.reshape(-1), self.entropy_model.rows(symbols).reshape(-1))
        return self.params(symbols)

    def symbols(self, y: Tensor) -> Tensor:
        return self.entropy_model.symbols(self.h_a(y))

    def decode(self, decoder: Decoder, shape: tuple[int, int]) -> Tensor:
        rows = self.entropy_model.rows(torch.empty(1, self.channels, *shape, device=self.device))
        return self.params(self.entropy_model.get(decoder, rows.reshape(-1)).reshape(rows.shape))

    def params(self, symbols: Tensor) -> Tensor:
        return self.h_s(symbols.to(self.dtype) + self.entropy_model.medians().to(self.dtype))
