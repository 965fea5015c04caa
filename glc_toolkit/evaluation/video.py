"""Measure video codecs on clips: real bytes, frames a second, metrics of each frame, and flicker.

The classic codecs are x264 and x265 through PyAV, at their slowest useful preset, one intra frame at the start, and
without the container that a player would need: what they are given to compare with is the least they can take.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean

import numpy as np

from glc_toolkit import api, clips, registry
from glc_toolkit.evaluation.evaluate import Trial, measure_frames, trial
from glc_toolkit.evaluation.learned import GLCClip
from glc_toolkit.evaluation.x26x import decoded_stream, stream

METRICS = ("psnr", "lpips-alex", "lpips-vgg", "dists")
CLASSIC = ("libx265", "libx264")


def read(path: Path, frames: int) -> tuple[clips.Clip, list[np.ndarray]]:
    """The first ``frames`` of a clip, (H, W, 3) uint8 each."""
    with clips.opened(path) as (clip, decoded):
        return clip, list(islice(decoded, frames))


def classic(frames: list[np.ndarray], codec: str, fps: Fraction, crf: float) -> tuple[bytes, list[np.ndarray]]:
    """The stream of ``codec`` and the frames that come out of it."""
    tried = try_classic(frames, codec, fps, crf)
    return tried.data, tried.decoded


def try_classic(frames: list[np.ndarray], codec: str, fps: Fraction, crf: float) -> Trial[list[np.ndarray]]:
    """``codec`` at a CRF, without the byte for odd sides that a file would need."""
    height, width, _ = frames[0].shape
    return trial(
        frames,
        lambda frames: stream(frames, codec, fps, crf),
        lambda data: [frame[:height, :width] for frame in decoded_stream(data)],
    )


def nearest(
    frames: list[np.ndarray], codec: str, fps: Fraction, size: int, known: dict[int, int] | None = None
) -> float:
    """The CRF of ``codec`` (to a quarter) whose stream is the smallest that is no smaller than ``size``; the coarsest,
    51, where even its stream is larger. ``known`` keeps sizes, by quarters, for the next search."""
    known = {} if known is None else known
    coarsest, stride = 4 * 51, 4

    def enough(quarters: int) -> bool:
        if quarters not in known:
            known[quarters] = len(stream(frames, codec, fps, quarters / 4))
        return known[quarters] >= size

    if enough(coarsest):
        return coarsest / 4
    high = coarsest  # not enough; what a small stream is near to is coarse, and quick to find from there
    while (low := max(high - stride, 0)) and not enough(low):
        high, stride = low, 2 * stride
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return low / 4


def flicker(decoded: Iterable[np.ndarray], frames: Iterable[np.ndarray]) -> float:
    """Mean absolute error of the change from one frame to the next, in 8-bit steps: what trembles, and what sticks."""
    pairs = [(d.astype(np.int16), f.astype(np.int16)) for d, f in zip(decoded, frames, strict=True)]
    return fmean(float(np.abs((d1 - d0) - (f1 - f0)).mean()) for (d0, f0), (d1, f1) in pairwise(pairs))


def quality_of(
    decoded: list[np.ndarray], frames: list[np.ndarray], metrics: Iterable[str] = METRICS, every: int = 1
) -> dict[str, float]:
    """Means of metrics over every so many frames, and flicker over all."""
    distances = {name: registry.build("metric", {"name": name}) for name in metrics}
    values = measure_frames(decoded[::every], frames[::every], distances)
    return {**values, "flicker": flicker(decoded, frames)}


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
    rows, known = [], {codec: {} for codec in rivals}
    name = model.config.get("name", "glc") + (f"-effort{effort}" if effort else "")

    def add(codec: str, setting: float | None, tried: Trial[list[np.ndarray]], **more: float) -> None:
        row = {"clip": path.name, "codec": codec, "setting": setting}
        row |= {key: tried.costs[key] for key in ("bytes", "bpp")}
        rows.append({**row, **quality_of(tried.decoded, originals, metrics, every), **more})
        done(rows[-1])

    for quality in qualities:
        own = GLCClip(model, quality, effort)
        tried = trial(originals, partial(own.encode, fps=clip.fps), own.decode)
        speed = {f"{way}_fps": len(originals) / tried.costs[f"{way[:-1]}ing_time"] for way in ("encode", "decode")}
        add(name, quality, tried, **speed)
        for codec in rivals:
            crf = nearest(originals, codec, clip.fps, len(tried.data), known[codec])
            add(codec, crf, try_classic(originals, codec, clip.fps, crf))
    return rows
