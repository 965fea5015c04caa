"""What numbers mean as colours, said in code points of ITU-T H.273, in chromaticities or by an ICC profile -> sRGB.

High dynamic range (PQ, HLG) is mapped to that of sRGB, as ITU-R BT.2390 does in kind: light up to three quarters of
reference white (203 cd/m2, ITU-R BT.2408) stays as it is, and what is brighter rolls off, by the extended curve of
Reinhard, so that the brightest becomes white.
"""

from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import Image, ImageCms

UNSPECIFIED, PQ, HLG = 2, 16, 18  # code points
WHITE = 203.0  # cd/m2 of reference white
PEAK = 1000.0  # cd/m2 of the brightest light, where nothing tells it: of most masters, and HLG's nominal one
KNEE = 0.75  # of reference white
BT709 = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, 0.3127, 0.3290)
PRIMARIES = {  # x and y of red, green, blue and white
    1: BT709,
    4: (0.670, 0.330, 0.210, 0.710, 0.140, 0.080, 0.310, 0.316),
    5: (0.640, 0.330, 0.290, 0.600, 0.150, 0.060, 0.3127, 0.3290),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    8: (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, 0.310, 0.316),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    10: (1, 0, 0, 1, 0, 0, 1 / 3, 1 / 3),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, 0.3127, 0.3290),
}
Curve = Callable[[np.ndarray], np.ndarray]


def _linear(v: np.ndarray) -> np.ndarray:
    """sRGB's own curve."""
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def _pq(v: np.ndarray) -> np.ndarray:
    power = v ** (32 / 2523)
    return 10000 / WHITE * (np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (8192 / 1305)


def _hlg(v: np.ndarray) -> np.ndarray:
    """Light of the scene in [0, 1], which :func:`to_srgb` makes light of the display."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(v <= 0.5, v**2 / 3, (np.exp((v - c) / a) + b) / 12)


CURVES: dict[int, Curve] = {  # values in [0, 1] -> light, 1 for reference white
    **dict.fromkeys((1, 6, 7, 11, 12, 13, 14, 15), _linear),  # a display undoes a camera's curve with its own
    4: lambda v: v**2.2,
    5: lambda v: v**2.8,
    8: lambda v: v,
    9: lambda v: np.where(v > 0, 10 ** (2 * (v - 1)), 0),
    10: lambda v: np.where(v > 0, 10 ** (2.5 * (v - 1)), 0),
    PQ: _pq,
    17: lambda v: v**2.6 * 52.37 / 48,
    HLG: _hlg,
}


class Space(NamedTuple):
    """What numbers for red, green and blue, or for grey, mean."""

    primaries: Sequence[float] = BT709  #: x and y of red, green, blue and white
    curve: Curve = _linear  #: of :data:`CURVES`, or like them
    full: bool = True  #: whether black and white are the smallest and the largest number, not 16 and 235 of 8 bits

    @property
    def wide(self) -> bool:
        """Whether the primaries are others than sRGB's."""
        return not np.allclose(self.primaries, BT709, atol=2e-3)

    @property
    def srgb(self) -> bool:
        return self.curve is _linear and self.full and not self.wide

    @property
    def hdr(self) -> str:
        """The name of a curve of high dynamic range, or nothing."""
        return "PQ" if self.curve is _pq else "HLG" if self.curve is _hlg else ""


def coded(primaries: int, transfer: int, full: bool = True) -> Space | None:
    """The space of two code points of H.273; None where one of them means nothing there.

    What is unspecified is taken for sRGB's, and beside a curve of high dynamic range for BT.2020's primaries.
    """
    if primaries == UNSPECIFIED:
        primaries = 9 if transfer in (PQ, HLG) else 1
    if transfer == UNSPECIFIED:
        transfer = 13
    if primaries not in PRIMARIES or transfer not in CURVES:
        return None
    return Space(PRIMARIES[primaries], CURVES[transfer], full)


def power(exponent: float) -> Curve:
    """The curve v ** ``exponent``; sRGB's where it is as near to that as 2.2, which is how writers say sRGB."""
    return _linear if abs(exponent / 2.2 - 1) < 0.05 else lambda v: v**exponent


def to_srgb(codes: np.ndarray, space: Space, peak: float | None = None) -> np.ndarray:
    """Numbers (H, W, 1) of grey or (H, W, 3), uint8 or uint16 -> sRGB in [0, 1], float32.

    Of high dynamic range, light of ``peak`` cd/m2 becomes white; ``None`` takes the brightest of ``codes``.
    """
    bits = 8 * codes.itemsize
    values = np.arange(2**bits) / (2**bits - 1)
    if not space.full:
        values = ((np.arange(2**bits) / 2 ** (bits - 8) - 16) / 219).clip(0, 1)
    table = space.curve(values).astype(np.float32)  # light of each number
    matrix = _to_bt709(tuple(space.primaries)) if space.wide and codes.shape[2] == 3 else None
    if space.curve is _linear and matrix is None:
        return values.astype(np.float32)[codes]
    hlg = space.curve is _hlg
    luminance = _xyz(tuple(space.primaries))[1].astype(np.float32) if codes.shape[2] == 3 else np.ones(1, np.float32)
    if peak is None:
        brightest = float(table[codes.max()])
        peak = float(PEAK * brightest**1.2) if hlg else WHITE * brightest
    out = np.empty(codes.shape, np.float32)
    rows = max(2**20 // codes.shape[1], 1)  # at once, or a large picture takes its memory many times
    for at in range(0, len(codes), rows):
        light = table[codes[at : at + rows]]
        if hlg:  # ITU-R BT.2100, for a display of 1000 cd/m2
            light = light * (light @ luminance)[..., None] ** 0.2 * (PEAK / WHITE)
        if matrix is not None:
            light = light @ matrix
        light = light.clip(0)
        out[at : at + rows] = _encoded(_rolled_off(light, peak / WHITE) if space.hdr else light)
    return out


def _rolled_off(light: np.ndarray, peak: float) -> np.ndarray:
    """The largest of red, green and blue from ``KNEE`` to ``peak`` -> up to 1, and the others in proportion."""
    brightest = light.max(-1, keepdims=True)
    above = np.maximum(brightest - KNEE, 0) / (1 - KNEE)
    most = max((peak - KNEE) / (1 - KNEE), 1)
    mapped = KNEE + (1 - KNEE) * above * (1 + above / most**2) / (1 + above)
    return np.where(above > 0, light * (mapped / np.maximum(brightest, KNEE)), light)


def _encoded(light: np.ndarray) -> np.ndarray:
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@cache
def _xyz(primaries: tuple[float, ...]) -> np.ndarray:
    """The matrix from light of red, green and blue to XYZ; white has Y = 1."""
    x, y = np.array(primaries, float).reshape(4, 2).T
    xyz = np.stack([x, y, 1 - x - y])
    white = xyz[:, 3] / y[3]
    return xyz[:, :3] * np.linalg.solve(xyz[:, :3], white)


@cache
def _to_bt709(primaries: tuple[float, ...]) -> np.ndarray:
    """The matrix that rows of light are multiplied by, white adapted by Bradford's method."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    ours, theirs = _xyz(BT709), _xyz(primaries)
    cones = bradford @ np.stack([ours.sum(1), theirs.sum(1)], 1)
    adapt = np.linalg.solve(bradford, (cones[:, :1] / cones[:, 1:]) * bradford)
    return np.linalg.solve(ours, adapt @ theirs).T.astype(np.float32)


# -- ICC profiles -------------------------------------------------------------------------------------------------

KINDS = {"L": "GRAY", "I;16": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # of profiles, for modes of pictures
AS_SRGB = 2  # levels by which colours may differ from sRGB's in a profile of sRGB: those of its makers do


class ProfileError(ValueError):
    """Why a profile is of no use for a picture."""


def by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """A picture of a mode in ``KINDS`` as littleCMS makes it sRGB, by the perceptual intent; as it is if it is that.

    Raises :class:`ProfileError`.
    """
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        kind = _kind(source)
        if kind != KINDS[image.mode]:
            raise ProfileError(f"is for {kind}, not for {KINDS[image.mode]}")
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, image.mode, "RGB")
        if image.mode != "CMYK" and _is_srgb(source, target):
            return image
        result = ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError) as error:
        raise ProfileError("cannot be read") from error
    except ImportError as error:
        raise ProfileError("needs a Pillow with littleCMS") from error
    return result or image


def _kind(profile: ImageCms.ImageCmsProfile) -> str:
    return cast(Any, profile.profile).xcolor_space.strip()


def _is_srgb(source: ImageCms.ImageCmsProfile, target: ImageCms.ImageCmsProfile) -> bool:
    """Whether colours stay what they are, tried on grey or on a cube of colours."""
    if _kind(source) == "GRAY":
        tried = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    else:
        levels = np.linspace(0, 255, 9).round().astype(np.uint8)
        tried = Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3))
    found = ImageCms.applyTransform(tried, ImageCms.buildTransform(source, target, tried.mode, "RGB"))
    change = np.asarray(found).astype(int) - np.asarray(tried.convert("RGB"))
    return int(np.abs(change).max()) <= AS_SRGB


def code_points(profile: bytes) -> tuple[int, int, bool] | None:
    """Primaries, transfer characteristics and whether the range is full, by the tag ``cicp`` of a profile, if it has
    one (ICC.1:2022)."""
    for at in range(132, min(132 + 12 * int.from_bytes(profile[128:132], "big"), len(profile)), 12):
        if profile[at : at + 4] == b"cicp":
            start = int.from_bytes(profile[at + 4 : at + 8], "big") + 8
            primaries, transfer, _, full = (*profile[start : start + 4], 0, 0, 0, 0)[:4]
            return primaries, transfer, bool(full)
    return None
