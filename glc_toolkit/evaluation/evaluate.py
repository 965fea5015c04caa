"""One picture through one codec: real bytes, seconds, memory, and any registered metrics."""

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean

import torch
from PIL import Image

from glc_toolkit import io
from glc_toolkit.defaults import METRICS as METRICS
from glc_toolkit.evaluation import memory

TEXT = ("setting", "image", "sha256", "matched")  # keys of a row that are no measurement

# The shortest side, and the most pixels, that a metric is measured at. Of less, the poolings of LPIPS leave nothing;
# VGG16, which DISTS stands on too, takes 1.5 kB for each pixel.
SHORTEST = {"lpips-alex": 31, "lpips-vgg": 16}
MOST = {"lpips-vgg": 2**22, "dists": 2**22}
NO_VALUE = (
    "no value, and left out of means: ms-ssim of sides up to 160, lpips-alex of sides below 31, "
    "lpips-vgg of sides below 16, grid of sides below 17, dists and lpips-vgg of pictures above 4,194,304 pixels"
)


@torch.no_grad()
def measure(x_hat: torch.Tensor, x: torch.Tensor, distances: dict[str, torch.nn.Module]) -> dict[str, float]:
    """Metric values of one reconstruction; NaN for those that have none at this size, see ``NO_VALUE``."""
    height, width = x.shape[-2:]

    def fits(name: str) -> bool:
        return min(height, width) >= SHORTEST.get(name, 1) and height * width <= MOST.get(name, math.inf)

    return {name: float(distance(x_hat, x)) if fits(name) else math.nan for name, distance in distances.items()}


def coded(
    x: torch.Tensor, encode: Callable[[Image.Image], bytes], decode: Callable[[bytes], Image.Image]
) -> tuple[dict, torch.Tensor]:
    """``width height bytes bpp encoding_time decoding_time memory`` of a picture x (1, 3, H, W) in [0, 1], and its
    8-bit reconstruction. Seconds, and the megabytes that the process grew by at most."""
    picture = io.to_pillow(x)
    with memory.peak() as grown:
        started = time.perf_counter()
        data = encode(picture)
        encoded = time.perf_counter()
        decoded = decode(data)
        done = time.perf_counter()
    if decoded.size != picture.size:
        raise ValueError(f"a codec made {decoded.size} pixels of {picture.size}")
    row = {
        "width": picture.width,
        "height": picture.height,
        "bytes": len(data),
        "bpp": 8 * len(data) / (picture.width * picture.height),
        "encoding_time": encoded - started,
        "decoding_time": done - encoded,
        "memory": grown["megabytes"],
    }
    return row, io.to_tensor(decoded)


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
