"""How much of a picture's detail repeats with a grid: the dots, crosshatch and block edges of codecs."""

import torch
from torch import Tensor, nn

FAINT = 8 / 255  # differences between neighbours that begin to be seen


class Grid(nn.Module):
    """How much of ``x_hat``'s detail goes by where in its cell of ``period`` x ``period`` pixels it lies, beyond ``x``.

    Photographs know nothing of the grid of a codec: the mean over all cells of what is at one place of a cell is much
    that of any other place. A generator can put dots at the same places of every cell, and networks that compare
    features at strides of their own (LPIPS, DISTS) hardly mind. Of the differences of each pixel from its right and its
    lower neighbour, in grey, this takes the mean sign and the mean logarithm of the size at each place, over the cells
    of a picture, and gives the mean squared distance of both from those of ``x``. 0 for equal images; for unrelated
    detail of the order of one over the number of cells; not a number for a picture that has no whole cell and a pixel
    beyond it. Differentiable.

    Args:
        period: side of a cell, in pixels; ``downsampling`` of a backbone, or a multiple of a codec's block.
    """

    higher_is_better = False

    def __init__(self, period: int = 16):
        super().__init__()
        self.period = period
        self.shortest_side = period + 1

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return (self.profile(x_hat.float()) - self.profile(x.float())).square().mean((1, 2, 3))

    def profile(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 4, period, period): means over cells of sign and log size, to the right and down."""
        grey = x.mean(1)
        here = grey[:, :-1, :-1]
        steps = torch.stack([grey[:, :-1, 1:] - here, grey[:, 1:, :-1] - here], 1)
        size = (steps.square() + FAINT**2).sqrt()  # smooth where there is no step
        rows, columns = (length // self.period for length in here.shape[-2:])
        cells = torch.cat([steps / size, size.log()], 1)[..., : rows * self.period, : columns * self.period]
        means = cells.reshape(len(x), 4, rows, self.period, columns, self.period).mean((2, 4))
        signs, sizes = means.chunk(2, 1)
        return torch.cat([signs, sizes - sizes.mean((2, 3), keepdim=True)], 1)
