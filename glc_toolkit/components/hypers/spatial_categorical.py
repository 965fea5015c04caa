"""The spatial categorical hyper module of GLC: side information as a map of codebook indices."""

from torch import Tensor

from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.components.hypers.base import SpatialHyper
from glc_toolkit.components.hypers.codes import CategoricalCodes
from glc_toolkit.types import HyperOutput


class SpatialCategoricalHyper(CategoricalCodes, SpatialHyper):
    """y -> z -> nearest codes -> params.

    Args:
        channels: of ``y``.
        quantizer: registry config of z's codebook.
        entropy_model: registry config of the model of its indices.
    """

    encoder_only = ("h_a.", "quantizer.")
    codes: Tensor

    def __init__(self, channels: int, quantizer: dict | None = None, entropy_model: dict | None = None):
        super().__init__(channels)
        self.build_codes(channels, quantizer, entropy_model)

    def forward(self, y: Tensor) -> HyperOutput:
        """-> likelihoods of z, ``params``, the codebook ``loss`` and ``indices``."""
        z_hat, indices, loss = self.quantizer(self.h_a(y))
        return {
            "likelihoods": {"z": self.entropy_model(indices)},
            "params": self.h_s(z_hat if self.training else self.z_hat(indices)),
            "loss": loss,
            "indices": indices,
        }

    def encode(self, encoder: Encoder, y: Tensor) -> Tensor:
        indices = self.symbols(y)
        self.put(encoder, indices)
        return self.params(indices)

    def decode(self, decoder: Decoder, shape: tuple[int, int]) -> Tensor:
        return self.params(self.get(decoder, shape))

    def symbols(self, y: Tensor) -> Tensor:
        return self.quantizer(self.h_a(y)).indices

    def params(self, indices: Tensor) -> Tensor:
        """As a decoder makes them."""
        return self.h_s(self.z_hat(indices, self.codes))
