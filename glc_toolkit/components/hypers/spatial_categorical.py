"""The spatial categorical hyper module of GLC: side information as a map of codebook indices."""

import torch
from compressai.latent_codecs import LatentCodec
from torch import Tensor, nn

from glc_toolkit import registry
from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.components.hypers.networks import HyperSynthesis, hyper_analysis


class SpatialCategoricalHyper(LatentCodec):
    """y -> z -> nearest codes -> params.

    Args:
        channels: of ``y``.
        quantizer: registry config of z's codebook.
        entropy_model: registry config of the model of its indices.
    """

    downsampling = 4

    def __init__(self, channels: int, quantizer: dict | None = None, entropy_model: dict | None = None):
        super().__init__()
        self.h_a = hyper_analysis(channels)
        self.quantizer = registry.build("quantizer", quantizer or {"name": "nearest"}, channels=channels)
        self.entropy_model = registry.build(
            "entropy_model",
            entropy_model or {"name": "categorical"},
            codebook_size=self.quantizer.codebook_size,
            num_codebooks=self.quantizer.num_codebooks,
        )
        self.h_s = HyperSynthesis(channels)

    @property
    def exact(self) -> list[nn.Module]:
        """What runs in the entropy decoder."""
        return [self.h_s]

    def forward(self, y: Tensor) -> dict:
        """-> likelihoods of z, ``params``, the codebook ``loss`` and ``indices``."""
        z_hat, indices, loss = self.quantizer(self.h_a(y))
        if not self.training:
            z_hat = self.quantizer.lookup(indices)
        return {
            "likelihoods": {"z": self.entropy_model(indices)},
            "params": self._params(z_hat),
            "loss": loss,
            "indices": indices,
        }

    def encode(self, encoder: Encoder, y: Tensor) -> Tensor:
        indices = self.quantizer(self.h_a(y)).indices
        self.entropy_model.put(encoder, indices.reshape(-1), self.entropy_model.rows(indices).reshape(-1))
        return self._params(self.quantizer.lookup(indices))

    def decode(self, decoder: Decoder, shape: tuple[int, int]) -> Tensor:
        device = next(self.h_s.parameters()).device
        rows = self.entropy_model.rows(torch.empty(1, self.quantizer.num_codebooks, *shape, device=device))
        indices = self.entropy_model.get(decoder, rows.reshape(-1)).reshape(rows.shape)
        return self._params(self.quantizer.lookup(indices))

    def _params(self, z_hat: Tensor) -> Tensor:
        return self.h_s(z_hat.to(next(self.h_s.parameters()).dtype))
