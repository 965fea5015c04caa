"""Pictures to bytes and back, in one call each."""

import math
from bisect import bisect_right
from collections.abc import Callable

import torch
from PIL import Image

from glc_toolkit import bitstream, io, zoo
from glc_toolkit.models.image import GLCImage
from glc_toolkit.types import BitstreamError

DEFAULT_MODEL = "glc-image-0.03"


def encode(
    image: io.Picture,
    model: str | GLCImage = DEFAULT_MODEL,
    quality: float | None = None,
    target_bpp: float | None = None,
    max_bytes: int | None = None,
    max_pixels: int | None = None,
    precision: str = "float32",
    progress: Callable[[float], object] = lambda share: None,
) -> bytes:
    """Compress a picture of any size to a GLC file.

    Args:
        image: anything :func:`glc_toolkit.io.to_tensor` takes.
        model: what :func:`glc_toolkit.zoo.load` takes, or a loaded model.
        quality: level in [0, levels - 1], whole or between; ``None`` is the rate in the model's name.
        target_bpp: instead of ``quality``: the best quality whose file has at most so many bits a pixel.
        max_bytes: likewise, in bytes of the whole file.
        max_pixels: refuse pictures that have more with their padding; ``None`` is ``io.MAX_PIXELS``, 0 no limit.
        precision: of a model given by name, see :meth:`GLCImage.set_precision`.
        progress: called with the share done, in (0, 1], as the search for a budget goes on.

    Raises ``ValueError`` for a picture, quality or budget that cannot be.
    """
    if sum(v is not None for v in (quality, target_bpp, max_bytes)) > 1:
        raise ValueError("give one of quality, target_bpp and max_bytes, not several")
    for name, value in (("target_bpp", target_bpp), ("max_bytes", max_bytes)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} has to be a positive number, not {value}")
    model = _loaded(model, precision)
    code = model.quality_code(quality)
    x = io.to_tensor(image, max_pixels, model.downsampling_factor).to(_device(model))
    height, width = x.shape[-2:]
    l = model.analysis(x)
    fingerprint = model.fingerprint()

    def file(code: int) -> bytes:
        payload = model.encode_payload(l, code)
        return bitstream.ImageStream(fingerprint, code, width, height, payload).to_bytes()

    if target_bpp is None and max_bytes is None:
        return file(code)
    budget = max_bytes if target_bpp is None else target_bpp * width * height / 8
    codes = range(model.quality_code(model.levels - 1) + 1)
    tried: dict[int, bytes] = {}

    def size(code: int) -> int:
        tried[code] = file(code)
        progress(len(tried) / len(codes).bit_length())
        return len(tried[code])

    if size(0) > budget:
        raise ValueError(f"the lowest quality already takes {len(tried[0])} bytes, over the budget of {int(budget)}")
    return tried[bisect_right(codes, budget, lo=1, key=size) - 1]


def decode(
    data: bytes,
    model: str | GLCImage | None = None,
    preview: bool = False,
    max_pixels: int | None = None,
    precision: str = "float32",
) -> Image.Image:
    """Decompress a GLC file to an RGB picture.

    Args:
        data: the whole file.
        model: what wrote it, where it is not in the zoo; ``None`` finds it by the fingerprint in the file.
        preview: decode z alone, a blurred picture from the first few per cent of the file.
        max_pixels: refuse files that claim more with their padding; ``None`` is ``io.MAX_PIXELS``, 0 no limit.
        precision: of a model found or given by name, see :meth:`GLCImage.set_precision`.

    Raises :class:`BitstreamError` for anything that is not a whole, undamaged file of a known model.
    """
    stream, model = open_stream(data, model, max_pixels, precision)
    x_hat = model.decode_payload(stream.payload, stream.quality_code, (stream.height, stream.width), preview)
    return io.to_pillow(x_hat)


def info(data: bytes, model: str | GLCImage | None = None, max_pixels: int | None = None) -> dict:
    """What is in a file: its header, and where every byte of it goes. Arguments and errors are those of decode."""
    stream, model = open_stream(data, model, max_pixels)
    sections = model.sections(stream.payload, (stream.height, stream.width))
    return {
        "model": model.config.get("name", "unnamed"),
        "fingerprint": stream.fingerprint.hex(),
        "width": stream.width,
        "height": stream.height,
        "quality": round(model.quality_of(stream.quality_code), 4),
        "bytes": len(data),
        "bpp": 8 * len(data) / (stream.width * stream.height),
        "sections": {"header": stream.header_bytes, **sections},
    }


def open_stream(
    data: bytes,
    model: str | GLCImage | None = None,
    max_pixels: int | None = None,
    precision: str = "float32",
) -> tuple[bitstream.ImageStream, GLCImage]:
    """A checked stream and the model that reads it."""
    stream = bitstream.parse(bytes(data))
    if model is None:
        model = zoo.by_fingerprint(stream.fingerprint, precision)
    model = _loaded(model, precision)
    own = model.fingerprint()[: bitstream.FINGERPRINT_BYTES]
    if own != stream.fingerprint:
        raise BitstreamError(
            f"this file was written with a model of fingerprint {stream.fingerprint.hex()}, "
            f"but {model.config.get('name', 'the given model')!r} has {own.hex()}"
        )
    if reason := io.too_large(stream.width, stream.height, model.downsampling_factor, max_pixels):
        raise BitstreamError(f"the file claims too large a picture: {reason}")
    return stream, model


def _loaded(model: str | GLCImage, precision: str) -> GLCImage:
    return model if isinstance(model, GLCImage) else zoo.load(model, precision=precision)


def _device(model: GLCImage) -> torch.device:
    return next(model.parameters()).device
