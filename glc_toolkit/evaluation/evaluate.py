"""Measure codecs on pictures: real bytes, seconds, and any registered metrics."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import fmean

import torch
from PIL import Image

from glc_toolkit import api, io, registry

METRICS = ("psnr", "ms-ssim", "lpips-alex", "dists")

# The shortest side, and the most pixels, that a metric is measured at. Of less, the poolings of LPIPS leave nothing;
# VGG16, which DISTS stands on too, takes 1.5 kB for each pixel.
SHORTEST = {"lpips-alex": 31, "lpips-vgg": 16}
MOST = {"lpips-vgg": 2**22, "dists": 2**22}
NO_VALUE = (
    "no value, and left out of means: ms-ssim of sides up to 160, lpips-alex of sides below 31, "
    "dists and lpips-vgg of pictures above 4,194,304 pixels"
)


def evaluate(
    pictures: Iterable[Path],
    encode: Callable[[Image.Image], bytes],
    decode: Callable[[bytes], Image.Image],
    metrics: Iterable[str] = METRICS,
) -> Iterator[dict]:
    """One row a picture: ``image bytes bpp encode_seconds decode_seconds`` and metrics of the 8-bit reconstruction, NaN
    where one has no value."""
    distances = {name: registry.build("metric", {"name": name}) for name in metrics}
    for path in pictures:
        x = io.to_tensor(path)
        picture = io.to_pillow(x)
        started = time.perf_counter()
        data = encode(picture)
        encoded = time.perf_counter()
        decoded = decode(data)
        row = {
            "image": Path(path).name,
            "bytes": len(data),
            "bpp": 8 * len(data) / (x.shape[-1] * x.shape[-2]),
            "encode_seconds": encoded - started,
            "decode_seconds": time.perf_counter() - encoded,
        }
        yield row | measure(io.to_tensor(decoded), x, distances)


@torch.no_grad()
def measure(x_hat: torch.Tensor, x: torch.Tensor, distances: dict[str, torch.nn.Module]) -> dict[str, float]:
    """Metric values of one reconstruction; NaN for those that have none at this size, see ``NO_VALUE``."""
    height, width = x.shape[-2:]

    def fits(name: str) -> bool:
        return min(height, width) >= SHORTEST.get(name, 1) and height * width <= MOST.get(name, math.inf)

    return {name: float(distance(x_hat, x)) if fits(name) else math.nan for name, distance in distances.items()}


def glc_codec(model, quality: float | None = None) -> tuple[Callable, Callable]:
    """``encode, decode`` of a loaded model at one quality."""
    return (
        lambda picture: api.encode(picture, model=model, quality=quality),
        lambda data: api.decode(data, model=model),
    )


def summary(rows: list[dict]) -> dict[str, float]:
    """Mean of every number over the rows that have it; NaN where none has."""
    columns = {key: [row[key] for row in rows if not math.isnan(row[key])] for key in rows[0] if key != "image"}
    return {key: fmean(values or [math.nan]) for key, values in columns.items()}


def find(folder: Path) -> list[Path]:
    """Pictures in a folder, sorted by name; a file stands for itself."""
    if folder.is_file():
        return [folder]
    suffixes = io.suffixes(Image.OPEN)
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    if not found:
        raise io.PictureError(f"no pictures in {folder}")
    return found
