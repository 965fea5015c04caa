"""A learned table of probabilities for each channel of a grid of integers."""

import torch
from compressai.entropy_models import EntropyModel
from torch import Tensor, nn

from glc_toolkit.components.entropy.tables import PRECISION, TableCoding


class GridTable(TableCoding, EntropyModel):
    """Channel i takes the values 0 to ``levels[i]`` - 1, with a probability each, whatever the others are.

    Args:
        levels: values of each channel.
    """

    speed = 32.0  # the table follows the symbols faster than the weights of a network move

    def __init__(self, levels: tuple[int, ...] = (8, 5, 5, 5)):
        super().__init__(entropy_coder_precision=PRECISION)
        self.logits = nn.Parameter(torch.zeros(len(levels), max(levels)))
        outside = torch.arange(max(levels)) >= torch.tensor(levels)[:, None]
        self.register_buffer("outside", outside, persistent=False)

    def log_probability(self) -> Tensor:
        return (self.speed * self.logits).float().masked_fill(self.outside, -torch.inf).log_softmax(-1)

    def forward(self, symbols: Tensor) -> Tensor:
        """Likelihood of each of ``symbols`` (B, channels, h, w), int64."""
        table = self.log_probability().exp()
        return torch.stack([table[i][symbols[:, i]] for i in range(len(table))], 1)

    def rows(self, symbols: Tensor) -> Tensor:
        """Table of each symbol: that of its channel."""
        return torch.arange(len(self.logits), device=symbols.device).reshape(1, -1, 1, 1).expand_as(symbols)

    def update(self, force: bool = False) -> bool:
        """Fill the coding tables; True if that was needed. What a channel never is costs it 2**-24 a value."""
        if self.tables_ready and not force:
            return False
        self.set_tables(self.log_probability().double().exp(), torch.zeros(len(self.logits)))
        return True
