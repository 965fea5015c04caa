"""Pictures and videos to bytes and back: a call for each."""

import math
import os
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial
from itertools import takewhile
from statistics import fmean
from typing import BinaryIO, TypeVar

import torch
from PIL import Image

from glc_toolkit import bitstream, io, videostream, zoo
from glc_toolkit.ahead import ahead
from glc_toolkit.defaults import MODEL as DEFAULT_MODEL
from glc_toolkit.defaults import VIDEO_MODEL as DEFAULT_VIDEO_MODEL
from glc_toolkit.facts import Facts
from glc_toolkit.models import GLCImage, GLCModel, GLCVideo
from glc_toolkit.models.video import Reference
from glc_toolkit.ratecontrol import Budget, RateControl
from glc_toolkit.types import BitstreamError

Model = TypeVar("Model", bound=GLCModel)
Record = videostream.Frame | videostream.Damage
CODES = {GLCImage: "pictures", GLCVideo: "videos"}


def encode(
    image: io.Picture,
    model: str | GLCModel = DEFAULT_MODEL,
    quality: float | None = None,
    target_bpp: float | None = None,
    max_bytes: int | None = None,
    effort: int = 0,
    max_pixels: int | None = None,
    precision: str = "float32",
    device: str = "cpu",
    progress: Callable[[float], object] = lambda share: None,
) -> bytes:
    """Compress a picture of any size to a GLC file.

    Args:
        image: anything :func:`glc_toolkit.io.to_tensor` takes.
        model: what :func:`glc_toolkit.zoo.load` takes, or a loaded model.
        quality: level in [0, levels - 1]; fractions are allowed. ``None`` is the model's default quality.
        target_bpp: the best quality whose file has at most so many bits a pixel. It takes the place of ``quality``.
        max_bytes: the best quality whose file has at most so many bytes. It takes the place of ``quality``.
        effort: steps of :func:`glc_toolkit.refine.refine`, for a better picture of about the same size. 10 to 30 are
            useful. A step takes longer than encoding without effort.
        max_pixels: refuse a picture that has more pixels, padding included. ``None`` is ``io.MAX_PIXELS``; 0 means no
            limit.
        precision: arithmetic of a model that is given by name, see :meth:`GLCImage.set_precision`.
        device: where a model that is given by name runs, as PyTorch calls it. The file of a GPU may differ from that
            of a CPU. Each file decodes to the same symbols everywhere.
        progress: called with the share done, in (0, 1], during the search for a budget and during the effort.

    Raises ``ValueError`` for a picture, quality, budget or effort that cannot be.
    """
    _check_budget(quality, target_bpp, max_bytes)
    codec = _loaded(model, GLCImage, precision, device)
    code = codec.quality_code(quality)
    x = io.to_tensor(image, max_pixels, codec.downsampling_factor).to(_device(codec))
    height, width = x.shape[-2:]
    fingerprint = codec.fingerprint()
    budget = math.inf if max_bytes is None else max_bytes
    if target_bpp is not None:
        budget = target_bpp * width * height / 8

    def file(l: torch.Tensor, code: int) -> bytes:
        payload = codec.encode_payload(l, code)
        return bitstream.ImageStream(fingerprint, code, width, height, payload).to_bytes()

    def search(l: torch.Tensor) -> tuple[int, bytes]:
        """The highest quality within the budget, or else the lowest, and its file."""
        codes = range(codec.quality_code(codec.levels - 1) + 1)
        tried: dict[int, bytes] = {}

        def size(code: int) -> int:
            tried[code] = file(l, code)
            if not effort:
                progress(len(tried) / len(codes).bit_length())
            return len(tried[code])

        code = max(bisect_right(codes, budget, key=size) - 1, 0)
        return code, tried[code]

    l = codec.analysis(x)
    if budget < math.inf:
        code, data = search(l)
        if len(data) > budget:
            raise ValueError(f"the lowest quality already takes {len(data)} bytes, over the budget of {int(budget)}")
    if effort:
        from glc_toolkit.refine import refine  # imported late: its losses bring torch._dynamo

        l = refine(codec, x, codec.quality_of(code), effort, progress)
    if budget == math.inf:
        return file(l, code)
    _, refined = search(l) if effort else (code, data)
    return refined if len(refined) <= budget else data


def _check_budget(quality: float | None, target_bpp: float | None, max_bytes: int | None) -> None:
    if sum(v is not None for v in (quality, target_bpp, max_bytes)) > 1:
        raise ValueError("give one of quality, target_bpp and max_bytes, not several")
    for name, value in (("target_bpp", target_bpp), ("max_bytes", max_bytes)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} has to be a positive number, not {value}")


def decode(
    data: bytes | str | os.PathLike,
    model: str | GLCModel | None = None,
    preview: bool = False,
    max_pixels: int | None = None,
    precision: str = "float32",
    device: str = "cpu",
    artist: str | GLCImage | None = None,
) -> Image.Image | Iterator[Image.Image]:
    """Decompress a GLC file to an RGB picture; of a video, to an iterator of them (see :func:`decode_video`).

    Args:
        data: the whole file, or its path.
        model: the model that wrote the file. ``None`` finds it in the zoo by the fingerprint in the file.
        preview: decode z alone, a blurred picture from the first few per cent of the file.
        max_pixels: refuse a file that claims more pixels, padding included. ``None`` is ``io.MAX_PIXELS``; 0 means no
            limit.
        precision: arithmetic of a model that is not given loaded, see :meth:`GLCImage.set_precision`.
        device: where a model that is not given loaded runs, as PyTorch calls it.
        artist: an image model that draws in the place of the model that wrote the file. Both need the same latent, as
            ``glc-image-0.03``, ``glc-image-0.03-fast`` and ``glc-video-0.01`` have it.

    Raises :class:`BitstreamError` for anything that is not a whole, undamaged file of a known model, and ``ValueError``
    for an artist with another latent.
    """
    data = bitstream.of(data)
    if bitstream.is_video(data):
        if preview:
            raise ValueError("a preview is of a picture, not of a video")
        return decode_video(data, model, max_pixels=max_pixels, precision=precision, device=device, artist=artist)
    return decode_picture(data, model, preview, max_pixels, precision, device, artist)


def decode_picture(
    data: bytes,
    model: str | GLCModel | None = None,
    preview: bool = False,
    max_pixels: int | None = None,
    precision: str = "float32",
    device: str = "cpu",
    artist: str | GLCImage | None = None,
) -> Image.Image:
    """Decompress a GLC file that is a picture. Arguments and errors are those of :func:`decode`."""
    stream, model = open_stream(data, model, max_pixels, precision, device)
    artist = _artist(artist, model, precision, device)
    x_hat = model.decode_payload(stream.payload, stream.quality_code, (stream.height, stream.width), preview, artist)
    return io.to_pillow(x_hat)


def encode_video(
    frames: Iterable[io.Picture],
    model: str | GLCModel = DEFAULT_VIDEO_MODEL,
    fps: Fraction | float = 25,
    quality: float | None = None,
    intra_period: int | None = None,
    colour: int = 2,
    max_pixels: int | None = None,
    precision: str = "float32",
    effort: int = 0,
    device: str = "cpu",
    target_bpp: float | None = None,
    max_bytes: int | None = None,
    count: int | None = None,
) -> Iterator[bytes]:
    """Compress frames, one at a time: yields the header of a GLC video, a record for each frame, and the end.

    Together they are the file. A file without its end can be decoded up to its last whole frame.

    Args:
        frames: anything :func:`glc_toolkit.io.to_tensor` takes, all of one size.
        model: what :func:`glc_toolkit.zoo.load` takes, or a loaded model.
        fps: frames a second.
        quality: level in [0, levels - 1]; fractions are allowed. ``None`` is the model's default quality.
        intra_period: frames from one intra frame to the next. ``None`` is the model's own period.
        colour: matrix of the source by ITU-T H.273, for a decoder that writes YUV; 2 means unknown.
        max_pixels: limit for a frame, as in :func:`encode`.
        precision: as in :func:`encode`.
        effort: steps for an intra frame, as in :func:`encode`. A P frame gets ceil(effort / 32) steps. See
            :class:`glc_toolkit.refine.VideoRefiner`.
        device: as in :func:`encode`.
        target_bpp: the file has at most so many bits a pixel, and a quality that follows, frame by frame (see
            :mod:`glc_toolkit.ratecontrol`). It takes the place of ``quality``. If the number of frames is not known,
            this holds at the end of each intra period.
        max_bytes: the file has at most so many bytes, likewise. It needs the number of frames.
        count: how many frames there will be, for a budget. ``None`` asks ``frames`` for its length, if it has one.

    Raises ``ValueError`` for arguments that cannot be, and where a frame does not fit the budget even at the lowest
    quality. What was yielded before is then of no use.
    """
    _check_budget(quality, target_bpp, max_bytes)
    codec = _loaded(model, GLCVideo, precision, device)
    code = codec.quality_code(quality)
    period = codec.intra_period if intra_period is None else intra_period
    if period < 1:
        raise ValueError(f"intra_period has to be at least 1, not {period}")
    count = len(frames) if count is None and isinstance(frames, Sized) else count
    if max_bytes is not None and count is None:
        raise ValueError("max_bytes needs the number of frames: give count, or frames that have a length")
    refiner = control = None
    if effort:
        from glc_toolkit.refine import VideoRefiner  # imported late: its losses bring torch._dynamo

        refiner = VideoRefiner(codec, effort)
    fps = Fraction(fps).limit_denominator(1001)
    if fps <= 0:
        raise ValueError(f"fps has to be positive, not {fps}")
    size = before = None

    def analysed(numbered: tuple[int, io.Picture]) -> tuple[int, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """What a frame needs of the frames alone, not of how they are coded."""
        nonlocal size, before
        number, frame = numbered
        x = io.to_tensor(frame, max_pixels, codec.downsampling_factor).to(_device(codec))
        height, width = x.shape[-2:]
        size = size or (width, height)
        if (width, height) != size:
            raise io.PictureError(f"frame {number} is {width} x {height}, the first was {size[0]} x {size[1]}")
        before = before if number % period else None
        l = codec.frame_analysis(x, before)
        motion = None if before is None else codec.motion(l, before)
        before = Reference(l, 0, l) if before is None else codec.leaves(l, l, before, motion)
        return number, x, l, motion

    header = reference = told = None
    number = -1
    for number, x, l, motion in ahead(analysed, enumerate(frames)):
        if header is None:
            height, width = x.shape[-2:]
            fingerprint = codec.fingerprint()[: bitstream.FINGERPRINT_BYTES]
            varies = max_bytes is not None or target_bpp is not None
            header = videostream.VideoHeader(fingerprint, code, width, height, period, fps, colour, varies)
            if varies:
                share = None if target_bpp is None else target_bpp * width * height / 8
                budget = Budget(period, count, max_bytes, share)
                control = RateControl(budget, codec.quality_code(codec.levels - 1), len(header.to_bytes()))
        intra = number % period == 0
        reference = None if intra else reference
        given = {"reference": reference, "motion": motion}
        coded = cache(partial(codec.encode_payload, l, **given))  # by quality code
        if control:
            code = control.plan(coded)
        if refiner:
            refined = refiner.latent(x, l, reference, code, motion)
            coded = cache(partial(codec.encode_payload, refined, **given))
        if control:
            code, told = control.fit(coded, code)
        reference, payload = coded(code)
        if refiner and not intra:
            refiner.steer(len(payload))
        if number == 0:
            yield replace(header, quality_code=code).to_bytes()
        yield videostream.record(number, payload, intra, told)
    if header is None:
        raise io.PictureError("a video has at least one frame")
    yield videostream.end(number + 1)


@dataclass(frozen=True)
class Written:
    """What :func:`write_video` did."""

    frames: int
    bytes: int
    interrupted: bool  #: the user stopped it; the file lacks its end, and can be decoded up to its last frame


def write_video(
    chunks: Iterable[bytes], file: BinaryIO, progress: Callable[[int], object] = lambda frames: None
) -> Written:
    """Write what :func:`encode_video` yields to a binary file, and call ``progress`` with the number of frames.

    If the user interrupts, the file keeps its frames. Raises ``KeyboardInterrupt`` if it has none yet.
    """
    size = count = 0
    try:
        for count, chunk in enumerate(chunks):  # the first chunk is the header
            size += file.write(chunk)
            progress(count)
    except KeyboardInterrupt:
        if count == 0:
            raise
        return Written(count, size, True)
    return Written(count - 1, size, False)  # the last chunk is the end


def decode_video(
    data: bytes | str | os.PathLike,
    model: str | GLCModel | None = None,
    start: int = 0,
    frames: int | None = None,
    strict: bool = False,
    max_pixels: int | None = None,
    precision: str = "float32",
    report: Callable[[videostream.Damage], object] | None = None,
    max_gap: int | None = None,
    device: str = "cpu",
    artist: str | GLCImage | None = None,
) -> Iterator[Image.Image]:
    """Decompress a GLC video, one RGB picture at a time.

    In the place of a damaged or missing frame, and of the frames up to the next intra frame, the last sound frame is
    repeated. So the rest keeps its time. Before the first sound frame nothing is yielded.

    Args:
        data: the whole file, or its path.
        model: the model that wrote the file. ``None`` finds it in the zoo by the fingerprint in the file.
        start: number of the first frame to yield. Decoding begins at the intra frame before it.
        frames: how many frames to yield at most; ``None`` means all.
        strict: raise :class:`BitstreamError` at the first damage.
        max_pixels: as in :func:`decode`.
        precision: as in :func:`decode`.
        report: called with each :class:`~glc_toolkit.videostream.Damage`; ``None`` warns.
        max_gap: how many more frames may be missing than are there. Reading ends at an intra frame that lies
            further on. ``None`` is ``videostream.MAX_GAP``; 0 means no limit.
        device: as in :func:`decode`.
        artist: as in :func:`decode`.
    """
    data = bitstream.of(data)
    header, at, model = open_video(data, model, max_pixels, precision, device)
    artist = _artist(artist, model, precision, device)
    end = math.inf if frames is None else start + frames
    at, number = _seek(data, at, start, max_gap)
    shape = (header.height, header.width)
    reference = last = picture = None

    def decoded(item: Record) -> tuple[Record, Reference | None]:
        nonlocal reference
        if isinstance(item, videostream.Damage):
            reference = None
        else:
            with _in_frame(item.number):
                if reference is None and not item.intra:
                    raise BitstreamError(f"frame {item.number} has no intra frame before it")
                before = None if item.intra else reference
                reference = model.decode_payload(item.payload, item.quality_code, shape, before)
        return item, reference

    def drawn(frame: tuple[Record, Reference | None]) -> tuple[Record, Image.Image | None]:
        nonlocal last
        before, last = last, frame
        item, found = frame
        if isinstance(item, videostream.Damage) and before and before[0].number < start:
            item, found = before  # what is repeated was not drawn yet
        elif item.number < start:
            found = None
        if found is None:
            return frame[0], None
        with _in_frame(item.number):
            return frame[0], io.to_pillow(model.reconstruct(found, shape, artist))

    items = takewhile(lambda item: item.number < end, videostream.records(data, at, number, max_gap))
    for item, new in ahead(drawn, ahead(decoded, items)):
        picture = picture if new is None else new
        if isinstance(item, videostream.Damage):
            if strict:
                raise BitstreamError(item.reason)
            (report or _warn)(item)
            if picture is not None:
                resumes = item.number if item.resumes is None else int(min(item.resumes, end))
                for _ in range(max(item.number, start), resumes):
                    yield picture
        elif picture is not None and item.number >= start:
            yield picture


@contextmanager
def _in_frame(number: int) -> Iterator[None]:
    """Say which frame cannot be decoded. Its checksum was right: an encoder wrote this, or it is a forgery."""
    try:
        yield
    except BitstreamError as error:
        raise BitstreamError(f"frame {number}: {error}") from error


def _seek(data: bytes, at: int, start: int, max_gap: int | None) -> tuple[int, int]:
    """Offset and number of the last intra frame up to ``start``."""
    number, begin = 0, at
    if start > 0:
        for item in videostream.records(data, begin, max_gap=max_gap):
            if item.number > start:
                break
            if isinstance(item, videostream.Frame) and item.intra:
                at, number = item.offset, item.number
    return at, number


def _warn(damage: videostream.Damage) -> None:
    warnings.warn(str(damage), stacklevel=3)


def open_video(
    data: bytes,
    model: str | GLCModel | None = None,
    max_pixels: int | None = None,
    precision: str = "float32",
    device: str = "cpu",
) -> tuple[videostream.VideoHeader, int, GLCVideo]:
    """The checked header of a video, the offset of its first record, and the model that reads it."""
    header, at = videostream.parse_header(data)
    return header, at, _reader(header, model, max_pixels, GLCVideo, precision, device)


def info(
    data: bytes | str | os.PathLike,
    model: str | GLCModel | None = None,
    max_pixels: int | None = None,
    device: str = "cpu",
) -> Facts:
    """What is in a file: its header, and the bytes of each section. Arguments and errors are those of :func:`decode`.

    The entropy decoder reads all symbols of a picture, because only it knows where a section ends. No pixel is made.
    """
    data = bitstream.of(data)
    if bitstream.is_video(data):
        return _video_info(data, model, max_pixels, device)
    stream, model = open_stream(data, model, max_pixels, device=device)
    sections = model.sections(stream.payload, (stream.height, stream.width))
    return Facts(
        {
            "model": model.config.get("name", "unnamed"),
            "fingerprint": stream.fingerprint.hex(),
            "width": stream.width,
            "height": stream.height,
            "quality": round(model.quality_of(stream.quality_code), 4),
            "bytes": len(data),
            "bpp": 8 * len(data) / (stream.width * stream.height),
            "sections": {"header": stream.header_bytes, **sections},
        }
    )


def header(data: bytes | str | os.PathLike) -> Facts:
    """What the header of a file says without its model. Raises :class:`BitstreamError` for a bad file."""
    data = bitstream.of(data)
    head = videostream.parse_header(data)[0] if bitstream.is_video(data) else bitstream.parse(data)
    facts = {
        "model": None,
        "fingerprint": head.fingerprint.hex(),
        "width": head.width,
        "height": head.height,
        "quality": None,
        "quality_byte": head.quality_code,
        "bytes": len(data),
    }
    if isinstance(head, videostream.VideoHeader):
        return Facts({**facts, "fps": float(head.fps), "intra_period": head.intra_period})
    return Facts({**facts, "bpp": 8 * len(data) / (head.width * head.height)})


def _video_info(data: bytes, model: str | GLCModel | None, max_pixels: int | None, device: str) -> Facts:
    header, at, model = open_video(data, model, max_pixels, device=device)
    items = list(videostream.records(data, at))
    frames = [item for item in items if isinstance(item, videostream.Frame)]
    damages = [item for item in items if isinstance(item, videostream.Damage)]
    read = at + sum(frame.size for frame in frames)
    qualities = [round(model.quality_of(frame.quality_code), 4) for frame in frames]
    return Facts(
        {
            "model": model.config.get("name", "unnamed"),
            "fingerprint": header.fingerprint.hex(),
            "width": header.width,
            "height": header.height,
            "fps": float(header.fps),
            "quality": round(fmean(qualities or [model.quality_of(header.quality_code)]), 4),
            "intra_period": header.intra_period,
            "bytes": len(data),
            "frames": len(frames),
            "bpp": 8 * len(data) / (header.width * header.height * max(len(frames), 1)),
            "kbit/s": 8e-3 * len(data) * float(header.fps) / max(len(frames), 1),
            "damages": [damage.reason for damage in damages],
            "sections": {
                "header": at,
                "I frames": sum(frame.size for frame in frames if frame.intra),
                "P frames": sum(frame.size for frame in frames if not frame.intra),
                "end" if not damages else "end and what is damaged": len(data) - read,
            },
            "records": [
                {"frame": f.number, "type": "I" if f.intra else "P", "quality": quality, "bytes": f.size}
                for f, quality in zip(frames, qualities, strict=True)
            ],
        }
    )


def open_stream(
    data: bytes,
    model: str | GLCModel | None = None,
    max_pixels: int | None = None,
    precision: str = "float32",
    device: str = "cpu",
) -> tuple[bitstream.ImageStream, GLCImage]:
    """A checked stream and the model that reads it."""
    stream = bitstream.parse(data)
    return stream, _reader(stream, model, max_pixels, GLCImage, precision, device)


def resolve(
    stream: bitstream.ImageStream | videostream.VideoHeader,
    model: str | GLCModel | None,
    precision: str = "float32",
    device: str = "cpu",
) -> tuple[GLCModel, str]:
    """The model for a file with this header, and why it is not the one that wrote the file, or "".

    ``model`` is a name or a loaded model; ``None`` finds it by the fingerprint in the file. Raises
    :class:`UnknownModelError` if no known model has it.
    """
    if model is None:
        return zoo.by_fingerprint(stream.fingerprint, precision, device), ""
    codec = model if isinstance(model, GLCModel) else zoo.load(model, device, precision)
    own = codec.fingerprint()[: bitstream.FINGERPRINT_BYTES]
    if own == stream.fingerprint:
        return codec, ""
    writer, name = zoo.released(stream.fingerprint.hex()) or "a model", codec.config.get("name", "the given model")
    return codec, (
        f"this file was written with {writer} of fingerprint {stream.fingerprint.hex()}, but {name!r} has {own.hex()}"
    )


def _reader(
    stream: bitstream.ImageStream | videostream.VideoHeader,
    model: str | GLCModel | None,
    max_pixels: int | None,
    kind: type[Model],
    precision: str,
    device: str,
) -> Model:
    """The model that wrote a file with this header, after all checks of the header."""
    codec, mismatch = resolve(stream, model, precision, device)
    if model is None and not isinstance(codec, kind):
        raise BitstreamError(
            f"the file names {codec.config.get('name')!r} as its model, which codes {CODES[type(codec)]}"
        )
    codec = _loaded(codec, kind, precision, device)
    if mismatch:
        raise BitstreamError(mismatch)
    if reason := io.too_large(stream.width, stream.height, codec.downsampling_factor, max_pixels):
        raise BitstreamError(f"the file claims too large a picture: {reason}")
    return codec


def _loaded(model: str | GLCModel, kind: type[Model], precision: str, device: str) -> Model:
    model = model if isinstance(model, GLCModel) else zoo.load(model, device, precision)
    if not isinstance(model, kind):
        raise ValueError(f"{model.config.get('name', 'this model')!r} codes {CODES[type(model)]}, not {CODES[kind]}")
    return model


def _artist(artist: str | GLCImage | None, model: GLCModel, precision: str, device: str) -> GLCImage | None:
    """The loaded model that draws what ``model`` decodes; None is that model itself."""
    if artist is None:
        return None
    loaded = _loaded(artist, GLCImage, precision, device)
    if not loaded.has_latent_of(model):
        own, other = model.config.get("name", "this model"), loaded.config.get("name", "the artist")
        other = artist if isinstance(artist, str) else other
        raise ValueError(f"{other} cannot draw what {own} decodes: the encoders of their backbones differ")
    return loaded


def _device(model: GLCModel) -> torch.device:
    return next(model.parameters()).device
