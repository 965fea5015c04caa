"""A picture file as Pillow reads it -> the picture as it is to be shown: turned, in sRGB, over white.

Pillow leaves that to its users, and some of it it does not tell: in which depth PNG names a transparent grey, code
points of colours in PNG and AVIF, profiles in JPEG 2000. Those are read from the file itself.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from glc_toolkit import colour
from glc_toolkit.types import PictureError

# By EXIF orientation. ImageOps.exif_transpose also writes all tags anew, and fails at tags that a camera wrote wrongly.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Say = Callable[[str], object]
CodePoints = tuple[int, int, bool]  # primaries, transfer characteristics, whether the range is full


@dataclass
class Untold:
    """Facts in a file that Pillow does not give."""

    bits: int = 8  #: of a sample
    code_points: CodePoints | None = None
    profile: bytes | None = None
    low_bytes: Image.Image | None = None  #: of 16-bit colours of which one is transparent
    white_is_zero: bool = False  #: in 16-bit grey; in less Pillow sees to it


def read(image: Image.Image, say: Say) -> np.ndarray:
    """A Pillow image, loaded or not -> sRGB (H, W) or (H, W, 3): uint8, or float32 in [0, 1] for 16-bit grey.

    ``say`` is called with a line on what cannot be as the picture asks. Raises :class:`PictureError` for numbers whose
    range nothing tells, and whatever Pillow raises for a damaged file.
    """
    untold = _untold(image)
    image.load()  # before the orientation is asked for: here TIFF's reader has turned the picture, and forgets it
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))  # 16 bits of grey
    if image.mode in ("I", "F") and not deep:
        raise PictureError(f"a picture of mode {image.mode!r} has no known range; give it as an array in [0, 1]")
    turn = TURNS.get(_orientation(image, say))
    if turn is not None:
        image = image.transpose(turn)
        untold.low_bytes = untold.low_bytes and untold.low_bytes.transpose(turn)
    return _deep(image, untold, say) if deep else _eight_bits(image, untold, say)


def _orientation(image: Image.Image, say: Say) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's parsers have all kinds, and pixels are none the worse
        say("its EXIF data cannot be read; taken as it lies")
        return 1


def _deep(image: Image.Image, untold: Untold, say: Say) -> np.ndarray:
    codes = np.asarray(image).astype(np.uint16)
    clear = codes == image.info.get("transparency")
    if untold.bits < 16:
        codes = (codes.astype(np.float64) * 65535 / (2**untold.bits - 1)).round().astype(np.uint16)
    if untold.white_is_zero:
        codes = 65535 - codes
    picture = _in_srgb(Image.fromarray(codes), image.info, untold, say)
    picture = picture / np.float32(np.iinfo(picture.dtype).max) if picture.dtype != np.float32 else picture
    picture[clear] = 1
    return picture


def _eight_bits(image: Image.Image, untold: Untold, say: Say) -> np.ndarray:
    coloured, alpha = _apart(image, untold)
    picture = _in_srgb(coloured, image.info, untold, say)
    if picture.dtype == np.float32:
        picture = (picture * 255).round().astype(np.uint8)
    if alpha is None:
        return picture
    over = Image.fromarray(picture).convert("RGB")
    over.putalpha(alpha)
    return np.asarray(Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB"))


def _apart(image: Image.Image, untold: Untold) -> tuple[Image.Image, Image.Image | None]:
    """A picture of 8 bits -> its colours, in a mode of :data:`colour.KINDS`, and its alpha, if it has any."""
    clear = image.info.get("transparency")
    if image.mode == "La":  # premultiplied
        image = image.convert("LA")
    if image.mode == "LA":
        grey, alpha = image.split()
        return grey, alpha
    if image.has_transparency_data and image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGBA")
        return image.convert("RGB"), image.getchannel("A")
    coloured = image if image.mode in colour.KINDS else image.convert("L" if image.mode == "1" else "RGB")
    if isinstance(clear, int) and coloured.mode == "L":
        shown = np.asarray(coloured) != (clear if image.mode == "1" else clear * 255 // (2 ** min(untold.bits, 8) - 1))
    elif isinstance(clear, tuple) and coloured.mode == "RGB":
        shown = (np.asarray(coloured) != np.array(clear) >> max(untold.bits - 8, 0)).any(-1)
        if untold.low_bytes:
            shown |= (np.asarray(untold.low_bytes) != np.array(clear) & 255).any(-1)
    else:
        return coloured, None
    return coloured, Image.fromarray(shown.astype(np.uint8) * 255)


# -- colours ------------------------------------------------------------------------------------------------------


def _in_srgb(image: Image.Image, info: dict, untold: Untold, say: Say) -> np.ndarray:
    """A picture of a mode in :data:`colour.KINDS` -> sRGB (H, W) or (H, W, 3): uint8, or uint16 or float32 in [0, 1].

    What says most exactly which colours are meant is asked first: code points, a profile, gamma and chromaticities.
    """
    profile = info.get("icc_profile", untold.profile)
    points = untold.code_points
    if points is None and profile and (own := colour.code_points(profile)) and own[1] in (colour.PQ, colour.HLG):
        points = own
    if points and points[:2] != (colour.UNSPECIFIED, colour.UNSPECIFIED):
        space = colour.coded(*points)
        if space:
            return _from_space(image, space, say)
        say(f"nothing is known of its colour code points {points[0]}/{points[1]}; taken for sRGB")
    if profile or "icc_profile" in info:  # None is what Pillow makes of one that it cannot unpack
        try:
            return np.asarray(_by_profile(image, profile or b""))
        except colour.ProfileError as error:
            say(f"its colour profile {error}; without it")
    if "srgb" not in info and image.mode != "CMYK" and (space := _of_png(info)):
        return _from_space(image, space, say)
    return np.asarray(image.convert("RGB") if image.mode == "CMYK" else image)


def _from_space(image: Image.Image, space: colour.Space, say: Say) -> np.ndarray:
    codes = np.asarray(image)
    if space.srgb:
        return codes
    if space.hdr:
        say(f"its high dynamic range ({space.hdr}) is mapped to that of sRGB")
    found = colour.to_srgb(np.atleast_3d(codes), space)
    return found if codes.ndim == 3 else found[..., 0]


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        return colour.by_profile(image, profile)
    except colour.ProfileError:
        bands = image.split()
        if image.mode != "RGB" or any(band.tobytes() != bands[0].tobytes() for band in bands):
            raise
        return colour.by_profile(bands[0], profile)  # grey in colours: of a palette, or in 16 bits with alpha


def _of_png(info: dict) -> colour.Space | None:
    """Colours by the chunks gAMA and cHRM, if they say anything."""
    gamma, points = info.get("gamma"), info.get("chromaticity")
    if not gamma and not points:
        return None
    space = colour.Space(curve=colour.power(1 / gamma)) if gamma else colour.Space()
    return space._replace(primaries=(*points[2:], *points[:2])) if points else space


# -- files --------------------------------------------------------------------------------------------------------


def _untold(image: Image.Image) -> Untold:
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        bits = tags.get(ExifTags.Base.BitsPerSample, (8,))[0]
        white_is_zero = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
        return Untold(bits if image.mode.startswith("I;16") else 8, white_is_zero=white_is_zero)
    if image.format in READERS:
        with _file_of(image) as file:
            if file:
                with suppress(IndexError):  # a file that is damaged where Pillow does not look
                    return READERS[image.format](file, image)
    return Untold(16 if image.mode.startswith("I") else 8)


@contextmanager
def _file_of(image: Image.Image) -> Iterator[BinaryIO | None]:
    """The file of a picture, whether it is read already or not; ``None`` if it cannot be known."""
    file, name = getattr(image, "fp", None), getattr(image, "filename", "")
    if getattr(image, "tile", None) and file is not None:
        at = file.tell()
        file.seek(0)
        yield file
        file.seek(at)
    elif name and os.path.isfile(name):
        with open(name, "rb") as file:
            yield file
    else:
        yield None


def _png(file: BinaryIO, image: Image.Image) -> Untold:
    untold = Untold(file.read(25)[24])
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"cICP" and length == 4:
            primaries, transfer, _, full = file.read(4)
            untold.code_points = (primaries, transfer, bool(full))
            length = 0
        file.seek(length + 4, os.SEEK_CUR)
    if untold.bits == 16 and isinstance(image.info.get("transparency"), tuple):
        file.seek(0)
        low = Image.open(file)
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]  # of the other end
        low.load()
        untold.low_bytes = low
    return untold


def _avif(file: BinaryIO, image: Image.Image) -> Untold:
    """The property ``colr`` of the primary item, or of the sample entry of a sequence (ISO/IEC 14496-12)."""
    data = file.read()
    found = [colr for colr in _properties(data) if colr[:4] == b"nclx"]
    if not found and (at := data.find(b"colrnclx")) >= 0:
        found = [data[at + 4 :]]
    if not found or len(found[0]) < 11:
        return Untold()
    colr = found[0]
    return Untold(code_points=(int.from_bytes(colr[4:6], "big"), int.from_bytes(colr[6:8], "big"), True))


def _jpeg2000(file: BinaryIO, image: Image.Image) -> Untold:
    """The box ``colr`` whose method is a profile (ISO/IEC 15444-1)."""
    data = file.read(2**20)  # the codestream follows
    untold = Untold(16 if image.mode.startswith("I") else 8)
    for kind, start, end in _boxes(data, 0, len(data)):
        for inner, first, last in _boxes(data, start, end) if kind == b"jp2h" else ():
            if inner == b"colr" and data[first] == 2:
                untold.profile = data[first + 3 : last]
    return untold


READERS = {"PNG": _png, "AVIF": _avif, "JPEG2000": _jpeg2000}


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each box in a file or in a box."""
    while at + 8 <= end:
        size, kind, start = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        stop = min(at + size, end) if size else end
        if stop < start:
            return
        yield kind, start, stop
        at = stop


def _properties(data: bytes) -> list[bytes]:
    """The ``colr`` properties of the primary item of an AVIF file."""
    top = {kind: (start, end) for kind, start, end in _boxes(data, 0, len(data))}
    if b"meta" not in top:
        return []
    start, end = top[b"meta"]
    meta = {kind: (start, end) for kind, start, end in _boxes(data, start + 4, end)}
    if b"pitm" not in meta or b"iprp" not in meta:
        return []
    start, end = meta[b"pitm"]
    primary = int.from_bytes(data[start + 4 : end], "big")
    parts = {kind: (start, end) for kind, start, end in _boxes(data, *meta[b"iprp"])}
    if b"ipco" not in parts or b"ipma" not in parts:
        return []
    properties = list(_boxes(data, *parts[b"ipco"]))
    at, end = parts[b"ipma"]
    wide_items, wide_indices = data[at] > 0, data[at + 3] & 1
    count, at = int.from_bytes(data[at + 4 : at + 8], "big"), at + 8
    for _ in range(min(count, end - at)):
        size = 4 if wide_items else 2
        item, many, at = int.from_bytes(data[at : at + size], "big"), data[at + size], at + size + 1
        size = 2 if wide_indices else 1
        mask = 2 ** (8 * size - 1) - 1
        own = [int.from_bytes(data[at + size * i : at + size * (i + 1)], "big") & mask for i in range(many)]
        at += size * many
        if item == primary:
            chosen = [properties[index - 1] for index in own if 0 < index <= len(properties)]
            return [data[start:end] for kind, start, end in chosen if kind == b"colr"]
    return []
