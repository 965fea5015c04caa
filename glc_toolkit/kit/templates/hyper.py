"""Side information of signs: one bit for each channel and position of z."""

import torch
from torch import Tensor, nn

from glc_toolkit import registry
from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.components.hypers.base import SpatialHyper
from glc_toolkit.components.layers import conv1x1
from glc_toolkit.types import IndexModel


class Hyper(SpatialHyper):
    """y -> z -> signs -> params.

    Args:
        channels: of ``y``.
        bits: channels of z.
        entropy_model: registry config of the model of the signs, each a codebook of two.
    """

    entropy_model: IndexModel
    encoder_only = ("h_a.", "narrow.")  # what a decoder does not need

    def __init__(self, channels: int, bits: int = 8, entropy_model: dict | None = None):
        super().__init__(channels)  # brings h_a and h_s, the networks from y and to params
        self.bits = bits
        self.narrow = nn.Conv2d(channels, bits, 1)
        self.widen = conv1x1(bits, channels)
        self.entropy_model = registry.build(
            "entropy_model", entropy_model or {"name": "categorical"}, codebook_size=2, num_codebooks=bits
        )

    @property
    def exact(self) -> list[nn.Module]:
        """What runs in the entropy decoder."""
        return [self.widen, self.h_s]

    def forward(self, y: Tensor) -> dict:
        """-> likelihoods of z, ``params``, a ``loss`` of zero and ``indices``."""
        z = self.narrow(self.h_a(y))
        indices = (z > 0).long()
        signs = 2.0 * indices - 1
        if self.training:
            signs = torch.tanh(z) + (signs - torch.tanh(z)).detach()
        return {
            "likelihoods": {"z": self.entropy_model(indices)},
            "params": self.h_s(self.widen(signs.to(self.dtype))),
            "loss": z.new_zeros(()),
            "indices": indices,
        }

    def encode(self, encoder: Encoder, y: Tensor) -> Tensor:
        indices = self.symbols(y)
        self.entropy_model.put(encoder, indices.reshape(-1), self.entropy_model.rows(indices).reshape(-1))
        return self.params(indices)

    def decode(self, decoder: Decoder, shape: tuple[int, int]) -> Tensor:
        rows = self.entropy_model.rows(torch.empty(1, self.bits, *shape, device=self.device))
        indices = self.entropy_model.get(decoder, rows.reshape(-1)).reshape(rows.shape)
        return self.params(indices)

    def symbols(self, y: Tensor) -> Tensor:
        return (self.narrow(self.h_a(y)) > 0).long()

    def params(self, symbols: Tensor) -> Tensor:
        return self.h_s(self.widen((2 * symbols - 1).to(self.dtype)))
