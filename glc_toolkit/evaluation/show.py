"""``glc.show``: original, reconstruction and bit map beside each other, with matplotlib."""

import os
from typing import TYPE_CHECKING, cast

import torch

from glc_toolkit import api, bitstream, io
from glc_toolkit.evaluation.bits import bit_map
from glc_toolkit.models.image import GLCImage

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def show(
    original: io.Picture,
    coded: io.Picture | bytes | None = None,
    model: str | os.PathLike | GLCImage | None = None,
    quality: float | None = None,
) -> list["Axes"]:
    """Draw a picture, what is left of it, and where the bits went.

    Args:
        original: anything :func:`glc_toolkit.io.to_tensor` takes.
        coded: a GLC file of ``original`` as bytes or as the path of a ``.glc``, or a reconstruction; ``None``
            compresses ``original`` now.
        model: what wrote ``coded``. ``None`` finds it by the fingerprint in a file, and is the default model where
            there is nothing coded yet. A reconstruction without its model has no bit map.
        quality: level of a reconstruction, or to compress at; a file says its own.

    Returns the axes. A notebook draws them at the end of the cell, a script with ``matplotlib.pyplot.show()``.
    """
    from matplotlib import pyplot

    x = io.to_tensor(original)
    if isinstance(coded, (str, os.PathLike)) and os.fspath(coded).endswith(".glc"):
        coded = bytes(bitstream.read(coded))
    if coded is None:
        model = model or api.DEFAULT_MODEL
    codec = model if isinstance(model, GLCImage) or model is None else GLCImage.from_pretrained(model)
    if coded is None:
        coded = api.encode(x, model=codec or api.DEFAULT_MODEL, quality=quality)
    caption = "reconstruction"
    if isinstance(coded, bytes):
        stream, codec = api.open_stream(coded, codec)
        quality = codec.quality_of(stream.quality_code)
        caption = f"{len(coded):,} bytes, {8 * len(coded) / (stream.width * stream.height):.4f} bpp"
        coded = api.decode_picture(coded, codec)
    x_hat = io.to_tensor(cast(io.Picture, coded))
    if x_hat.shape != x.shape:
        sizes = [f"{t.shape[-1]} x {t.shape[-2]}" for t in (x, x_hat)]
        raise ValueError(f"the original has {sizes[0]} pixels and the reconstruction {sizes[1]}")

    panels = [("original", x), (caption, x_hat)]
    count = 3 if codec is not None else 2
    height, width = x.shape[-2:]
    _, row = pyplot.subplots(1, count, figsize=(4.5 * count, 0.6 + 4.5 * height / width), layout="constrained")
    for axes, (title, picture) in zip(row, panels, strict=False):
        axes.imshow(io.to_pillow(picture))
        axes.set_title(title)
    if codec is not None:
        _draw_bits(row[2], x_hat, bit_map(codec, x, quality), codec.backbone.downsampling)
    for axes in row:
        axes.set_axis_off()
    return list(row)


def _draw_bits(axes: "Axes", x_hat: torch.Tensor, bits: torch.Tensor, pixels: int) -> None:
    """``bits`` over a grey ``x_hat``; a position covers ``pixels`` each way."""
    height, width = x_hat.shape[-2:]
    axes.imshow(io.to_pillow(x_hat).convert("L"), cmap="gray", extent=(0, width, height, 0))
    extent = (0, bits.shape[1] * pixels, bits.shape[0] * pixels, 0)
    image = axes.imshow(bits.cpu(), cmap="inferno", alpha=0.75, extent=extent, interpolation="nearest")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_title(f"bits a position, {float(bits.sum()) / 8:,.0f} bytes in all")
    axes.figure.colorbar(image, ax=axes, shrink=0.8)
