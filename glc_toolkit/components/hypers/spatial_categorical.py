"""The spatial categorical hyper module of GLC: side information as a map of codebook indices."""

import torch
from torch import Tensor

from glc_toolkit import registry
from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.components.hypers.base import HyperModule
from glc_toolkit.components.layers import STEPS


class SpatialCategoricalHyper(HyperModule):
    """y -> z -> nearest codes -> params.

    Several codebooks of a quantizer have to add up (as those of residual quantization do).

    Args:
        channels: of ``y``.
        quantizer: registry config of z's codebook.
        entropy_model: registry config of the model of its indices.
    """

    encoder_only = ("h_a.", "quantizer.")

    def __init__(self, channels: int, quantizer: dict | None = None, entropy_model: dict | None = None):
        super().__init__(channels)
        self.quantizer = registry.build("quantizer", quantizer or {"name": "nearest"}, channels=channels)
        groups, size = self.quantizer.num_codebooks, self.quantizer.codebook_size
        self.register_buffer("codes", torch.zeros(groups, size, channels, dtype=torch.int32))
        self.entropy_model = registry.build(
            "entropy_model",
            entropy_model or {"name": "categorical"},
            codebook_size=size,
            num_codebooks=groups,
        )

    def forward(self, y: Tensor) -> dict:
        """-> likelihoods of z, ``params``, the codebook ``loss`` and ``indices``."""
        z_hat, indices, loss = self.quantizer(self.h_a(y))
        return {
            "likelihoods": {"z": self.entropy_model(indices)},
            "params": self.params(indices) if not self.training else self.h_s(z_hat),
            "loss": loss,
            "indices": indices,
        }

    def encode(self, encoder: Encoder, y: Tensor) -> Tensor:
        indices = self.symbols(y)
        self.entropy_model.put(encoder, indices.reshape(-1), self.entropy_model.rows(indices).reshape(-1))
        return self.params(indices)

    def symbols(self, y: Tensor) -> Tensor:
        return self.quantizer(self.h_a(y)).indices

    def decode(self, decoder: Decoder, shape: tuple[int, int]) -> Tensor:
        rows = self.entropy_model.rows(torch.empty(1, self.quantizer.num_codebooks, *shape, device=self.device))
        return self.params(self.entropy_model.get(decoder, rows.reshape(-1)).reshape(rows.shape))

    def update(self, force: bool = False) -> bool:
        """Fill the coding tables and the table of codes; True if that was needed."""
        if updated := self.entropy_model.update(force=force):
            self.codes.copy_(self._table())
        return updated

    @torch.no_grad()
    def _table(self) -> Tensor:
        """What each index of each codebook adds to z_hat, (G, K, C) in steps of 2**-16: a decoder looks up integers,
        however a quantizer arrives at its codes."""
        groups, size, _ = self.codes.shape
        indices = torch.zeros(1, groups, groups, size, dtype=torch.long, device=self.codes.device)
        for group in range(groups):  # in row g only codebook g counts, the others stay at their first code
            indices[:, group, group] = torch.arange(size, device=self.codes.device)
        values = self.quantizer.lookup(indices)[0].permute(1, 2, 0).double()
        values[1:] -= values[1:, :1].clone()
        return torch.round(values * STEPS).int()

    def params(self, indices: Tensor) -> Tensor:
        codes = self.codes if self.entropy_model.tables_ready else self._table()
        z_hat = sum(codes[group][indices[:, group]] for group in range(len(codes)))
        return self.h_s(z_hat.movedim(-1, 1).to(self.dtype) / STEPS)
