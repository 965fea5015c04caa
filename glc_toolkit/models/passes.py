"""How a latent is coded, in passes: the algorithm that the image and the video model share.

A model has the slots ``context`` and ``entropy_model``, and a ``hyper`` whose parameters [step | scales | means] every
pass starts from:

    y / step, in passes: residual = y / step - means, symbols = round(residual) under N(0, scales)
    y_hat = (symbols + means) * step
"""

from collections.abc import Callable

import torch
from compressai.ops import LowerBound
from torch import Tensor, nn

from glc_toolkit.coder import CountingDecoder, Decoder, Encoder, NoSymbols
from glc_toolkit.components.fixed_point import fixed
from glc_toolkit.types import Context, ResidualModel


class Passes(nn.Module):
    """The passes of ``y``: estimated for training, written, and read back to the same bits."""

    context: Context
    entropy_model: ResidualModel
    step_bound: LowerBound

    def estimate(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize ``y`` (B, C, h, w) without writing bytes -> ``y_hat``, ``sent`` as :meth:`passes` has it, and the
        likelihood of each symbol.

        Gradients of ``y_hat`` = symbols + means go to ``y``, straight through. They go to a mean where its symbol is
        zero, and most are: there the mean is all that a decoder sees. Any other symbol makes up for its mean. With the
        gradient of ``y_hat``, which stays the same, such a mean would drift for ever.
        """
        step, scales, means = self.split(params)
        all_scales, all_residuals = torch.zeros_like(means), torch.zeros_like(means)

        def quantize(mask: Tensor, scales: Tensor, means: Tensor) -> Tensor:
            nonlocal all_scales, all_residuals
            symbols = self.entropy_model.quantize_residual(y / step - means.detach(), scales) * mask
            residual = (y / step - means) * mask if self.training else symbols
            all_scales, all_residuals = all_scales + scales * mask, all_residuals + residual
            if params.requires_grad:  # they learn; where a latent alone is optimized, nothing drifts
                symbols = symbols + (means.detach() - means) * (mask & (symbols != 0))
            return symbols

        y_hat, sent = self.passes(params, scales, means, quantize)
        return y_hat * step, sent, self.entropy_model.likelihood(all_residuals, all_scales)

    def write(self, encoder: Encoder, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Code one sample's ``y`` -> the ``y_hat`` and ``sent`` that :meth:`read` will give."""
        step, scales, means = self.split(params)
        y = y.to(params.dtype) / step

        def put(mask: Tensor, scales: Tensor, means: Tensor) -> Tensor:
            symbols = self.entropy_model.quantize_residual(y - means, scales) * mask
            rows = self.entropy_model.rows(scales)
            coded = mask & (rows >= 0)
            self.entropy_model.put(encoder, symbols[coded], rows[coded])
            return symbols

        y_hat, sent = self.passes(params, scales, means, put)
        return y_hat * step, sent

    def read(self, decoder: Decoder | NoSymbols, params: Tensor) -> tuple[Tensor, Tensor]:
        """``y_hat`` (1, C, h, w) and ``sent``, the same bits as in :meth:`write`."""
        step, scales, means = self.split(params)

        def get(mask: Tensor, scales: Tensor, means: Tensor) -> Tensor:
            rows = self.entropy_model.rows(scales)
            coded = mask & (rows >= 0)
            symbols = torch.zeros_like(means)
            symbols[coded] = self.entropy_model.get(decoder, rows[coded]).to(symbols.dtype)
            return symbols

        y_hat, sent = self.passes(params, scales, means, get)
        return y_hat * step, sent

    def split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``params`` -> ``step``, ``scales``, ``means``."""
        step, scales, means = self.on_grid(params).chunk(3, 1)
        return self.step_bound(step), scales, means

    def on_grid(self, parameters: Tensor) -> Tensor:
        """In evaluation, entropy parameters on the grid that the fixed-point networks work on."""
        return parameters if self.training else fixed(parameters)

    def passes(self, params: Tensor, scales: Tensor, means: Tensor, code: Callable) -> tuple[Tensor, Tensor]:
        """Run the coding order; ``code(mask, scales, means)`` gives the symbols of a pass, zero outside its mask.

        Returns ``y_hat`` in steps, and ``sent`` (B, 1, h, w): whether any symbol of a position is other than zero."""
        reduced = self.context.reduce(params)
        y_hat, sent = torch.zeros_like(means), torch.zeros_like(means[:, :1], dtype=torch.bool)
        for k, mask in enumerate(self.context.masks(means)):
            if k > 0:
                scales, means = map(self.on_grid, self.context(k, y_hat, reduced))
            symbols = code(mask, scales, means)
            y_hat = y_hat + symbols + means * mask
            sent = sent | (symbols != 0).any(1, keepdim=True)
        return y_hat, sent


class Sections(CountingDecoder):
    """A decoder that notes where each section of a stream ends."""

    def __init__(self, stream: bytes):
        super().__init__(stream)
        self._length = len(stream)
        self._ends: list[int] = []

    def get(self, *args):
        symbols = super().get(*args)
        self._ends.append(self.position())
        return symbols

    def sizes(self) -> dict[str, int]:
        """Bytes of z and of each pass of y; they add up to the stream's length."""
        ends = [*self._ends[:-1], self._length]
        for i in reversed(range(len(ends) - 1)):  # a stream that ended earlier may have needed more bytes to end in
            ends[i] = min(ends[i], ends[i + 1])
        names = ["z", *(f"y pass {k}" for k in range(len(ends) - 1))]
        return {name: end - start for name, start, end in zip(names, [0, *ends[:-1]], ends, strict=True)}
