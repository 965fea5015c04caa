"""Motion between two small pictures: found by an encoder, coded, and followed by a decoder to the same bits.

A field (B, 2, rows, columns) holds a vector (down, right) for each block, in quarters of a pixel. A pixel of the block
is taken from that far away. Blocks overlap: a pixel is blended from what the four nearest vectors give, as in H.263's
overlapped motion compensation. The interpolation filters are those of HEVC (Sullivan et al., TCSVT 2012).

Every number is a multiple of a power of two and every sum has fewer than 53 bits, so that float64 gives one result in
any order of adding.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 16  # pixels
PHASES = 4  # of a pixel
REACH = 16  # pixels, of a vector
MOST = PHASES * REACH
MARGIN = REACH + 1  # pixels around a picture that vectors reach
FILTERS = (  # of each phase, in 64ths
    (0, 0, 0, 64, 0, 0, 0, 0),
    (-1, 4, -10, 58, 17, -5, 1, 0),
    (-1, 4, -11, 40, 40, -11, 4, -1),
    (0, 1, -5, 17, 58, -10, 4, -1),
)
BIT = 0.007  # mean error of a block's pixels, in units of the latent's transform, that is worth a bit of a vector


def between_pixels(x: Tensor) -> Tensor:
    """``x`` (B, C, H, W) -> (B, C, 16, H + 2 * MARGIN, W + 2 * MARGIN): the picture and what lies beyond its edges,
    moved by every pair of phases."""
    x = F.pad(x, (MARGIN + 3, MARGIN + 4, MARGIN + 3, MARGIN + 4), mode="replicate")
    for axis in (2, -1):  # the second time phases are an axis of their own
        length = x.shape[axis] - 7
        taps = [x.narrow(axis, k, length) for k in range(8)]
        phases = [filtered(taps, row) for row in FILTERS]
        x = torch.stack(phases, 2) if axis == 2 else torch.stack(phases, 3).flatten(2, 3)
    return x


def filtered(taps: list[Tensor], weights: tuple[int, ...]) -> Tensor:
    """The sum of ``taps`` times ``weights``, in 64ths."""
    (weight, tap), *rest = [(weight / 64, tap) for weight, tap in zip(weights, taps, strict=True) if weight]
    out = weight * tap
    for weight, tap in rest:
        out.add_(tap, alpha=weight)
    return out


def taken(planes: Tensor, field: Tensor, shape: torch.Size) -> Tensor:
    """A picture (B, C, *shape) of which each pixel is from ``field`` (B, 2, *shape) away; ``planes`` are of
    :func:`between_pixels`."""
    batch, channels, _, height, width = planes.shape
    whole, phase = field.div(PHASES, rounding_mode="floor"), field.remainder(PHASES)
    down = whole[:, 0] + torch.arange(shape[0], device=field.device)[:, None]
    right = whole[:, 1] + torch.arange(shape[1], device=field.device)
    at = ((phase[:, 0] * PHASES + phase[:, 1]) * height + down + MARGIN) * width + right + MARGIN
    return planes.flatten(2).gather(2, at.flatten(1)[:, None].expand(-1, channels, -1)).view(batch, channels, *shape)


def moved(x: Tensor, field: Tensor) -> Tensor:
    """``x`` (B, C, H, W), its sides multiples of a block, as it looks after the motion ``field``."""
    planes = between_pixels(x)
    around = F.pad(field.float(), (1, 1, 1, 1), mode="replicate").to(field.dtype)
    offset = (torch.arange(BLOCK, device=x.device, dtype=x.dtype) + 0.5) / BLOCK - 0.5  # from the centre, in blocks
    shares = [(-offset).clamp(min=0), 1 - offset.abs(), offset.clamp(min=0)]  # of the block before, its own, the next
    rows, columns = field.shape[2:]
    out = torch.zeros_like(x)
    for down in (0, 1, 2):
        for right in (0, 1, 2):
            share = (shares[down][:, None] * shares[right]).repeat(rows, columns)
            vectors = around[:, :, down : down + rows, right : right + columns]
            out.addcmul_(share, taken(planes, spread(vectors), x.shape[2:]))
    return out


def spread(field: Tensor) -> Tensor:
    """The vector of its block for each pixel."""
    return field.repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)


class Search:
    """Finds the field by which ``reference`` (B, C, H, W) becomes most like ``x``."""

    def __init__(self, x: Tensor, reference: Tensor):
        self.x, self.reference = x, reference
        self.planes = between_pixels(reference)

    def error(self, field: Tensor) -> Tensor:
        """Mean absolute error of each block, (B, rows, columns)."""
        differences = taken(self.planes, spread(field), self.x.shape[2:]) - self.x
        return F.avg_pool2d(differences.abs().mean(1, keepdim=True), BLOCK)[:, 0]

    def field(self) -> Tensor:
        """A field that is smooth where errors are about the same."""
        return smoothed(refined(coarse(self.x, self.reference), self.error), self.error)


def refined(field: Tensor, error: Callable[[Tensor], Tensor]) -> Tensor:
    """From even pixels to quarters."""
    best = error(field)
    for step in (PHASES, PHASES // 2, 1):
        centre = field
        for down in (-step, 0, step):
            for right in (-step, 0, step):
                if down or right:
                    move = torch.tensor([down, right], device=field.device)[:, None, None]
                    field, best = better(field, best, centre + move, error(centre + move))
    return field


def smoothed(field: Tensor, error: Callable[[Tensor], Tensor]) -> Tensor:
    """Vectors that neighbours share are cheap."""
    for _ in range(2):
        expected = neighbours(field).mean(0).round()
        own = error(field) + BIT * bits(field - expected)
        usual = field.flatten(2).median(2).values[..., None, None].expand_as(field)
        for other in (*neighbours(field), expected, usual, torch.zeros_like(field)):
            other = other.to(field.dtype)
            field, own = better(field, own, other, error(other) + BIT * bits(other - expected))
    return field


def better(field: Tensor, least: Tensor, other: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Of two fields, whose vectors cost ``least`` and ``cost``, the cheaper vectors and their cost."""
    return torch.where((cost < least)[:, None], other, field), torch.minimum(cost, least)


def bits(difference: Tensor) -> Tensor:
    """About what a vector takes that is so far from the expected one: (B, 2, rows, columns) -> (B, rows, columns)."""
    return (2 * torch.log2(1 + difference.abs().float()) + (difference != 0)).sum(1)


def neighbours(field: Tensor) -> Tensor:
    """The field moved by a block up, down, left and right, (4, B, 2, rows, columns) in float32."""
    rows, columns = field.shape[2:]
    around = F.pad(field.float(), (1, 1, 1, 1), mode="replicate")
    places = ((0, 1), (2, 1), (1, 0), (1, 2))
    return torch.stack([around[:, :, d : d + rows, r : r + columns] for d, r in places])


def coarse(x: Tensor, reference: Tensor) -> Tensor:
    """The best vectors of whole pixels, even ones, by full search in pictures of half the side."""
    x, reference = F.avg_pool2d(x, 2), F.avg_pool2d(reference, 2)
    reach, block = REACH // 2 - 1, BLOCK // 2
    height, width = x.shape[2:]
    shifted = F.pad(reference, (reach,) * 4, mode="replicate").unfold(2, height, 1).unfold(3, width, 1)
    rows = [F.avg_pool2d((row - x[:, :, None]).abs().mean(1), block) for row in shifted.unbind(2)]
    errors = torch.cat(rows, 1)
    kernel = errors.new_tensor([1.0, 2, 1])
    kernel = (kernel[:, None] * kernel / 4).expand(errors.shape[1], 1, 3, 3)  # a block alone may look like many
    errors = F.conv2d(F.pad(errors, (1, 1, 1, 1), mode="replicate"), kernel, groups=errors.shape[1])
    side = 2 * reach + 1
    far = torch.arange(-reach, reach + 1, device=x.device)
    errors = errors + BIT * bits(2 * PHASES * torch.stack(torch.meshgrid(far, far, indexing="ij"))[None]).view(-1, 1, 1)
    best = errors.argmin(1)
    return 2 * PHASES * torch.stack([best // side - reach, best % side - reach], 1)
