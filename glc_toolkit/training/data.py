"""Training pictures: folders and tar files, cropped at random scales, every sample a pure function of its number."""

import io
import tarfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".ppm"}


def find_pictures(sources: list[str]) -> list[tuple[str, bytes | Path]]:
    """``(name, file or its bytes)`` of every picture in folders (recursively) and tar files, sorted by name."""
    found: list[tuple[str, bytes | Path]] = []
    for source in map(Path, sources):
        if source.is_dir():
            found += [(p.relative_to(source).as_posix(), p) for p in source.rglob("*") if p.suffix.lower() in SUFFIXES]
        elif source.is_file():
            try:
                with tarfile.open(source) as tar:
                    members = [m for m in tar if m.isfile() and Path(m.name).suffix.lower() in SUFFIXES]
                    found += [(m.name, tar.extractfile(m).read()) for m in members]  # pyright: ignore[reportOptionalMemberAccess]
            except (tarfile.TarError, EOFError) as error:
                raise ValueError(f"training data {source} is no whole tar file: {error}") from error
        else:
            raise FileNotFoundError(f"training data {source} is neither a folder nor a tar file")
    if not found:
        raise FileNotFoundError(f"no pictures in {', '.join(sources)}")
    return sorted(found, key=lambda item: item[0])


def decode(picture: bytes | Path) -> Tensor:
    """A picture as (3, H, W) uint8."""
    with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
        array = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return torch.from_numpy(array.copy()).permute(2, 0, 1).contiguous()


def split(pictures: list, holdout: int) -> tuple[list, list]:
    """Training and validation pictures: of every ``holdout`` in order of name, the last is held out; 0 holds none."""
    if holdout == 0:
        return pictures, []
    return [p for i, p in enumerate(pictures) if i % holdout != holdout - 1], pictures[holdout - 1 :: holdout]


class Crops(Dataset):
    """Random crops. Sample ``i`` depends on ``seed`` and ``i`` alone, so a run resumes anywhere and a distributed run
    sees what a single process would.

    Args:
        pictures: as :func:`find_pictures` gives them; decoded once and kept as uint8.
        size: side of a crop.
        scales: a crop is taken from a square ``1 / scale`` as large and reduced, scale log-uniform between these.
        levels: number of quality levels; each sample also draws its quality, uniform in [0, levels - 1].
    """

    def __init__(self, pictures: list, size: int, scales: tuple[float, float], levels: int, seed: int):
        self.pictures = [decode(data) for _, data in pictures]
        self.size, self.scales, self.levels, self.seed = size, scales, levels, seed

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """``x`` (3, size, size) uint8 and a quality."""
        random = np.random.default_rng((self.seed, i))
        picture = self.pictures[random.integers(len(self.pictures))]
        _, height, width = picture.shape
        low, high = np.log(self.scales)
        side = min(round(self.size / np.exp(random.uniform(low, high))), height, width)
        top, left = random.integers(height - side + 1), random.integers(width - side + 1)
        crop = picture[:, top : top + side, left : left + side]
        if side != self.size:
            crop = F.interpolate(crop[None], (self.size, self.size), mode="bilinear", antialias=True)[0]
        if random.random() < 0.5:
            crop = crop.flip(-1)
        return crop, torch.tensor(random.uniform(0, self.levels - 1), dtype=torch.float32)
