"""The spatial categorical hyper module of GLC: side information as a map of codebook indices."""

import torch
from torch import Tensor

from glc_toolkit import registry
from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.components.hypers.base import HyperModule


class SpatialCategoricalHyper(HyperModule):
    """y -> z -> nearest codes -> params.

    Args:
        channels: of ``y``.
        quantizer: registry config of z's codebook.
        entropy_model: registry config of the model of its indices.
    """

    def __init__(self, channels: int, quantizer: dict | None = None, entropy_model: dict | None = None):
        super().__init__(channels)
        self.quantizer = registry.build("quantizer", quantizer or {"name": "nearest"}, channels=channels)
        self.entropy_model = registry.build(
            "entropy_model",
            entropy_model or {"name": "categorical"},
            codebook_size=self.quantizer.codebook_size,
            num_codebooks=self.quantizer.num_codebooks,
        )

    def forward(self, y: Tensor) -> dict:
        """-> likelihoods of z, ``params``, the codebook ``loss`` and ``indices``."""
        z_hat, indices, loss = self.quantizer(self.h_a(y))
        return {
            "likelihoods": {"z": self.entropy_model(indices)},
            "params": self._params(indices) if not self.training else self.h_s(z_hat),
            "loss": loss,
            "indices": indices,
        }

    def encode(self, encoder: Encoder, y: Tensor) -> Tensor:
        indices = self.quantizer(self.h_a(y)).indices
        self.entropy_model.put(encoder, indices.reshape(-1), self.entropy_model.rows(indices).reshape(-1))
        return self._params(indices)

    def decode(self, decoder: Decoder, shape: tuple[int, int]) -> Tensor:
        rows = self.entropy_model.rows(torch.empty(1, self.quantizer.num_codebooks, *shape, device=self.device))
        return self._params(self.entropy_model.get(decoder, rows.reshape(-1)).reshape(rows.shape))

    def _params(self, indices: Tensor) -> Tensor:
        return self.h_s(self.quantizer.lookup(indices).to(self.dtype))
