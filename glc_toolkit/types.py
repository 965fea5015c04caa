"""What the components promise each other, what they may say about themselves, and the keys of the dicts they pass on.

Shapes: ``x`` (B, 3, H, W) in [0, 1]; ``l`` and ``y`` (B, C, h, w); ``indices`` (B, G, h, w) integers, G codebooks a
position; ``quality`` (B,) floats in [0, levels - 1].

- A protocol for each kind of component is a must: :data:`PROMISES` names them.
- :class:`Component` has what a component says about itself, with defaults.
- The protocols of :data:`OPTIONS` are optional: each lets a part of the toolkit do more with a component.
- The TypedDicts say what each key of a result is.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypedDict, runtime_checkable

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


class Component:
    """What a component says about itself. A plugin inherits this class beside ``nn.Module``, or has just the attributes
    in which it differs; read one by :func:`trait`."""

    conditional: bool = False
    """A transform or hyper module takes the temporal context of a video, too."""

    encoder_only: tuple[str, ...] = ()
    """Prefixes of the tensors that no decoder needs. They are no part of a model's fingerprint."""

    pixels_only: tuple[str, ...] = ()
    """Prefixes of the tensors that no symbol depends on, but pixels do. They are stored in 8 bits."""

    needs_codes: bool = False
    """A loss compares with the backbone's codes, which a joint stage then names."""

    example_args: Mapping[str, object] = {}
    """Arguments for the checks, of a component that is large or has arguments without a default."""

    tile_overlap: int = 32
    """Latents that two tiles share where a picture is too large for a backbone, 1 to 85. A quarter of them, next to
    each edge, is not used."""

    shortest_side: int = 1
    """Of the pictures that a metric is measured on, in pixels."""

    most_pixels: float = math.inf
    """Of these pictures, height times width."""

    @property
    def exact(self) -> Sequence[nn.Module]:
        """The modules that decoding runs, each with a fixed-point form (:mod:`glc_toolkit.components.fixed_point`).
        A hyper module has to have some; so has the transform of a video. All of a context counts as exact. A
        temporal context may name its exact modules; one that names none counts as a whole."""
        return ()


Trait = Literal[
    "conditional",
    "encoder_only",
    "pixels_only",
    "needs_codes",
    "example_args",
    "tile_overlap",
    "shortest_side",
    "most_pixels",
    "exact",
]


def trait(component: object, name: Trait) -> Any:
    """What ``component``, or its factory, says about itself, or else the default of :class:`Component`."""
    default = () if name == "exact" else getattr(Component, name)
    return getattr(component, name, default)


class Block(nn.Module):
    """A unit of a network that training may compute twice: with ``checkpointing`` it keeps its input alone until the
    gradient comes back. Blocks of a plugin inherit this class."""

    int8: tuple[str, ...] = ()
    """Names of the convolutions that precision ``"int8"`` computes in 8-bit integers, where they are wide."""

    last: str | None = None
    """Name of the layer that makes the block the identity where its parameters are zero. Such a block can be added to
    a trained model, and left out (:mod:`glc_toolkit.training.grow`)."""


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
    """Latent <-> what is coded, with one learned gain per level, interpolated between. One with ``conditional = True``
    is an :class:`InterTransform`."""

    levels: int

    def analysis(self, l: Tensor, quality: Tensor) -> Tensor: ...

    def synthesis(self, y_hat: Tensor, quality: Tensor) -> Tensor: ...


class InterTransform(Protocol):
    """A transform that takes the temporal context, too."""

    levels: int

    @property
    def exact(self) -> Sequence[nn.Module]:
        """All that decoding runs, each with a fixed-point form."""
        ...

    def analysis(self, l: Tensor, quality: Tensor, context: Tensor) -> Tensor: ...

    def synthesis(self, y_hat: Tensor, quality: Tensor, context: Tensor) -> Tensor: ...


@runtime_checkable
class Temporal(Protocol):
    """The latent decoded before -> the context ``c`` (B, C, h, w) that a video frame is coded with. Every layer has a
    fixed-point form."""

    def __call__(self, l_hat: Tensor, adaptor: int | None) -> Tensor:
        """``adaptor`` numbers the frames of a cycle; None is a frame that starts afresh."""
        ...


class HasTables(Protocol):
    """What codes symbols, and so has coding tables."""

    def update(self, force: bool = False) -> bool:
        """Fill the coding tables; True if that was needed."""
        ...


class SideInformation(HasTables, Protocol):
    """What the hyper modules of pictures and of videos share."""

    downsampling: int  #: of z against y

    @property
    def exact(self) -> Sequence[nn.Module]:
        """All that decoding runs, each with a fixed-point form."""
        ...


@runtime_checkable
class Hyper(SideInformation, Protocol):
    """Side information, and what the decoder learns from it. Also a ``compressai.latent_codecs.LatentCodec``. One with
    ``conditional = True`` is an :class:`InterHyper`."""

    def __call__(self, y: Tensor) -> "HyperOutput": ...

    def encode(self, encoder: "SymbolEncoder", y: Tensor) -> Tensor:
        """Code one image's z (B = 1) and return ``params``."""
        ...

    def decode(self, decoder: "SymbolDecoder", shape: tuple[int, int]) -> Tensor:
        """Read z of the given grid and return the very ``params`` that the encoder had."""
        ...


class InterHyper(SideInformation, Protocol):
    """A hyper module that takes the temporal context, too. ``fresh`` is True for a frame that starts afresh."""

    def __call__(self, y: Tensor, context: Tensor, fresh: bool) -> "HyperOutput": ...

    def encode(self, encoder: "SymbolEncoder", y: Tensor, context: Tensor, fresh: bool) -> Tensor: ...

    def decode(self, decoder: "SymbolDecoder", context: Tensor, fresh: bool) -> Tensor: ...


@runtime_checkable
class EntropyCoder(HasTables, Protocol):
    """Every entropy model: writes and reads symbols by its coding tables. It also is a
    ``compressai.entropy_models.EntropyModel``; ``TableCoding`` of :mod:`glc_toolkit.components.entropy.tables` has all
    of this."""

    def put(self, encoder: "SymbolEncoder", symbols: Tensor, rows: Tensor) -> None:
        """Write integer ``symbols`` (n,), each by the table of its row (n,)."""
        ...

    def get(self, decoder: "SymbolDecoder", rows: Tensor) -> Tensor:
        """Read a symbol for each of ``rows`` (n,) -> (n,) int64."""
        ...


@runtime_checkable
class ResidualModel(EntropyCoder, Protocol):
    """The entropy model of y: integers, given a scale for each."""

    def quantize_residual(self, residual: Tensor, scales: Tensor) -> Tensor:
        """The symbols of a residual, as floats that pass gradients straight through."""
        ...

    def likelihood(self, residual: Tensor, scales: Tensor) -> Tensor:
        """Probability of the symbol of each ``residual``, which in training comes unrounded."""
        ...

    def rows(self, scales: Tensor) -> Tensor:
        """Row of the coding tables for each scale; -1 codes nothing and leaves zero."""
        ...


class IndexModel(EntropyCoder, Protocol):
    """The entropy model of z in a hyper module with a codebook."""

    def __call__(self, indices: Tensor) -> Tensor:
        """Likelihood of each index (B, G, h, w)."""
        ...

    def rows(self, indices: Tensor) -> Tensor:
        """Row of the coding tables for each index."""
        ...


class DensityModel(EntropyCoder, Protocol):
    """The entropy model of z in a hyper module of integers."""

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``z`` (B, C, h, w) with noise in training, and the likelihood of each element."""
        ...

    def medians(self) -> Tensor:
        """The ``z`` (1, C, 1, 1) of the symbol zero."""
        ...

    def symbols(self, z: Tensor) -> Tensor:
        """The integer of each element, as a float."""
        ...

    def rows(self, z: Tensor) -> Tensor:
        """Row of the coding tables for each element."""
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


@runtime_checkable
class Loss(Protocol):
    """A term of what training minimizes. One with :class:`Adversary`'s methods has a discriminator, too."""

    def __call__(self, out: "StepOutput") -> Tensor:
        """-> a scalar with a gradient."""
        ...


@runtime_checkable
class Adversary(Protocol):
    """A loss with a discriminator, which training gives an optimizer of its own."""

    def discriminator_loss(self, out: "StepOutput") -> Tensor:
        """What the discriminator minimizes; no gradient passes to ``x_hat``."""
        ...


@runtime_checkable
class Balanced(Protocol):
    """An adversary whose weight follows the other losses (VQGAN; Esser et al., CVPR 2021)."""

    def adaptive_weight(self, reconstruction: Tensor, adversarial: Tensor) -> Tensor:
        """Scalar weight from the gradients of both losses with respect to ``last_weight`` of the backbone."""
        ...


@runtime_checkable
class Metric(Protocol):
    """How good a picture is, given its original."""

    higher_is_better: bool

    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Both (B, 3, H, W) in [0, 1] -> (B,); NaN where a picture is too small to have a value."""
        ...


PROMISES = {  # by kind of component
    "backbone": Backbone,
    "quantizer": Quantizer,
    "transform": Transform,
    "temporal": Temporal,
    "hyper": Hyper,
    "entropy_model": EntropyCoder,
    "context": Context,
    "loss": Loss,
    "metric": Metric,
}


# -- what a component may offer ---------------------------------------------------------------------------------


@runtime_checkable
class Compiled(Protocol):
    """A backbone whose networks ``compile: true`` of a training stage compiles. Without it, none are."""

    @property
    def networks(self) -> Sequence[nn.Module]:
        """The modules that take nearly all of the time, called as modules."""
        ...


@runtime_checkable
class Thumbnails(Protocol):
    """A backbone whose latent draws a thumbnail: what the training objective ``thumbnail`` needs."""

    def thumbnail(self, x: Tensor) -> Tensor:
        """``x`` (B, 3, H, W) -> (B, 3, H / 4, W / 4) in [0, 1]."""
        ...

    def draw(self, l: Tensor) -> Tensor:
        """``l`` -> the thumbnail that it stands for, about [0, 1]."""
        ...


@runtime_checkable
class Unit(Protocol):
    """A backbone that can choose how large its latent is. Without it, a transform that begins with random weights may
    meet a latent of any size."""

    def take_unit(self, x: Tensor) -> None:
        """Make ``l`` of pictures like ``x`` about as large as one; what is drawn of it stays as it is."""
        ...


@runtime_checkable
class Moving(HasTables, Protocol):
    """A temporal context that follows motion, which each P frame sends before all else. A field is (B, 2, rows,
    columns) int64, of vectors (down, right) in units of its own."""

    def estimate(self, l: Tensor, previous: Tensor) -> Tensor:
        """The field from the latent ``previous`` to ``l``; an encoder alone runs this."""
        ...

    def move(self, l_hat: Tensor, field: Tensor) -> Tensor:
        """``l_hat`` after that motion: what the context is made of, to the bit the same everywhere."""
        ...

    def likelihood(self, field: Tensor) -> Tensor:
        """Probability of each symbol of a field."""
        ...

    def put(self, encoder: "SymbolEncoder", field: Tensor) -> None:
        """Write the field of one frame (B = 1)."""
        ...

    def get(self, decoder: "SymbolDecoder", shape: tuple[int, int]) -> Tensor:
        """Read the field of a latent of ``shape`` (h, w)."""
        ...


@runtime_checkable
class Exportable(Protocol):
    """A hyper module for pictures that ``glc zoo export`` can write as ONNX, as two networks with symbols between."""

    def symbols(self, y: Tensor) -> Tensor:
        """The integers that are coded."""
        ...

    def params(self, symbols: Tensor) -> Tensor:
        """What a decoder makes of them: (B, 3 * C, h, w) [step | scales | means]."""
        ...


OPTIONS = {  # by kind of component, and by the part of the toolkit that makes use of it
    "backbone": {"compile": Compiled, "thumbnail": Thumbnails, "unit": Unit},
    "temporal": {"motion": Moving},
    "hyper": {"onnx": Exportable},
    "loss": {"discriminator": Adversary, "balance": Balanced},
}


# -- what is passed on ------------------------------------------------------------------------------------------


class HyperLikelihoods(TypedDict):
    """Probability of each symbol of z, in (0, 1]; the sum of -log2 is the rate in bits."""

    z: Tensor  #: (B, G, h', w') of indices, or (B, C, h', w') of integers


class Likelihoods(HyperLikelihoods):
    """The same of all symbols."""

    y: Tensor  #: (B, C, h, w); 1 where nothing is coded


class InterLikelihoods(Likelihoods, total=False):
    """The same of a P frame."""

    motion: Tensor  #: (B, 2, rows, columns), where the temporal context follows motion


class Codes(TypedDict, total=False):
    """What a hyper module with a codebook gives besides."""

    indices: Tensor  #: (B, G, h', w') int64, of z


class HyperOutput(Codes):
    """What a hyper module's forward pass gives."""

    likelihoods: HyperLikelihoods
    params: Tensor  #: (B, 3 * C, h, w): step, then scales, then means; the last two in units of the step
    loss: Tensor  #: scalar, the quantizer's; zero where it learns by other means


class LatentOutput(TypedDict):
    """What ``code_latent`` of an image model gives: all between the two halves of the backbone."""

    l: Tensor  #: (B, latent_channels, h, w), as it was given
    l_hat: Tensor  #: the same, decoded
    y_hat: Tensor  #: (B, C, h, w), what a decoder knows of y
    likelihoods: Likelihoods  #: of y and z
    hyper_loss: Tensor  #: scalar, ``loss`` of :class:`HyperOutput`
    indices: Tensor | None  #: those of :class:`HyperOutput`
    quality: Tensor  #: (B,) in [0, levels - 1]


class ImageOutput(LatentOutput):
    """What the forward pass of an image model gives."""

    x_hat: Tensor  #: (B, 3, H, W), in [0, 1] in evaluation; in training unclamped


class InterOutput(TypedDict):
    """What ``code_inter`` of a video model gives for one P frame; keys as in :class:`LatentOutput`."""

    l: Tensor
    l_hat: Tensor
    y_hat: Tensor
    likelihoods: InterLikelihoods
    hyper_loss: Tensor
    indices: Tensor | None


class ClipLatents(TypedDict):
    """What ``code_latents`` of a video model gives: lists, an entry a frame; keys as in :class:`LatentOutput`."""

    l: list[Tensor]
    l_hat: list[Tensor]
    y_hat: list[Tensor]
    likelihoods: list[Likelihoods | InterLikelihoods]  #: the first is of the intra frame
    hyper_loss: list[Tensor]
    indices: list[Tensor | None]
    quality: Tensor  #: (B,), one for all frames of a clip


class ClipOutput(ClipLatents):
    """What the forward pass of a video model gives."""

    x_hat: list[Tensor]  #: each (B, 3, H, W), in [0, 1] in evaluation; in training unclamped


class StepOutput(TypedDict):
    """What a training step knows, and a loss is called with.

    Each key names the objectives that have it; in a stage of another objective it is missing. For a video model, B
    counts the P frames of all clips. But ``x``, ``x_hat``, ``x_before`` and ``x_hat_before`` have one frame of each
    clip."""

    x: Tensor  #: all: (B, 3, H, W) in [0, 1]; of a video, one frame of each clip
    x_hat: Tensor  #: vqvae, joint: like ``x``, unclamped
    x_before: Tensor  #: joint with the loss flicker, of a video: like ``x``, the frame before each
    x_hat_before: Tensor  #: likewise: like ``x_hat``
    l: Tensor  #: all: (B, latent_channels, h, w)
    l_hat: Tensor  #: all: like ``l``; of vqvae it is ``l`` by its nearest codes
    y_hat: Tensor  #: latent, thumbnail, joint, of pictures: (B, C, h, w)
    likelihoods: InterLikelihoods  #: latent, thumbnail, joint: of y and z, and of the motion of P frames
    quality: Tensor  #: latent, thumbnail, joint: (B,) in [0, levels - 1]
    hyper_loss: Tensor  #: latent, thumbnail, joint: scalar, the hyper module's quantizer's
    indices: Tensor | None  #: latent, thumbnail, joint: (B, G, h', w') int64, of z; None without a codebook
    codebook_loss: Tensor  #: vqvae: scalar, the backbone's quantizer's
    codes: Tensor  #: vqvae, latent, and joint with a loss that needs them: (B, G, h, w) int64, of ``l``
    t: Tensor  #: thumbnail, and joint with the loss thumbnail_mse: (B, 3, H / 4, W / 4) in [0, 1]
    t_hat: Tensor  #: likewise: like ``t``, drawn from ``l_hat``, unclamped
