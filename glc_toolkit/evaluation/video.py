"""Measure video codecs on clips: real bytes, frames a second, metrics of each frame, and flicker.

The classic codecs are x264 and x265 through PyAV, at their slowest useful preset, with one intra frame at the start.
Their bytes are those of the raw stream, without the container that a player would need: the least that they can take.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache, partial
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


def classic(frames: list[np.ndarray], codec: str, fps: Fraction, crf: float) -> Trial[list[np.ndarray]]:
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
    """The coarsest CRF of ``codec``, to a quarter, whose stream has ``size`` bytes or more; 51 at most.

    ``known`` keeps the sizes of streams, by quarters of a CRF, for the next search.
    """
    known = {} if known is None else known
    coarsest, stride = 4 * 51, 4

    def enough(quarters: int) -> bool:
        if quarters not in known:
            known[quarters] = len(stream(frames, codec, fps, quarters / 4))
        return known[quarters] >= size

    if enough(coarsest):
        return coarsest / 4
    high = coarsest  # not enough; the CRF of a small stream is near the coarsest, and quick to find from there
    while (low := max(high - stride, 0)) and not enough(low):
        high, stride = low, 2 * stride
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return low / 4


def flicker(decoded: Iterable[np.ndarray], frames: Iterable[np.ndarray]) -> float:
    """Mean absolute error of the change from one frame to the next, in 8-bit steps. It grows with what trembles, and
    with what sticks where the original moves."""
    pairs = [(d.astype(np.int16), f.astype(np.int16)) for d, f in zip(decoded, frames, strict=True)]
    return fmean(float(np.abs((d1 - d0) - (f1 - f0)).mean()) for (d0, f0), (d1, f1) in pairwise(pairs))


def quality_of(
    decoded: list[np.ndarray], frames: list[np.ndarray], metrics: Iterable[str] = METRICS, every: int = 1
) -> dict[str, float]:
    """Means of metrics over every ``every``-th frame, and :func:`flicker` over all frames."""
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
    """Code a clip by the model, at each quality, and by each rival in no fewer bytes.

    Args:
        qualities: of the model; None is its own.
        frames: from the start of the clip, that are coded.
        every: metrics are of every so many frames.
        rivals: of ``CLASSIC``.
        done: called with each row.
        effort: of the model's encoder.

    Returns rows of ``clip codec setting bytes bpp``, the metrics, ``flicker``, and frames a second of the model.
    """
    clip, originals = read(path, frames)
    rows, known = [], {codec: {} for codec in rivals}
    name = model.config.get("name", "glc") + (f"-effort{effort}" if effort else "")

    def add(row: dict) -> None:
        rows.append(row)
        done(row)

    def measured(codec: str, setting: float | None, tried: Trial[list[np.ndarray]]) -> dict:
        row = {"clip": path.name, "codec": codec, "setting": setting}
        row |= {key: tried.costs[key] for key in ("bytes", "bpp")}
        return {**row, **quality_of(tried.decoded, originals, metrics, every)}

    @cache  # several qualities may meet the coarsest CRF
    def rival(codec: str, crf: float) -> dict:
        return measured(codec, crf, classic(originals, codec, clip.fps, crf))

    for quality in qualities:
        own = GLCClip(model, quality, effort)
        tried = trial(originals, partial(own.encode, fps=clip.fps), own.decode)
        speed = {f"{way}_fps": len(originals) / tried.costs[f"{way[:-1]}ing_time"] for way in ("encode", "decode")}
        add({**measured(name, quality, tried), **speed})
        for codec in rivals:
            add(rival(codec, nearest(originals, codec, clip.fps, len(tried.data), known[codec])))
    return rows
