"""Video files in and out, through PyAV (FFmpeg): frames as 8-bit RGB arrays, one at a time."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glc_toolkit.io import PictureError, replacing
from glc_toolkit.mark import options

WRITABLE = {".mp4", ".m4v", ".mkv", ".mov", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".wmv", ".flv"}
SUFFIXES = WRITABLE | {".webm", ".ogv", ".y4m"}  # these hold no H.264
BT709, UNKNOWN, BT601 = 1, 2, 6  # colour matrices by ITU-T H.273
MATRICES = {BT709: "ITU709", 5: "ITU601", BT601: "ITU601"}
HD = 720  # rows from which a video that does not say is taken for BT.709


@dataclass(frozen=True)
class Clip:
    """What a video file says of itself."""

    width: int  #: after rotation
    height: int
    aspect: Fraction  #: width of a pixel over its height, before rotation; 1 where the file does not say
    fps: Fraction  #: the average, for files whose rate varies
    frames: int  #: by the file's own word; 0 where it does not say
    colour: int  #: matrix by ITU-T H.273, never unknown
    audio: bool


def _av() -> Any:
    try:
        import av
    except ModuleNotFoundError:
        raise PictureError("video needs PyAV: pip install 'glc-toolkit[video]'") from None
    return av


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[tuple[Clip, Iterator[np.ndarray]]]:
    """A video file: what it says of itself, and its frames (H, W, 3) uint8, decoded as they are asked for.

    Raises :class:`PictureError` for a file that is no video. FFmpeg passes over what it cannot read of a damaged one;
    then there are fewer frames than it claims.
    """
    av = _av()
    try:
        with av.open(os.path.abspath(path)) as container:  # a colon in a relative name would be a protocol's
            if not container.streams.video:
                raise PictureError(f"{path} has no pictures")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            decoded = container.decode(stream)
            first = next(decoded, None)
            if first is None:
                raise PictureError(f"{path} has no frames")
            turned = first.rotation % 180 != 0
            colour = first.colorspace if first.colorspace in MATRICES else BT709 if first.height >= HD else BT601
            clip = Clip(
                width=first.height if turned else first.width,
                height=first.width if turned else first.height,
                aspect=stream.sample_aspect_ratio or Fraction(1),  # 0 or none where it is unknown
                fps=Fraction(stream.average_rate or stream.guessed_rate or 25).limit_denominator(1001),
                frames=stream.frames,
                colour=int(colour),
                audio=bool(container.streams.audio),
            )

            def frames() -> Iterator[np.ndarray]:
                frame = first
                while frame is not None:
                    if (frame.width, frame.height) != (first.width, first.height):
                        raise PictureError(f"{path} changes its size to {frame.width} x {frame.height}")
                    rgb = frame.reformat(format="rgb24", src_colorspace=MATRICES[clip.colour]).to_ndarray()
                    yield np.ascontiguousarray(np.rot90(rgb, frame.rotation // 90))
                    frame = next(decoded, None)

            yield clip, frames()
    except av.FFmpegError as error:
        raise PictureError(f"{path} cannot be read as a video: {error.strerror}") from error


def save(
    frames: Iterable[Image.Image], path: str | os.PathLike, fps: Fraction, colour: int = UNKNOWN, mark: str = ""
) -> int:
    """Write frames as ``path`` says, with a ``mark`` (see :mod:`glc_toolkit.mark`), and return how many:

    * ``-``: raw 8-bit RGB to the standard output, for a pipe;
    * a name with a video suffix: H.264 of high quality (CRF 10), under its name once it is whole or interrupted;
    * anything else: a folder of numbered PNG files, in which there are none yet.

    Raises :class:`PictureError` if that cannot be, or there are no frames.
    """
    path = Path(path)
    if str(path) != "-" and path.suffix and path.suffix.lower() not in WRITABLE:
        raise PictureError(f"cannot write a video of the name {path.name!r}; try .mp4, a folder, or -")
    if str(path) == "-":
        count = sum(1 for frame in frames if sys.stdout.buffer.write(frame.tobytes()))
    elif path.suffix:
        count = _save_video(frames, path, fps, colour, mark)
    else:
        count = _save_pictures(frames, path, mark)
    if count == 0:
        raise PictureError("there are no frames to write")
    return count


def _save_pictures(frames: Iterable[Image.Image], folder: Path, mark: str) -> int:
    if next(folder.glob("[0-9]" * 6 + ".png"), None):  # of a longer video, some would stay behind these
        raise PictureError(f"{folder} has frames already; empty it, or give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, frame in enumerate(frames, 1):
        with replacing(folder / f"{count - 1:06}.png") as partial:
            frame.save(partial, compress_level=1, **options(".png", mark))
    return count


def _save_video(frames: Iterable[Image.Image], path: Path, fps: Fraction, colour: int, mark: str) -> int:
    """What there is when the user interrupts makes a whole file; the ``KeyboardInterrupt`` goes on after that."""
    av, count = _av(), 0
    interrupt = None
    with replacing(path) as partial, av.open(str(partial), "w") as container:
        stream = None
        if mark:
            container.metadata["comment"] = mark
        try:
            for frame in frames:
                if stream is None:
                    stream = container.add_stream("libx264", rate=fps, options={"crf": "10", "preset": "fast"})
                    stream.width, stream.height = frame.size
                    even = not (frame.width % 2 or frame.height % 2)
                    stream.pix_fmt = "yuv420p" if even else "yuv444p"
                    matrix = colour if colour in MATRICES else BT709 if frame.height >= HD else BT601
                    stream.codec_context.colorspace = matrix
                    stream.codec_context.color_range = 1  # the narrow one of video
                picture = av.VideoFrame.from_image(frame)
                picture = picture.reformat(format=stream.pix_fmt, dst_colorspace=MATRICES[matrix])
                container.mux(stream.encode(picture))
                count += 1
        except KeyboardInterrupt as error:
            interrupt = error
        except av.FFmpegError as error:
            raise PictureError(f"cannot write {path}: {error.strerror}") from error
        if stream is None:
            raise interrupt or PictureError("there are no frames to write")
        container.mux(stream.encode())
    if interrupt:
        raise interrupt
    return count
