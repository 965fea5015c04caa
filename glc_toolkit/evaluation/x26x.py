"""x264 and x265 through PyAV: single pictures, and clips with one intra frame at the start.

Streams are raw, in 4:2:0 and BT.709, without a container and without the encoder's note about itself: the least that a
decoder needs.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np
from PIL import Image


@dataclass
class Picture:
    """One picture as an intra frame at a CRF. Odd sides are padded by their last line; one byte more says so."""

    encoder: str
    decoder: str
    options: dict[str, str]
    crf: int

    def encode(self, picture: Image.Image) -> bytes:
        import av

        array = np.asarray(picture)
        odd_height, odd_width = (side % 2 for side in array.shape[:2])
        array = np.pad(array, ((0, odd_height), (0, odd_width), (0, 0)), "edge")
        context = cast(av.VideoCodecContext, av.CodecContext.create(self.encoder, "w"))
        context.height, context.width = array.shape[:2]
        context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 25)
        context.options = {"preset": "slow", "crf": str(self.crf), **self.options}
        frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(format="yuv420p", dst_colorspace="ITU709")
        stream = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
        if self.decoder == "h264":  # x264 has no option to leave its note (type 6) out
            units = [unit for unit in re.split(b"\0\0\0?\1", stream) if unit and unit[0] & 31 != 6]
            stream = b"".join(b"\0\0\1" + unit for unit in units)
        return bytes([odd_width + 2 * odd_height]) + stream

    def decode(self, data: bytes) -> Image.Image:
        import av

        context = cast(av.VideoCodecContext, av.CodecContext.create(self.decoder, "r"))
        frames = [*context.decode(av.Packet(data[1:])), *context.decode(None)]
        array = frames[0].reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
        return Image.fromarray(array[: array.shape[0] - (data[0] >> 1), : array.shape[1] - (data[0] & 1)])


@dataclass
class Clip:
    """A clip by ``libx264`` or ``libx265`` at a CRF. Odd sides are padded by their last line; one byte more says so."""

    encoder: str
    crf: float

    def encode(self, frames: Sequence[np.ndarray], fps: Fraction) -> bytes:
        height, width, _ = frames[0].shape
        return bytes([width % 2 + 2 * (height % 2)]) + stream(frames, self.encoder, fps, self.crf)

    def decode(self, data: bytes) -> list[np.ndarray]:
        return [f[: len(f) - (data[0] >> 1), : f.shape[1] - (data[0] & 1)] for f in decoded_stream(data[1:])]


def stream(frames: Sequence[np.ndarray], codec: str, fps: Fraction, crf: float) -> bytes:
    """The stream of ``libx264`` or ``libx265``, odd sides padded by their last line. One thread, since what x264 writes
    depends on their number."""
    import av

    height, width, _ = frames[0].shape
    buffer = io.BytesIO()
    one_intra = f"keyint={len(frames)}:min-keyint={len(frames)}:scenecut=0"
    quiet = {"x265-params": f"log-level=none:info=0:frame-threads=1:{one_intra}"}
    only = {"x264-params": f"threads=1:{one_intra}"}
    with av.open(buffer, "w", format="hevc" if codec == "libx265" else "h264") as container:
        options = {"preset": "veryslow", "crf": f"{crf:g}", **(quiet if codec == "libx265" else only)}
        video = container.add_stream(codec, rate=fps, options=options)
        video.width, video.height, video.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        for frame in frames:
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            picture = av.VideoFrame.from_ndarray(even, format="rgb24")
            container.mux(video.encode(picture.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(video.encode())
    data = buffer.getvalue()
    if codec == "libx264":  # leave out its settings as text, some 670 bytes that no decoder needs
        data = re.sub(rb"\x00\x00\x01\x06.*?(?=\x00\x00\x01)", b"", data, flags=re.DOTALL)
    return data


def decoded_stream(data: bytes) -> list[np.ndarray]:
    """The frames of a stream, padding included."""
    import av

    with av.open(io.BytesIO(data)) as container:
        frames = container.decode(video=0)
        return [frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray() for frame in frames]
