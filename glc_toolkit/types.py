"""What the components promise each other.

Shapes: ``x`` (B, 3, H, W) in [0, 1]; ``l`` and ``y`` (B, C, h, w); ``indices`` (B, G, h, w) integers, G codebooks a
position; ``quality`` (B,) floats in [0, levels - 1].
"""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn


class BitstreamError(Exception):
    """A stream is damaged, truncated, foreign, or needs another model."""


class UnknownModelError(BitstreamError):
    """A file is whole as far as its header goes, but no known model wrote it."""


class ModelFileError(Exception):
    """A model folder or weights file is missing, damaged, or does not fit this version."""


class PictureError(ValueError):
    """Something given as a picture or a video is none, or one that cannot be written."""


class Quantized(NamedTuple):
    """What a quantizer makes of a latent."""

    values: Tensor  #: (B, C, h, w), straight-through: the gradient passes to the input
    indices: Tensor  #: (B, G, h, w), int64
    loss: Tensor  #: scalar, zero where the quantizer learns by other means


@runtime_checkable
class Backbone(Protocol):
    """Image <-> latent."""

    latent_channels: int
    downsampling: int

    def analysis(self, x: Tensor) -> Tensor:
        """``x`` -> ``l`` (B, latent_channels, H / downsampling, W / downsampling)."""
        ...

    def synthesis(self, l: Tensor) -> Tensor:
        """``l`` -> ``x_hat``, not yet clamped to [0, 1]."""
        ...

    @property
    def last_weight(self) -> Tensor:
        """The weight of the last layer, where the adaptive weight of an adversarial loss is measured."""
        ...

    def quantize(self, l: Tensor) -> Quantized:
        """The VQ-VAE's own bottleneck: trains the backbone, and names the codes the code-prediction loss aims at."""
        ...


@runtime_checkable
class Quantizer(Protocol):
    """Latent <-> codebook indices; ``lookup(forward(l).indices)`` is what a decoder knows."""

    codebook_size: int
    num_codebooks: int

    def __call__(self, l: Tensor) -> Quantized: ...

    def lookup(self, indices: Tensor) -> Tensor:
        """``indices`` (B, G, h, w) -> (B, C, h, w)."""
        ...


@runtime_checkable
class Transform(Protocol):
    """Latent <-> what is coded, with one learned gain per level, interpolated between. ``exact``, a list of the modules
    that its synthesis runs, is needed where videos are built on it: each with a fixed-point form."""

    levels: int

    def analysis(self, l: Tensor, quality: Tensor) -> Tensor: ...

    def synthesis(self, y_hat: Tensor, quality: Tensor) -> Tensor: ...


@runtime_checkable
class Temporal(Protocol):
    """The latent decoded before -> the context ``c`` (B, C, h, w) that a video frame is coded with.

    The transforms and hyper modules of a video model have ``conditional = True`` and take the context, too: a transform
    as the last argument of both methods; a hyper module as ``hyper(y, context, fresh)``, ``encode(encoder, y, context,
    fresh)`` and ``decode(decoder, context, fresh)``. All that decoding runs is in ``exact``, a list of modules, and has
    a fixed-point form.
    """

    def __call__(self, l_hat: Tensor, adaptor: int | None) -> Tensor:
        """``adaptor`` numbers the frames of a cycle; None is a frame that starts afresh."""
        ...


@runtime_checkable
class Hyper(Protocol):
    """Side information, and what the decoder learns from it. Also a ``compressai.latent_codecs.LatentCodec``."""

    downsampling: int  #: of z against y
    exact: list[nn.Module]  #: all that decoding runs, each with a fixed-point form

    def __call__(self, y: Tensor) -> dict:
        """-> ``{"likelihoods": {"z": ...}, "params": (B, 3 * C, h, w) [step | scales | means], "loss": scalar}``."""
        ...

    def encode(self, encoder: "SymbolEncoder", y: Tensor) -> Tensor:
        """Code one image's z (B = 1) and return ``params``."""
        ...

    def decode(self, decoder: "SymbolDecoder", shape: tuple[int, int]) -> Tensor:
        """Read z of the given grid and return the very ``params`` that the encoder had."""
        ...

    def update(self, force: bool = False) -> bool:
        """Fill the coding tables of z; True if that was needed."""
        ...


@runtime_checkable
class ResidualModel(Protocol):
    """The entropy model of y: integers, given a scale for each. (That of z is the hyper module's own affair: the
    categorical ones ask for likelihoods and ``rows`` of indices.)"""

    def quantize_residual(self, residual: Tensor, scales: Tensor) -> Tensor:
        """The symbols of a residual, as floats that pass gradients straight through."""
        ...

    def likelihood(self, residual: Tensor, scales: Tensor) -> Tensor:
        """Probability of the symbol of each ``residual``, which in training comes unrounded."""
        ...

    def rows(self, scales: Tensor) -> Tensor:
        """Row of the coding tables for each scale; -1 codes nothing and leaves zero."""
        ...

    def put(self, encoder: "SymbolEncoder", symbols: Tensor, rows: Tensor) -> None: ...

    def get(self, decoder: "SymbolDecoder", rows: Tensor) -> Tensor: ...

    def update(self, force: bool = False) -> bool:
        """Fill the coding tables; True if that was needed."""
        ...


@runtime_checkable
class Context(Protocol):
    """Coding order of y and the parameters of its later passes."""

    def masks(self, y: Tensor) -> list[Tensor]:
        """One boolean mask (1, C, h, w) a pass; together they cover every element once."""
        ...

    def reduce(self, params: Tensor) -> Tensor:
        """What every later pass sees of the hyper parameters, computed once."""
        ...

    def __call__(self, k: int, y_hat: Tensor, reduced: Tensor) -> tuple[Tensor, Tensor]:
        """``scales, means`` of pass ``k >= 1`` from what is decoded so far (zeros elsewhere)."""
        ...


class SymbolEncoder(Protocol):
    """Takes integers with their probability tables; see :mod:`glc_toolkit.coder`."""

    def put(self, symbols: np.ndarray, rows: np.ndarray, cdf: np.ndarray, offset: np.ndarray) -> None: ...


class SymbolDecoder(Protocol):
    """Gives back the integers, asked with the same tables in the same order."""

    def get(self, rows: np.ndarray, cdf: np.ndarray, offset: np.ndarray) -> np.ndarray: ...


PROMISES = {  # by kind of component
    "backbone": Backbone,
    "quantizer": Quantizer,
    "transform": Transform,
    "hyper": Hyper,
    "context": Context,
}
