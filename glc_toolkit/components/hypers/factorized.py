"""The classic hyperprior (Ballé et al., ICLR 2018) in the place of the categorical one, for comparison."""

import torch
from compressai.latent_codecs import LatentCodec
from torch import Tensor, nn

from glc_toolkit import registry
from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.components.hypers.networks import HyperSynthesis, hyper_analysis
from glc_toolkit.components.layers import round_ste


class FactorizedHyper(LatentCodec):
    """y -> z -> integers under a factorized density -> params.

    Args:
        channels: of ``y``.
        entropy_model: registry config of the density of z.
    """

    downsampling = 4

    def __init__(self, channels: int, entropy_model: dict | None = None):
        super().__init__()
        self.channels = channels
        self.h_a = hyper_analysis(channels)
        self.entropy_model = registry.build("entropy_model", entropy_model or {"name": "factorized"}, channels=channels)
        self.h_s = HyperSynthesis(channels)

    @property
    def exact(self) -> list[nn.Module]:
        """What runs in the entropy decoder."""
        return [self.h_s]

    def forward(self, y: Tensor) -> dict:
        """-> likelihoods of z, ``params`` and a ``loss`` of zero."""
        z = self.h_a(y).float()
        symbols = self.entropy_model.symbols(z)
        if self.training:  # noise for the rate, rounding for the rest (Minnen & Singh, 2020)
            _, likelihoods = self.entropy_model(z)
            symbols = round_ste(z - self.entropy_model.medians())
        else:
            _, likelihoods = self.entropy_model(symbols + self.entropy_model.medians())
        return {"likelihoods": {"z": likelihoods}, "params": self._params(symbols), "loss": z.new_zeros(())}

    def encode(self, encoder: Encoder, y: Tensor) -> Tensor:
        symbols = self.entropy_model.symbols(self.h_a(y))
        self.entropy_model.put(encoder, symbols.reshape(-1), self.entropy_model.rows(symbols).reshape(-1))
        return self._params(symbols)

    def decode(self, decoder: Decoder, shape: tuple[int, int]) -> Tensor:
        device = next(self.h_s.parameters()).device
        rows = self.entropy_model.rows(torch.empty(1, self.channels, *shape, device=device))
        symbols = self.entropy_model.get(decoder, rows.reshape(-1)).reshape(rows.shape)
        return self._params(symbols)

    def _params(self, symbols: Tensor) -> Tensor:
        dtype = next(self.h_s.parameters()).dtype
        return self.h_s(symbols.to(dtype) + self.entropy_model.medians().to(dtype))
