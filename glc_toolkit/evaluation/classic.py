"""Classic codecs: Pillow's, AVIF at half and quarter size, JPEG XL through its plugin, x264 and x265 through PyAV."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import PIL
from PIL import Image, features

from glc_toolkit import zoo
from glc_toolkit.evaluation import realesrgan, x26x
from glc_toolkit.evaluation.family import Codec, Family

OPTIONS = {
    "JPEG": {"optimize": True},
    "WEBP": {"method": 6},
    "AVIF": {"speed": 4, "autotiling": False, "max_threads": 1},  # tiles cost bytes, and are as many as there are cores
    "JXL": {"effort": 7},
}
QUALITIES = {"JPEG": range(1, 96), "WEBP": range(0, 101), "AVIF": range(0, 101), "JXL": range(0, 101)}


@dataclass
class Pillow:
    """A format that Pillow or a plugin of it writes."""

    format: str
    quality: int

    def encode(self, picture: Image.Image) -> bytes:
        out = io.BytesIO()
        picture.save(out, self.format, quality=int(self.quality), **OPTIONS[self.format])
        return out.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        with Image.open(io.BytesIO(data), formats=[self.format]) as image:
            return image.convert("RGB")


@dataclass
class Halved:
    """Another codec at half the width and height, resized by Lanczos. One byte more says which sides were odd."""

    codec: Codec

    def encode(self, picture: Image.Image) -> bytes:
        width, height = picture.size
        small = picture.resize((-(-width // 2), -(-height // 2)), Image.Resampling.LANCZOS)
        return bytes([width % 2 + 2 * (height % 2)]) + self.codec.encode(small)

    def decode(self, data: bytes) -> Image.Image:
        small = self.codec.decode(data[1:])
        width, height = (2 * side - odd for side, odd in zip(small.size, (data[0] & 1, data[0] >> 1), strict=True))
        return small.resize((width, height), Image.Resampling.LANCZOS)


def _pillow(format: str, title: str, half: bool = False) -> Family:
    name = format.lower() + ("-half" if half else "")
    library = f"Pillow {PIL.__version__}"
    if format == "JXL":
        if find_spec("pillow_jxl") is None:
            raise ValueError("jxl needs pillow-jxl-plugin: pip install 'glc-toolkit[eval]'")
        from pillow_jxl import JpegXLImagePlugin  # noqa: F401  (registers the format)

        library = f"pillow-jxl-plugin {version('pillow-jxl-plugin')}"
    elif format != "JPEG" and not features.check(format.lower()):
        raise ValueError(f"this Pillow was built without {format}; install the one of PyPI")
    else:
        feature = {"JPEG": "libjpeg_turbo"}.get(format, format.lower())
        library += f", {feature} {features.version(feature)}" + (", no tiles" if format == "AVIF" else "")

    def at(quality) -> Codec:
        return Halved(Pillow(format, quality)) if half else Pillow(format, quality)

    shows = "" if half or format == "JXL" else format.lower()
    return Family(name, library, QUALITIES[format], QUALITIES[format][:21:5], at, title, shows)


def jpeg() -> Family:
    """Pillow's JPEG, optimized; qualities from 1."""
    return _pillow("JPEG", "JPEG")


def webp() -> Family:
    """Pillow's WebP by its slowest method; qualities from 0."""
    return _pillow("WEBP", "WebP")


def avif() -> Family:
    """Pillow's AVIF, speed 4 and no tiles; qualities from 0."""
    return _pillow("AVIF", "AVIF")


def avif_half() -> Family:
    """AVIF at half the width and height, resized by Lanczos."""
    return _pillow("AVIF", "half AVIF", half=True)


def avif_quarter() -> Family:
    """AVIF at a quarter of the width and height, enlarged by Real-ESRGAN."""
    inner = avif()
    return Family(
        "avif-quarter",
        f"{inner.version}; {realesrgan.NAME} {zoo.sha256_of(zoo.network_folder(realesrgan.NAME))[:16]}",
        inner.settings,
        inner.settings[:61:20],
        lambda quality: realesrgan.Quartered(inner.codec(quality)),
        "quarter AVIF + Real-ESRGAN",
    )


def jxl() -> Family:
    """JPEG XL through pillow-jxl-plugin, effort 7; qualities from 0."""
    return _pillow("JXL", "JPEG XL")


def _x26x(name: str, decoder: str, options: dict[str, str]) -> Family:
    if find_spec("av") is None:
        raise ValueError(f"{name} needs PyAV: pip install 'glc-toolkit[video]'")
    return Family(
        name,
        f"PyAV {version('av')}, preset slow for pictures, veryslow for clips, one thread",
        range(51, -1, -1),
        (51, 47, 43, 39),
        lambda crf: x26x.Picture(f"lib{name}", decoder, options, int(crf)),
        clips=lambda crf: x26x.Clip(f"lib{name}", float(crf)),
    )


def x264() -> Family:
    """x264 through PyAV at a CRF. A picture is an intra frame, a clip one intra frame with P and B frames."""
    return _x26x("x264", "h264", {"threads": "1"})  # the size of its files depends on the number of threads


def x265() -> Family:
    """x265 through PyAV at a CRF. A picture is an intra frame, a clip one intra frame with P and B frames."""
    return _x26x("x265", "hevc", {"x265-params": "keyint=1:info=0:log-level=none"})


FAMILIES: dict[str, Callable[[], Family]] = {
    "jpeg": jpeg,
    "webp": webp,
    "avif": avif,
    "avif-half": avif_half,
    "avif-quarter": avif_quarter,
    "jxl": jxl,
    "x264": x264,
    "x265": x265,
}
