"""A trial: a picture or a clip through a codec, as real bytes, seconds, memory, and any registered metrics."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import nn

from glc_toolkit import io, registry
from glc_toolkit.defaults import METRICS as METRICS
from glc_toolkit.evaluation import memory
from glc_toolkit.types import trait

TEXT = ("setting", "image", "sha256", "matched")  # keys of a row that are no measurement
Signal = TypeVar("Signal", Image.Image, list[np.ndarray])  # a picture, or frames (H, W, 3) uint8 of one size


@dataclass
class Trial(Generic[Signal]):
    """What became of a picture, or of the frames of a clip."""

    data: bytes  #: the file
    decoded: Signal
    costs: dict[str, float]  #: ``width height bytes bpp encoding_time decoding_time memory``, seconds and megabytes


def trial(original: Signal, encode: Callable[[Signal], bytes], decode: Callable[[bytes], Signal]) -> Trial[Signal]:
    """Encode ``original`` and decode what came of it. Memory is what the process grew by at most.

    Raises ``ValueError`` for a codec that gives another size or number of frames.
    """
    with memory.peak() as grown:
        started = time.perf_counter()
        data = encode(original)
        encoded = time.perf_counter()
        decoded = decode(data)
        done = time.perf_counter()
    sizes, own = sizes_of(original), sizes_of(decoded)
    if own != sizes:
        if isinstance(original, Image.Image):
            raise ValueError(f"a codec made {own[0]} pixels of {sizes[0]}")
        raise ValueError(f"a codec made {len(own)} frames of {len(sizes)}, or of another size")
    width, height = sizes[0]
    costs = {
        "width": width,
        "height": height,
        "bytes": len(data),
        "bpp": 8 * len(data) / (width * height * len(sizes)),
        "encoding_time": encoded - started,
        "decoding_time": done - encoded,
        "memory": grown["megabytes"],
    }
    return Trial(data, decoded, costs)


def sizes_of(signal: Image.Image | list[np.ndarray]) -> list[tuple[int, int]]:
    """Width and height of each frame; a picture is one."""
    return [signal.size] if isinstance(signal, Image.Image) else [(f.shape[1], f.shape[0]) for f in signal]


def coded(
    x: torch.Tensor, encode: Callable[[Image.Image], bytes], decode: Callable[[bytes], Image.Image]
) -> tuple[dict, torch.Tensor]:
    """The costs of a :class:`Trial` of a picture x (1, 3, H, W) in [0, 1], and its 8-bit reconstruction."""
    tried = trial(io.to_pillow(x), encode, decode)
    return tried.costs, io.to_tensor(tried.decoded)


@torch.no_grad()
def measure(x_hat: torch.Tensor, x: torch.Tensor, distances: dict[str, nn.Module]) -> dict[str, float]:
    """Metric values of one reconstruction; NaN for a metric that has no value at this size."""
    height, width = x.shape[-2:]

    def fits(metric: nn.Module) -> bool:
        shortest, most = limits(metric)
        return min(height, width) >= shortest and height * width <= most

    return {name: float(metric(x_hat, x)) if fits(metric) else math.nan for name, metric in distances.items()}


def limits(metric: nn.Module) -> tuple[int, float]:
    """The shortest side and the most pixels that a metric is measured at, as it says itself."""
    return trait(metric, "shortest_side"), trait(metric, "most_pixels")


def no_value(rows: list[dict]) -> str | None:
    """Why metrics in ``rows`` are NaN, in words; None where none is."""
    names = {
        key.removesuffix("-rgb") for row in rows for key, v in row.items() if isinstance(v, float) and math.isnan(v)
    }
    if not names:
        return None
    reasons = []
    for name in (name for name in registry.names("metric") if name in names):
        shortest, most = limits(registry.build("metric", {"name": name}))
        if shortest > 1:
            reasons.append(f"{name} of sides below {shortest}")
        if most < math.inf:
            reasons.append(f"{name} of pictures above {most:,} pixels")
    return ": ".join(["no value, and left out of means", *filter(None, [", ".join(reasons)])])


def measure_frames(
    decoded: Sequence[np.ndarray], frames: Sequence[np.ndarray], distances: dict[str, nn.Module]
) -> dict[str, float]:
    """Means of metrics over the frames of a clip."""
    pairs = zip(decoded, frames, strict=True)
    return summary([measure(io.to_tensor(d), io.to_tensor(f), distances) for d, f in pairs])


def summary(rows: list[dict]) -> dict[str, float]:
    """Mean of every number over the rows that have it; NaN where none has."""
    columns = {key: [row[key] for row in rows if not math.isnan(row[key])] for key in rows[0] if key not in TEXT}
    return {key: fmean(values or [math.nan]) for key, values in columns.items()}


def find(folder: Path, besides: Iterable[str] = ()) -> list[Path]:
    """Pictures in a folder, and files of the suffixes ``besides``, sorted by name; a file stands for itself."""
    if folder.is_file():
        return [folder]
    suffixes = {*io.suffixes(Image.OPEN), *besides}
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    found = [p for p in found if not io.hidden(p.relative_to(folder))]
    if not found:
        raise io.PictureError(f"no pictures in {folder}")
    return found
