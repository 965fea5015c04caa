"""Classic codecs to compare with, through Pillow."""

import io
from collections.abc import Callable

from PIL import Image, features

CODECS = {"JPEG": range(1, 96), "WebP": range(0, 101), "AVIF": range(0, 101)}


def available() -> list[str]:
    """Names of the codecs that this Pillow can write."""
    return [name for name in CODECS if name == "JPEG" or features.check(name.lower())]


def encode(picture: Image.Image, codec: str, quality: int) -> bytes:
    out = io.BytesIO()
    options = {"JPEG": {"optimize": True}, "WebP": {"method": 6}, "AVIF": {"speed": 4}}[codec]
    picture.save(out, codec, quality=quality, **options)
    return out.getvalue()


def decode(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def nearest(picture: Image.Image, codec: str, size: int) -> tuple[bytes, int]:
    """The file nearest to ``size`` bytes, and its quality setting.

    A bisection, as if sizes rose with the setting: of the two settings between which they pass ``size`` it gives the
    nearer one. Where all files are larger that is the lowest setting, where all are smaller the highest.
    """
    return _bisect(lambda quality: encode(picture, codec, quality), CODECS[codec], size)


def _bisect(encoded: Callable[[int], bytes], settings: range, size: int) -> tuple[bytes, int]:
    low, high = 0, len(settings) - 1
    while low < high:
        middle = (low + high) // 2
        if len(encoded(settings[middle])) < size:
            low = middle + 1
        else:
            high = middle
    tried = {q: encoded(q) for q in settings[max(low - 1, 0) : low + 1]}
    best = min(tried, key=lambda q: abs(len(tried[q]) - size))
    return tried[best], best
