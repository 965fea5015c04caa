"""A decoded frame of a video -> the picture as it is to be shown: turned, in sRGB, over white."""

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from glc_toolkit import colour
from glc_toolkit.types import PictureError

if TYPE_CHECKING:
    from av import VideoFrame

BT709, UNKNOWN, BT601 = 1, 2, 6  # colour matrices by ITU-T H.273
HD = 720  # rows from which a video that does not say is taken for BT.709
# By matrix, what FFmpeg's scaler calls it. BT.2020 with constant luminance is taken for that without.
MATRICES = {BT709: 1, 4: 4, 5: 5, BT601: 5, 7: 7, 9: 9, 10: 9}
OF_PRIMARIES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # the same where the matrix follows from the primaries
DERIVED = (12, 13)
LIGHT = (8, 9, 10, colour.PQ, colour.HLG)  # curves that are undone; displays of video undo others by one of their own
WIDE = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
NARROW, FULL = 1, 2  # ranges of numbers; in the first, of 8 bits, black is 16 and white 235
Say = Callable[[str], object]


def matrix_of(frame: "VideoFrame") -> int:
    """The matrix by ITU-T H.273. It is guessed from the height if the frame does not say."""
    return frame.colorspace if frame.colorspace != UNKNOWN else BT709 if frame.height >= HD else BT601


def picture(frame: "VideoFrame", say: Say) -> np.ndarray:
    """A frame as it is shown: (H, W, 3) uint8.

    ``say`` is called with a line on what is not as the frame asks. Raises :class:`PictureError` for a matrix that
    cannot be undone.
    """
    space = _space(frame, say)
    clear = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
    kind = {(False, False): "rgb24", (True, False): "rgba", (False, True): "rgb48le", (True, True): "rgba64le"}
    grey = len(frame.format.components) < 3 and not frame.format.has_palette
    narrow_grey = grey and frame.color_range == NARROW  # FFmpeg takes any grey for full
    rgb = frame.reformat(
        format=kind[clear, space is not None],
        src_colorspace=_scaler(frame),
        src_color_range=FULL if narrow_grey else frame.color_range or None,
        dst_color_range=FULL,
    ).to_ndarray()
    rgb, alpha = rgb[..., :3], rgb[..., 3:]
    if narrow_grey:
        space = (space or colour.Space())._replace(full=False)
    if space:
        rgb = (colour.to_srgb(rgb, space, _peak(frame)) * 255).round().astype(np.uint8)
    if clear:
        opaque = alpha / np.float32(255 if alpha.dtype == np.uint8 else 65535)
        rgb = (rgb * opaque + 255 * (1 - opaque)).round().astype(np.uint8)
    return np.ascontiguousarray(turned(rgb, *turn_of(frame)[:2]))


def _scaler(frame: "VideoFrame") -> int | None:
    if frame.format.is_rgb or frame.format.has_palette or len(frame.format.components) < 3:
        return None
    matrix = matrix_of(frame)
    found = OF_PRIMARIES.get(frame.color_primaries) if matrix in DERIVED else MATRICES.get(matrix)
    if found is None:
        raise PictureError(
            f"has a colour matrix, {matrix} of ITU-T H.273, that is not known here; "
            "let another program make it that of BT.709"
        )
    return found


def _space(frame: "VideoFrame", say: Say) -> colour.Space | None:
    """How to undo the curve; ``None`` for a frame that is shown as it is."""
    if frame.color_trc not in LIGHT:
        if name := WIDE.get(frame.color_primaries):
            say(f"its primaries, {name}, are taken for those of BT.709")
        return None
    known = frame.color_primaries in colour.PRIMARIES
    space = colour.coded(frame.color_primaries if known else colour.UNSPECIFIED, frame.color_trc)
    if space and space.hdr:
        say(f"its high dynamic range ({space.hdr}) is mapped to that of sRGB")
    return space


def _peak(frame: "VideoFrame") -> float:
    """High dynamic range: the brightest light of the clip as it says, or that of most clips."""
    told = frame.side_data.get("CONTENT_LIGHT_LEVEL")
    return (told and float(struct.unpack("=I", bytes(told)[:4])[0])) or colour.PEAK


def turn_of(frame: "VideoFrame") -> tuple[int, bool, bool]:
    """What the frame's display matrix asks for: quarter turns counterclockwise, whether to mirror left and right first,
    and whether the matrix asks for nothing else."""
    told = frame.side_data.get("DISPLAYMATRIX")
    if not told:
        return 0, False, True
    a, b, _, c, d = struct.unpack("=5i", bytes(told)[:20])  # (x, y) is shown at (a x + c y, b x + d y)
    mirrored = a * d - b * c < 0
    angle = np.degrees(np.arctan2(-b, -a) if mirrored else np.arctan2(b, a)) / 90  # clockwise, since y points down
    quarters = round(float(angle))
    return -quarters % 4, bool(mirrored), bool(abs(angle - quarters) < 0.01)


def turned(pixels: np.ndarray, quarters: int, mirrored: bool) -> np.ndarray:
    """Turn an array (H, W, ...) as :func:`turn_of` says."""
    return np.rot90(pixels[:, ::-1] if mirrored else pixels, quarters)
