"""Video files in and out, through PyAV (FFmpeg): frames as 8-bit RGB arrays, one at a time, at a constant rate."""

import os
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from glc_toolkit import footage, timeline
from glc_toolkit.footage import library
from glc_toolkit.frames import BT601, BT709, HD, UNKNOWN, matrix_of, picture, turn_of
from glc_toolkit.io import replacing
from glc_toolkit.mark import options
from glc_toolkit.types import PictureError

WRITABLE = {".mp4", ".m4v", ".mkv", ".mov", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".wmv", ".flv"}
SUFFIXES = WRITABLE | {".webm", ".ogv", ".y4m"}  # these hold no H.264
MATRICES = {BT709: "ITU709", 5: "ITU601", BT601: "ITU601"}  # of what is written


@dataclass(frozen=True)
class Clip:
    """A video file as it is read."""

    width: int  #: after rotation
    height: int
    aspect: Fraction  #: width of a pixel over its height, before rotation; 1 where the file does not say
    fps: Fraction  #: constant; where the file's rate varies, pictures are repeated
    frames: int  #: how many there will be, by the file's times; 0 where they do not tell
    colour: int  #: matrix by ITU-T H.273 to write the frames with again, BT.709 or BT.601
    audio: bool


@contextmanager
def opened(
    source: footage.Source,
    stream: int | None = None,
    strict: bool = False,
    report: Callable[[str], object] | None = None,
) -> Iterator[tuple[Clip, Iterator[np.ndarray]]]:
    """Facts about a video file, and its frames (H, W, 3) uint8. Frames are decoded as they are asked for.

    Frames come at a constant rate and show what a player would: a picture is repeated until the next is due. A packet
    that cannot be decoded costs its picture, and the one before stays. Pictures are turned, in sRGB and over white;
    those of another size than the first are scaled to it.

    Args:
        source: path of the file, or a binary file that can seek.
        stream: number of the stream in the file, as ``ffprobe`` counts them; ``None`` is the default one.
        strict: stop at the first packet that cannot be decoded.
        report: called with each line on what is not as the file says; ``None`` warns.

    Raises :class:`PictureError` for what is no video, has no pictures, or has a colour matrix that is not known.
    """
    name = source if isinstance(source, (str, os.PathLike)) else "the video"
    said: set[str] = set()

    def say(text: str) -> None:
        if text not in said:
            said.add(text)
            (report or _warn)(f"{name}: {text}")

    with ExitStack() as stack:
        with _naming(name):
            with footage.opened(source) as container:
                times = footage.times_of(container, footage.track_of(container, stream), say)
            container = stack.enter_context(footage.opened(source))
            reel = footage.Footage(container, footage.track_of(container, stream), times, strict, say)
            pictures = reel.pictures()
            first = next(pictures, None)
            if first is None:
                raise PictureError("has no frames")
            clip = _clip(reel, first[1])
        frames = stack.enter_context(closing(_frames(clip, reel, first, pictures, name)))
        yield clip, frames
        reel.conclude()


@contextmanager
def _naming(name: str | os.PathLike) -> Iterator[None]:
    """Add the name of the file to errors inside the block."""
    try:
        yield
    except library().FFmpegError as error:
        raise PictureError(f"{name} cannot be read as a video: {error.strerror}") from error
    except PictureError as error:
        raise PictureError(f"{name} {error}") from error


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


def _clip(reel: footage.Footage, frame: "footage.VideoFrame") -> Clip:
    quarters, _, exact = turn_of(frame)
    if not exact:
        reel.say(f"it is turned by {-90 * quarters % 360} degrees, the quarter that is nearest to what it asks")
    width, height = (frame.height, frame.width) if quarters % 2 else (frame.width, frame.height)
    matrix, times = matrix_of(frame), reel.times
    return Clip(
        width=width,
        height=height,
        aspect=reel.track.sample_aspect_ratio or Fraction(1),  # 0 or none where it is unknown
        fps=times.rate,
        frames=int(timeline.slots(times.end, times.rate)) if times.whole else 0,
        colour=int(matrix if matrix in MATRICES else BT709 if frame.height >= HD else BT601),
        audio=bool(reel.container.streams.audio),
    )


def _frames(
    clip: Clip, reel: footage.Footage, first: tuple, pictures: Iterator[tuple], name: str | os.PathLike
) -> Generator[np.ndarray]:
    def meant(frame: "footage.VideoFrame") -> np.ndarray:
        pixels = picture(frame, reel.say)
        height, width, _ = pixels.shape
        if (width, height) == (clip.width, clip.height):
            return pixels
        reel.say(f"its size changes to {width} x {height}; scaled to {clip.width} x {clip.height}, as it was at first")
        return np.asarray(Image.fromarray(pixels).resize((clip.width, clip.height), Image.Resampling.LANCZOS))

    shown = ((time - first[0], meant(frame)) for time, frame in chain([first], pictures))
    with _naming(name):
        yield from timeline.steady(shown, clip.fps, reel.times.end if reel.times.whole else 0)


def save(
    frames: Iterable[Image.Image],
    path: str | os.PathLike,
    fps: Fraction,
    colour: int = UNKNOWN,
    mark: str = "",
    force: bool = False,
) -> int:
    """Write frames as ``path`` says, with a ``mark`` (see :mod:`glc_toolkit.mark`), and return how many:

    * ``-``: raw 8-bit RGB to the standard output, for a pipe;
    * a name with a video suffix: H.264 of high quality (CRF 10), under its name once it is whole or interrupted;
    * anything else: a folder of numbered PNG files, in which there are none yet.

    A read-only file is replaced with ``force`` alone. Raises :class:`PictureError` if that cannot be, or there are no
    frames.
    """
    path = Path(path)
    if str(path) != "-" and path.suffix and path.suffix.lower() not in WRITABLE:
        raise PictureError(f"cannot write a video of the name {path.name!r}; try .mp4, a folder, or -")
    if str(path) == "-":
        count = sum(1 for frame in frames if sys.stdout.buffer.write(frame.tobytes()))
    elif path.suffix:
        count = _save_video(frames, path, fps, colour, mark, force)
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


def _save_video(frames: Iterable[Image.Image], path: Path, fps: Fraction, colour: int, mark: str, force: bool) -> int:
    """If the user interrupts, the frames so far become a whole file. Then ``KeyboardInterrupt`` is raised."""
    av, count = library(), 0
    interrupt = None
    with replacing(path, force) as partial, av.open(str(partial), "w") as container:
        stream = None
        if mark:
            container.metadata["comment"] = mark
        try:
            for frame in frames:
                if stream is None:
                    stream = container.add_stream("libx264", rate=fps, options={"crf": "10", "preset": "veryfast"})
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
