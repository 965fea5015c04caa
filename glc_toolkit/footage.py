"""A video file -> the pictures of one of its streams, as FFmpeg decodes them, and when each is shown."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from glc_toolkit import timeline
from glc_toolkit.types import PictureError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

Source = str | os.PathLike | BinaryIO
Say = Callable[[str], object]
SCANNED = 2**28  # bytes of a file that are looked through for times before its first picture is decoded
MAY_JUMP = 0x200  # a flag of formats: of times, where one recording was spliced on another
DEFAULT, COVER = 0x1, 0x400 | 0x800  # flags of streams; the second are an attached picture, and thumbnails
FLUSHES = 64  # times that a decoder with no more to come may fail
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # decoders of the second layer, which FFmpeg's own pass over


def library() -> ModuleType:
    """The package PyAV. Raises :class:`PictureError` if it is not installed."""
    try:
        import av
    except ModuleNotFoundError:
        raise PictureError("video needs PyAV: pip install 'glc-toolkit[video]'") from None
    return av


@contextmanager
def opened(source: Source) -> Iterator["InputContainer"]:
    """A file from its beginning."""
    if isinstance(source, (str, os.PathLike)):
        source = os.path.abspath(source)  # a colon in a relative name would be a protocol's
    else:
        source.seek(0)
    with library().open(source, metadata_errors="replace") as container:  # titles are in all kinds of encodings
        yield container


def track_of(container: "InputContainer", number: int | None) -> "VideoStream":
    """The stream with this number, or the default stream, which is no cover picture. Raises :class:`PictureError`."""
    tracks = {track.index: track for track in container.streams.video}
    if number is not None and number not in tracks:
        those = f"stream {', '.join(map(str, tracks))}" if tracks else "none"
        raise PictureError(f"has no pictures in its stream {number}; it has in: {those}")
    if number is not None:
        return tracks[number]
    moving = [track for track in tracks.values() if not track.disposition & COVER]
    if not moving:
        raise PictureError("has no pictures")
    best = container.streams.best("video")
    chosen = [track for track in moving if track.disposition & DEFAULT] or moving
    return next((track for track in chosen if best is not None and track.index == best.index), chosen[0])


# -- times --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Times:
    """When the pictures of a stream are shown, according to the packets in the first ``SCANNED`` bytes."""

    rate: Fraction  #: of frames, a second
    end: float  #: seconds from the first picture to the end of the last; 0 where nothing tells
    count: int  #: of pictures
    whole: bool  #: whether these are all


def times_of(container: "InputContainer", track: "VideoStream", say: Say) -> Times:
    """Read the times in a file, without decoding."""
    unit, size, packets, whole = float(track.time_base or 1), 0, 0, True
    found: list[tuple[float, float]] = []  # when each is shown, and for how long
    try:
        for packet in container.demux(track):
            packets += packet.size > 0
            at = packet.dts if packet.pts is None else packet.pts
            if packet.size and at is not None and not packet.is_discard:  # what an edit list hides is discarded
                found.append((at * unit, (packet.duration or 0) * unit))
            if (size := size + packet.size) > SCANNED:
                whole = False
                break
    except library().FFmpegError:
        pass  # said when the decoder meets it
    rates = (track.guessed_rate, track.average_rate, track.base_rate)
    if not found:
        return Times(timeline.rate_of([], 0, rates), 0, 0, whole)
    ordered = list(timeline.in_order(found, longest(container), timeline.AGO, lambda: True))
    shown = np.unique([time for time, _ in ordered])
    usual = float(np.median(np.diff(shown))) if len(shown) > 1 else 0.0
    last = ordered[-1][1] or (float(1 / rates[0]) if rates[0] and rates[0] >= 1 else usual)
    end = float(shown[-1] - shown[0]) + min(last, longest(container))
    claimed, seconds = len(getattr(track, "index_entries", ())), _claimed(container, track)
    if whole and packets < claimed:
        say(f"it claims {claimed} pictures, and ends after {packets}")
    elif whole and seconds > end + 1:
        say(f"it claims to last {seconds:.2f} s, and ends after {end:.2f} s")
    return Times(timeline.rate_of(shown - shown[0], end, rates), end, len(shown), whole)


def longest(container: "InputContainer") -> float:
    """Seconds that one picture may be shown for. A longer gap between times is taken for a splice."""
    return 10.0 if container.format.flags & MAY_JUMP else 3600.0


def _claimed(container: "InputContainer", track: "VideoStream") -> float:
    """Seconds that a stream lasts, as the file says. 0 if the file may mean another stream, or estimates."""
    if told := track.metadata.get("DURATION"):  # Matroska
        try:
            hours, minutes, seconds = told.split(":")
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        except ValueError:
            return 0
    if container.format.name == "avi" and track.frames and track.average_rate:
        return float(track.frames / track.average_rate)
    if container.duration and len(container.streams) == 1 and not container.format.flags & MAY_JUMP:
        return container.duration / 1e6
    return 0


# -- pictures -----------------------------------------------------------------------------------------------------


class Footage:
    """The pictures of a stream.

    Args:
        container, track: what is read; nothing of it was yet.
        times: of the pictures.
        strict: raise :class:`PictureError` at the first packet that cannot be decoded.
        say: called with what is not as the file says.
    """

    def __init__(self, container: "InputContainer", track: "VideoStream", times: Times, strict: bool, say: Say):
        self.container, self.track, self.times, self.strict, self.say = container, track, times, strict, say
        self.errors = self.decoded = self.damaged = 0
        self.ended = False

    def pictures(self) -> Iterator[tuple[float, "VideoFrame"]]:
        """Times in seconds, rising, each with its frame."""
        spliced = bool(self.container.format.flags & MAY_JUMP)
        back = 0.5 / float(self.times.rate) if spliced else timeline.AGO
        yield from timeline.in_order(self._decode(), longest(self.container), back, lambda: self.errors > 0)
        self.ended = True

    def _decode(self) -> Iterator[tuple[float, "VideoFrame"]]:
        """Times and frames as the decoder gives them. After damage it may mix up pictures."""
        decoder, error = self._decoder(), library().FFmpegError
        unit, step = float(self.track.time_base or 1), 1 / float(self.times.rate)
        unordered = self.container.format.name == "avi"  # it knows in which order pictures are decoded, not shown
        packets, time, flushes = self.container.demux(self.track), -step, 0
        while flushes < FLUSHES:
            try:
                packet = next(packets, None)
            except error:
                self.say("it cannot be read any further")
                packets, packet = iter(()), None
            flush = packet is None or not packet.size
            flushes += flush
            try:
                frames = decoder.decode(None if flush else packet)
            except EOFError:
                return
            except error as reason:
                self.errors += 1
                if self.strict:
                    raise PictureError(f"cannot be decoded behind {max(time, 0):.2f} s: {reason.strerror}") from reason
                continue
            for frame in frames:
                self.decoded += 1
                self.damaged += frame.is_corrupt
                at = frame.dts if unordered else frame.pts
                time = time + step if at is None else at * unit
                yield time, frame
            if flush:
                return

    def _decoder(self) -> Any:
        decoder, av = self.track.codec_context, library()
        if decoder is None:
            raise PictureError("has pictures of a codec that FFmpeg does not know")
        two_layers = any(key.lower() == "alpha_mode" and told == "1" for key, told in self.track.metadata.items())
        if two_layers and decoder.name in WITH_ALPHA:
            try:
                decoder = av.CodecContext.create(WITH_ALPHA[decoder.name], "r")
                decoder.extradata = self.track.codec_context.extradata
            except ValueError:
                self.say("its transparency cannot be read with this build of FFmpeg")
        decoder.thread_type = "AUTO"
        return decoder

    def conclude(self) -> None:
        """Say what could not be read."""
        lost = self.errors
        if lost and self.ended and self.times.whole:
            lost = max(lost, self.times.count - self.decoded)
        if lost:
            self.say(f"{_pictures(lost)} could not be read; in the place of each the one before is repeated")
        if self.damaged:
            self.say(f"{_pictures(self.damaged)} had damage, and came out as far as could be read")


def _pictures(number: int) -> str:
    return f"{number} picture{'s' * (number != 1)}"
