"""Categorical model of codebook indices with a learned table, in place of the flat log2(K) bits of the paper."""

import torch
from compressai.entropy_models import EntropyModel
from torch import Tensor, nn

from glc_toolkit.components.entropy.tables import PRECISION, TableCoding


class CategoricalTable(TableCoding, EntropyModel):
    """One probability for each code of each codebook.

    Args:
        codebook_size: codes of a codebook.
        num_codebooks: codebooks, each with a table of its own.
        learned: False keeps the flat table, as published.
    """

    speed = 32.0  # the table follows the codes faster than the weights of a network move

    def __init__(self, codebook_size: int, num_codebooks: int = 1, learned: bool = True):
        super().__init__(entropy_coder_precision=PRECISION)
        self.logits = nn.Parameter(torch.zeros(num_codebooks, codebook_size), requires_grad=learned)

    def log_probability(self) -> Tensor:
        return (self.speed * self.logits).float().log_softmax(-1)

    def forward(self, indices: Tensor) -> Tensor:
        """Likelihood of each index (B, G, h, w)."""
        table = self.log_probability().exp()
        return torch.stack([table[g][indices[:, g]] for g in range(len(table))], 1)

    def rows(self, indices: Tensor) -> Tensor:
        """Table of each index: that of its codebook."""
        return torch.arange(len(self.logits), device=indices.device).reshape(1, -1, 1, 1).expand_as(indices)

    def update(self, force: bool = False) -> bool:
        """Fill the coding tables; True if that was needed."""
        if self.tables_ready and not force:
            return False
        self.set_tables(self.log_probability().double().exp(), torch.zeros(len(self.logits)))
        return True
