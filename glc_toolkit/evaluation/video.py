"""Measure video codecs on clips: real bytes, frames a second, metrics of each frame, and flicker.

The classic codecs are x264 and x265 through PyAV, at their slowest useful preset, one intra frame at the start, and
without the container that a player would need: what they are given to compare with is the least they can take.
"""

import io
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from glc_toolkit import api, clips, registry
from glc_toolkit.evaluation.evaluate import measure
from glc_toolkit.io import to_tensor

METRICS = ("psnr", "lpips-alex", "lpips-vgg", "dists")
CLASSIC = ("libx265", "libx264")


def read(path: Path, frames: int) -> tuple[clips.Clip, list[np.ndarray]]:
    """The first ``frames`` of a clip, (H, W, 3) uint8 each."""
    with clips.opened(path) as (clip, decoded):
        return clip, list(islice(decoded, frames))


@dataclass
class Classic:
    """``libx264`` or ``libx265`` at a CRF, one intra frame at the start. Odd sides are padded by their last line; one
    byte more says so. One thread: what x264 writes depends on how many there are."""

    encoder: str
    crf: float

    def encode(self, frames: Sequence[np.ndarray], fps: Fraction) -> bytes:
        height, width, _ = frames[0].shape
        return bytes([width % 2 + 2 * (height % 2)]) + stream(frames, self.encoder, fps, self.crf)

    def decode(self, data: bytes) -> list[np.ndarray]:
        return [f[: len(f) - (data[0] >> 1), : f.shape[1] - (data[0] & 1)] for f in decoded_stream(data[1:])]


def classic(frames: list[np.ndarray], codec: str, fps: Fraction, crf: float) -> tuple[bytes, list[np.ndarray]]:
    """The stream of ``codec`` and the frames that come out of it."""
    height, width, _ = frames[0].shape
    data = stream(frames, codec, fps, crf)
    return data, [frame[:height, :width] for frame in decoded_stream(data)]


def stream(frames: Sequence[np.ndarray], codec: str, fps: Fraction, crf: float) -> bytes:
    """The stream of ``libx264`` or ``libx265``, odd sides padded by their last line."""
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
    import av

    with av.open(io.BytesIO(data)) as container:
        frames = container.decode(video=0)
        return [frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray() for frame in frames]


def nearest(
    frames: list[np.ndarray], codec: str, fps: Fraction, size: int, known: dict[int, int] | None = None
) -> tuple[bytes, list[np.ndarray], float]:
    """``codec`` at the CRF (to a quarter) whose stream is the smallest that is no smaller than ``size``, with that CRF;
    at its coarsest, 51, where even that is larger. ``known`` keeps sizes, by quarters, for the next search."""
    known = {} if known is None else known
    coarsest, stride = 4 * 51, 4

    def enough(quarters: int) -> bool:
        if quarters not in known:
            known[quarters] = len(classic(frames, codec, fps, quarters / 4)[0])
        return known[quarters] >= size

    if enough(coarsest):
        return *classic(frames, codec, fps, coarsest / 4), coarsest / 4
    high = coarsest  # not enough; what a small stream is near to is coarse, and quick to find from there
    while (low := max(high - stride, 0)) and not enough(low):
        high, stride = low, 2 * stride
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return *classic(frames, codec, fps, low / 4), low / 4


def glc(frames: list[np.ndarray], model: api.GLCVideo, fps: Fraction, quality: float | None, effort: int = 0) -> dict:
    """``data``, ``decoded`` and the seconds both took."""
    started = time.perf_counter()
    data = b"".join(api.encode_video(frames, model, fps, quality, effort=effort))
    encoded = time.perf_counter()
    decoded = [np.asarray(picture) for picture in api.decode_video(data, model)]
    seconds = {"encode_seconds": encoded - started, "decode_seconds": time.perf_counter() - encoded}
    return {"data": data, "decoded": decoded, **seconds}


def flicker(decoded: Iterable[np.ndarray], frames: Iterable[np.ndarray]) -> float:
    """Mean absolute error of the change from one frame to the next, in 8-bit steps: what trembles, and what sticks."""
    pairs = [(d.astype(np.int16), f.astype(np.int16)) for d, f in zip(decoded, frames, strict=True)]
    return fmean(float(np.abs((d1 - d0) - (f1 - f0)).mean()) for (d0, f0), (d1, f1) in pairwise(pairs))


@torch.no_grad()
def quality_of(
    decoded: list[np.ndarray], frames: list[np.ndarray], metrics: Iterable[str] = METRICS, every: int = 1
) -> dict[str, float]:
    """Means of metrics over every so many frames, and flicker over all."""
    distances = {name: registry.build("metric", {"name": name}) for name in metrics}
    rows = [measure(to_tensor(d), to_tensor(f), distances) for d, f in list(zip(decoded, frames, strict=True))[::every]]
    return {**{name: fmean(row[name] for row in rows) for name in distances}, "flicker": flicker(decoded, frames)}


def compare(
    path: Path,
    model: api.GLCVideo,
    qualities: Iterable[float | None],
    frames: int = 96,
    every: int = 1,
    rivals: Iterable[str] = CLASSIC,
    metrics: Iterable[str] = METRICS,
    done: Callable[[dict], object] = lambda row: None,
    effort: int = 0,
) -> list[dict]:
    """Rows of ``clip codec setting bytes bpp`` and measured quality: the model, and each rival at no fewer bytes."""
    clip, originals = read(path, frames)
    pixels = clip.width * clip.height * len(originals)
    rows, known = [], {codec: {} for codec in rivals}
    name = model.config.get("name", "glc") + (f"-effort{effort}" if effort else "")

    def add(codec: str, setting: float | None, data: bytes, decoded: list[np.ndarray], **more: float) -> None:
        row = {"clip": path.name, "codec": codec, "setting": setting, "bytes": len(data), "bpp": 8 * len(data) / pixels}
        rows.append({**row, **quality_of(decoded, originals, metrics, every), **more})
        done(rows[-1])

    for quality in qualities:
        own = glc(originals, model, clip.fps, quality, effort)
        speed = {f"{side}_fps": len(originals) / own[f"{side}_seconds"] for side in ("encode", "decode")}
        add(name, quality, own["data"], own["decoded"], **speed)
        for codec in rivals:
            data, decoded, crf = nearest(originals, codec, clip.fps, len(own["data"]), known[codec])
            add(codec, crf, data, decoded)
    return rows
