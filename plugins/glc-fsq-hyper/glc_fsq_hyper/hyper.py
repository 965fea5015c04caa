"""Side information on a fixed grid: finite scalar quantization (Mentzer et al., ICLR 2024) of z."""

import torch
from torch import Tensor, nn

from glc_toolkit import registry
from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.components.hypers.base import SpatialHyper
from glc_toolkit.components.layers import conv1x1, round_ste


class FSQHyper(SpatialHyper):
    """y -> z -> a few channels, each rounded to one of its levels -> params. There is no codebook to learn or collapse.

    Args:
        channels: of ``y``.
        levels: values of each channel of z.
        entropy_model: registry config of the model of z's integers.
    """

    encoder_only = ("h_a.", "narrow.")

    def __init__(self, channels: int, levels: tuple[int, ...] = (8, 5, 5, 5), entropy_model: dict | None = None):
        super().__init__(channels)
        self.narrow = nn.Conv2d(channels, len(levels), 1)
        self.widen = conv1x1(len(levels), channels)
        self.register_buffer("last", torch.tensor(levels).reshape(1, -1, 1, 1) - 1, persistent=False)
        self.entropy_model = registry.build("entropy_model", entropy_model or {"name": "grid"}, levels=levels)

    @property
    def exact(self) -> list[nn.Module]:
        """What runs in the entropy decoder."""
        return [self.widen, self.h_s]

    def forward(self, y: Tensor) -> dict:
        """-> likelihoods of z, ``params``, a ``loss`` of zero and z's integers as ``indices``."""
        z_hat = self._quantize(y)
        indices = z_hat.detach().long()
        return {
            "likelihoods": {"z": self.entropy_model(indices)},
            "params": self.params(z_hat),
            "loss": z_hat.new_zeros(()),
            "indices": indices,
        }

    def encode(self, encoder: Encoder, y: Tensor) -> Tensor:
        indices = self.symbols(y)
        self.entropy_model.put(encoder, indices.reshape(-1), self.entropy_model.rows(indices).reshape(-1))
        return self.params(indices)

    def decode(self, decoder: Decoder, shape: tuple[int, int]) -> Tensor:
        rows = self.entropy_model.rows(torch.empty(1, self.last.numel(), *shape, device=self.device))
        return self.params(self.entropy_model.get(decoder, rows.reshape(-1)).reshape(rows.shape))

    def symbols(self, y: Tensor) -> Tensor:
        return self._quantize(y).long()

    def _quantize(self, y: Tensor) -> Tensor:
        """Integers of z from 0 to the last level of each channel, with a straight-through gradient."""
        return round_ste(torch.sigmoid(self.narrow(self.h_a(y))) * self.last)

    def params(self, symbols: Tensor) -> Tensor:
        """Elementwise up to the first convolution, so the same bits everywhere."""
        return self.h_s(self.widen(2 * symbols.to(self.dtype) / self.last - 1))
