"""z as codebook indices: what the categorical hyper modules share."""

import torch
from torch import Tensor

from glc_toolkit import registry
from glc_toolkit.components.fixed_point import STEPS
from glc_toolkit.components.hypers.base import HyperModule
from glc_toolkit.types import IndexModel, Quantizer


class CategoricalCodes(HyperModule):
    """Mixin: a quantizer, the entropy model of its indices, and the table of codes that a decoder looks up.

    Several codebooks of a quantizer have to add up (as those of residual quantization do).
    """

    codes: Tensor  #: (codebooks, size, channels) int32
    quantizer: Quantizer
    entropy_model: IndexModel

    def build_codes(self, channels: int, quantizer: dict | None, entropy_model: dict | None) -> None:
        """Registry configs, or ``None`` for nearest codes under a learned table."""
        self.quantizer = registry.build("quantizer", quantizer or {"name": "nearest"}, channels=channels)
        groups, size = self.quantizer.num_codebooks, self.quantizer.codebook_size
        self.register_buffer("codes", torch.zeros(groups, size, channels, dtype=torch.int32))
        self.entropy_model = registry.build(
            "entropy_model",
            entropy_model or {"name": "categorical"},
            codebook_size=size,
            num_codebooks=groups,
        )

    def update(self, force: bool = False) -> bool:
        """Fill the coding tables and the table of codes; True if that was needed."""
        if updated := self.entropy_model.update(force=force):
            self.codes.copy_(self.table())
        return updated

    @torch.no_grad()
    def table(self) -> Tensor:
        """What each index of each codebook adds to z_hat, (G, K, C) in steps of 2**-16: a decoder looks up integers,
        however a quantizer arrives at its codes."""
        groups, size, _ = self.codes.shape
        indices = torch.zeros(1, groups, groups, size, dtype=torch.long, device=self.codes.device)
        for group in range(groups):  # in row g only codebook g counts, the others stay at their first code
            indices[:, group, group] = torch.arange(size, device=self.codes.device)
        values = self.quantizer.lookup(indices)[0].permute(1, 2, 0).double()
        values[1:] -= values[1:, :1].clone()
        return torch.round(values * STEPS).int()

    def z_hat(self, indices: Tensor, codes: Tensor | None = None) -> Tensor:
        """``indices`` (B, G, h, w) -> (B, C, h, w) by the table ``codes``: a decoder's, or that of the quantizer as it
        is now if None."""
        codes = self.table() if codes is None else codes
        z_hat = torch.stack([codes[group][indices[:, group]] for group in range(len(codes))]).sum(0)
        return z_hat.movedim(-1, 1).to(self.dtype) / STEPS

    def put(self, encoder, indices: Tensor) -> None:
        """Write the indices of one sample."""
        self.entropy_model.put(encoder, indices.reshape(-1), self.entropy_model.rows(indices).reshape(-1))

    def get(self, decoder, shape: tuple[int, int]) -> Tensor:
        """Read the indices (1, G, h, w) of a grid."""
        rows = self.entropy_model.rows(torch.empty(1, self.quantizer.num_codebooks, *shape, device=self.device))
        return self.entropy_model.get(decoder, rows.reshape(-1)).reshape(rows.shape)
