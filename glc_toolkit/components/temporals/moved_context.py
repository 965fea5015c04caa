"""A temporal context that follows motion, for a latent whose first channels are blocks of a thumbnail.

Published GLC-video has no motion vectors, and every pan is paid for in bits of the latent. Here the encoder sends a
field of vectors. The decoder draws the thumbnail that the previous latent stands for, moves it, and makes blocks of it
again.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glc_toolkit.components.backbones.thumbnail import block_transform
from glc_toolkit.components.fixed_point import FixedConv, fixed
from glc_toolkit.components.layers import SumDepthConvBlock, conv1x1, conv3x3
from glc_toolkit.components.temporals import motion
from glc_toolkit.components.temporals.fields import FieldCoder
from glc_toolkit.types import Component, SymbolDecoder, SymbolEncoder


class MovedContext(Component, nn.Module):
    """Previous ``l_hat``, moved -> context ``c`` on the same grid: the first channels of the moved latent, plus what a
    network adds.

    Args:
        latent_channels: of ``l_hat``.
        channels: of ``c``.
        adaptors: first layers to choose from, as of ``latent_context``.
        side: of the blocks that are one position of the latent, in pixels of the thumbnail.
        depth: blocks after the adaptor.
    """

    example_args = {"side": 2}

    def __init__(self, latent_channels: int, channels: int, adaptors: int = 3, side: int = 4, depth: int = 2):
        super().__init__()
        self.coefficients = 3 * side**2
        if motion.BLOCK % side:
            raise ValueError(f"side divides {motion.BLOCK}, the side of a block that moves; {side} does not")
        if not self.coefficients <= channels <= latent_channels:
            raise ValueError(
                f"the context has {self.coefficients} channels of blocks or more and at most the latent's "
                f"{latent_channels}, not {channels}"
            )
        self.side, self.channels = side, channels
        self.inverse, self.blocks = (FixedConv(self.coefficients, self.coefficients, 1) for _ in range(2))
        bias = torch.zeros_like(self.blocks.bias)
        del self.blocks.bias  # no parameter, but zero for ever: what stands still beside what moves stays as it is
        self.blocks.register_buffer("bias", bias)
        with torch.no_grad():
            transform = block_transform(side)[:, :, None, None]
            for conv, weight in ((self.inverse, transform.transpose(0, 1)), (self.blocks, transform)):
                conv.weight.copy_(weight)
                conv.bias.zero_()
        self.fresh = conv3x3(latent_channels, channels)
        self.adaptors = nn.ModuleList(conv1x1(latent_channels, channels) for _ in range(adaptors))
        self.extractor = nn.Sequential(
            *(SumDepthConvBlock(channels, channels) for _ in range(depth)), conv1x1(channels, channels)
        )
        for parameter in self.extractor[-1].parameters():
            nn.init.zeros_(parameter)
        self.field = FieldCoder()

    def forward(self, l_hat: Tensor, adaptor: int | None) -> Tensor:
        """``l_hat``, moved (B, latent_channels, h, w) -> (B, channels, h, w)."""
        adapted = self.fresh(l_hat) if adaptor is None else self.adaptors[adaptor](l_hat)
        return l_hat[:, : self.channels] + self.extractor(adapted)

    @property
    def exact(self) -> list[nn.Module]:
        """What decoding runs."""
        return [self.inverse, self.blocks, self.fresh, self.adaptors, self.extractor]

    def update(self, force: bool = False) -> bool:
        """Fill the coding tables of motion; True if that was needed."""
        return self.field.entropy_model.update(force=force)

    # -- motion -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def estimate(self, l: Tensor, previous: Tensor) -> Tensor:
        """The motion (B, 2, rows, columns) from the latent ``previous`` to ``l``."""
        search = motion.Search(*(self.drawn(t.to(self.inverse.weight.dtype)).float() for t in (l, previous)))
        return self.field.worthwhile(search.field(), search)

    def move(self, l_hat: Tensor, field: Tensor) -> Tensor:
        """``l_hat`` after the motion ``field``: where nothing moves, the same bits."""
        if not field.any():
            return l_hat
        height, width = l_hat.shape[2:]
        thumbnail = self.drawn(l_hat)
        change = motion.moved(thumbnail, field) - thumbnail
        if thumbnail.dtype == torch.float64:
            change = fixed(change)
        change = self.blocks(F.pixel_unshuffle(change, self.side))[..., :height, :width]
        # what else a latent has moves by whole positions
        step = motion.PHASES * self.side
        vectors = motion.spread(field)[:, :, :: self.side, :: self.side][..., :height, :width]
        whole = torch.div(vectors + step // 2, step, rounding_mode="floor")
        rows = (torch.arange(height, device=field.device)[:, None] + whole[:, 0]).clamp(0, height - 1)
        columns = (torch.arange(width, device=field.device) + whole[:, 1]).clamp(0, width - 1)
        rest = l_hat[:, self.coefficients :]
        at = (rows * width + columns).flatten(1)[:, None].expand(-1, rest.shape[1], -1)
        rest = rest.flatten(2).gather(2, at).view_as(rest)
        return torch.cat([l_hat[:, : self.coefficients] + change, rest], 1)

    def drawn(self, l: Tensor) -> Tensor:
        """The thumbnail that blocks stand for, its sides filled up to multiples of a block of motion."""
        thumbnail = F.pixel_shuffle(self.inverse(l[:, : self.coefficients]), self.side)
        if thumbnail.dtype == torch.float64:
            thumbnail = fixed(thumbnail)
        height, width = thumbnail.shape[2:]
        return F.pad(thumbnail, (0, -width % motion.BLOCK, 0, -height % motion.BLOCK), mode="replicate")

    def likelihood(self, field: Tensor) -> Tensor:
        return self.field.likelihood(field)

    def put(self, encoder: SymbolEncoder, field: Tensor) -> None:
        self.field.put(encoder, field)

    def get(self, decoder: SymbolDecoder, shape: tuple[int, int]) -> Tensor:
        """Read the field of a latent of ``shape`` (h, w)."""
        of_block = motion.BLOCK // self.side
        return self.field.get(decoder, (-(-shape[0] // of_block), -(-shape[1] // of_block)))
