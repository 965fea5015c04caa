"""Training pictures and clips, cropped at random scales, every sample a pure function of its number."""

import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path, PurePath

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from glc_toolkit import clips, io
from glc_toolkit.models import GLCModel, GLCVideo
from glc_toolkit.training.recipe import Recipe, Stage

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".ppm"}


def is_picture(name: PurePath) -> bool:
    """Whether a file, named relative to its folder or tar file, is taken for a picture."""
    return name.suffix.lower() in SUFFIXES and not io.hidden(name)


def find_pictures(sources: list[str]) -> list[tuple[str, bytes | Path]]:
    """``(name, file or its bytes)`` of every picture in folders (recursively) and tar files, sorted by name."""
    found: list[tuple[str, bytes | Path]] = []
    for source in map(Path, sources):
        if source.is_dir():
            names = ((p.relative_to(source), p) for p in source.rglob("*"))
            found += [(name.as_posix(), p) for name, p in names if is_picture(name)]
        elif source.is_file():
            try:
                with tarfile.open(source) as tar:
                    members = [m for m in tar if m.isfile() and is_picture(PurePath(m.name))]
                    found += [(m.name, tar.extractfile(m).read()) for m in members]  # pyright: ignore[reportOptionalMemberAccess]
            except (tarfile.TarError, EOFError) as error:
                raise ValueError(f"training data {source} is no whole tar file: {error}") from error
        else:
            raise FileNotFoundError(f"training data {source} is neither a folder nor a tar file")
    if not found:
        raise FileNotFoundError(f"no pictures in {', '.join(sources)}")
    return sorted(found, key=lambda item: item[0])


def decode(name: str, picture: bytes | Path) -> Tensor:
    """A picture as (3, H, W) uint8, as the codec would see it. Raises :class:`io.PictureError` that names it."""
    try:
        with Image.open(BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
            return (io.to_tensor(image, max_pixels=0)[0] * 255).round().to(torch.uint8)
    except Exception as error:  # each of Pillow's plugins has its own exceptions for a damaged file
        raise io.PictureError(f"training picture {name}: {error}") from error


def split(pictures: list, holdout: int) -> tuple[list, list]:
    """Training and validation pictures. In the order of names, the last of every ``holdout`` pictures is for
    validation; with 0 none is."""
    if holdout == 0:
        return pictures, []
    return [p for i, p in enumerate(pictures) if i % holdout != holdout - 1], pictures[holdout - 1 :: holdout]


def reduce(x: Tensor, size: int) -> Tensor:
    """Pictures (B, 3, H, W) uint8, resized to ``size`` x ``size``."""
    if x.is_cuda:  # which does not take uint8
        x = F.interpolate(x.float(), (size, size), mode="bilinear", antialias=True)
        return x.round().clamp(0, 255).to(torch.uint8)
    return F.interpolate(x, (size, size), mode="bilinear", antialias=True)


class Crops(Dataset):
    """Random crops. Sample ``i`` depends on ``seed`` and ``i`` alone. A run can therefore resume anywhere, and several
    processes see what one process would see.

    Args:
        pictures: as :func:`find_pictures` gives them. They are decoded once and kept as uint8 on ``device``, which
            makes the crops: a GPU would have to wait for a processor that made them.
        size: side of a crop.
        scales: lowest and highest. A crop is reduced from a square ``1 / scale`` as large; the scale is log-uniform.
        levels: number of quality levels. The quality of a sample is uniform in [0, levels - 1].
        turns: whether crops are also turned by quarters.
    """

    def __init__(self, pictures, size, scales, levels, seed, device: torch.device | str = "cpu", turns: bool = False):
        if not pictures:
            raise ValueError("no pictures to train on: data names no sources, or holdout leaves none of them")
        with ThreadPoolExecutor() as pool:
            self.pictures = [picture.to(device) for picture in pool.map(lambda item: decode(*item), pictures)]
        self.size, self.scales, self.levels, self.seed, self.turns = size, scales, levels, seed, turns

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
            crop = reduce(crop[None], self.size)[0]
        if random.random() < 0.5:
            crop = crop.flip(-1)
        if self.turns:
            crop = crop.rot90(int(random.integers(4)), (-2, -1))
        return crop, torch.tensor(random.uniform(0, self.levels - 1), dtype=torch.float32)


def find_clips(sources: list[str]) -> list[Path]:
    """Video files, those in folders (recursively) included, sorted by name."""
    found: list[Path] = []
    for source in map(Path, sources):
        if not source.exists():
            raise FileNotFoundError(f"training data {source} is neither a folder nor a video")
        found += [p for p in source.rglob("*") if p.suffix.lower() in clips.SUFFIXES] if source.is_dir() else [source]
    if not found:
        raise FileNotFoundError(f"no videos in {', '.join(sources)}")
    return sorted(found, key=lambda path: path.name)


def decode_clip(path: Path, side: int, cache: Path) -> np.ndarray:
    """All frames (T, H, W, 3) uint8 of a video, reduced to a short side of ``side``. They are in a mapped file: a clip
    is decoded once, and takes space on the disk in the place of memory."""
    with clips.opened(path) as (clip, frames), tempfile.TemporaryFile(dir=cache) as file:
        factor = min(1.0, side / min(clip.width, clip.height))
        size = (round(clip.width * factor), round(clip.height * factor))
        for frame in frames:
            file.write(np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)).tobytes())
        file.flush()
        return np.memmap(file, np.uint8, "r").reshape(-1, size[1], size[0], 3)


class ClipCrops(Dataset):
    """Random crops of consecutive frames, some of them from photographs that are panned and zoomed over.

    Args:
        clips: as :func:`decode_clip` gives them, each of ``frames`` frames at least, or it is left out.
        pictures: as :class:`Crops` takes them.
        synthetic: share of samples whose motion is made from a picture.
        frames: of a sample.
        size, scales, levels, seed: as for :class:`Crops`.
    """

    def __init__(self, clips, pictures, synthetic, frames, size, scales, levels, seed):
        self.clips = [clip for clip in clips if len(clip) >= frames and min(clip.shape[1:3]) >= size]
        self.pictures = [decode(*item) for item in pictures] if synthetic else []
        if not self.clips and synthetic < 1:
            raise ValueError(f"no clip has {frames} frames of {size} pixels")
        if not self.pictures and synthetic > 0:
            raise ValueError("neither clips nor pictures to train on: see clips, sources and holdout of data")
        self.synthetic, self.frames, self.size, self.scales = synthetic, frames, size, scales
        self.levels, self.seed = levels, seed

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """``x`` (frames, 3, size, size) uint8 and a quality."""
        random = np.random.default_rng((self.seed, i))
        made = random.random() < self.synthetic
        x = self._moved_picture(random) if made else self._cut(random)
        if random.random() < 0.5:
            x = x.flip(-1)
        if random.random() < 0.5:  # time has no direction worth learning
            x = x.flip(0)
        return x, torch.tensor(random.uniform(0, self.levels - 1), dtype=torch.float32)

    def _cut(self, random: np.random.Generator) -> Tensor:
        weights = np.sqrt([len(clip) for clip in self.clips])  # long clips say less for each of their frames
        clip = self.clips[random.choice(len(self.clips), p=weights / weights.sum())]
        count, height, width, _ = clip.shape
        stride = 2 if random.random() < 0.3 and count >= 2 * self.frames else 1  # some motion is faster
        low, high = np.log(self.scales)
        side = min(round(self.size / np.exp(random.uniform(low, high))), height, width)
        first = random.integers(count - stride * (self.frames - 1))
        top, left = random.integers(height - side + 1), random.integers(width - side + 1)
        cut = clip[first : first + stride * self.frames : stride, top : top + side, left : left + side]
        x = torch.from_numpy(cut.copy()).permute(0, 3, 1, 2)
        return x if side == self.size else F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)

    def _moved_picture(self, random: np.random.Generator) -> Tensor:
        """A window that pans and zooms over a picture at a steady pace."""
        picture = self.pictures[random.integers(len(self.pictures))][None].float() / 255
        _, _, height, width = picture.shape
        short = min(height, width)
        sides = self.size / np.exp(random.uniform(*np.log(self.scales))) * np.exp(random.normal(0, 0.03, 2))
        sides = np.clip(sides, 32, short) / short  # of the window in the first and the last frame
        centre = np.array([random.uniform(sides[0] / 2, side / short - sides[0] / 2) for side in (width, height)])
        pace = random.normal(0, 0.01, 2) * (self.frames - 1) * sides[0]
        shares = torch.linspace(0, 1, self.frames)
        side = torch.lerp(torch.tensor(sides[0]), torch.tensor(sides[1]), shares.double())
        place = torch.from_numpy(centre) + shares[:, None] * torch.from_numpy(pace)  # (T, 2): x, y in short sides
        theta = torch.zeros(self.frames, 2, 3)
        for axis, length in enumerate((width, height)):
            theta[:, axis, axis] = side * short / length
            theta[:, axis, 2] = 2 * place[:, axis] * short / length - 1
        grid = F.affine_grid(theta, [self.frames, 3, self.size, self.size], align_corners=False)
        if (factor := float(sides.max()) * short / self.size) > 1:  # no finer than the samples
            picture = F.interpolate(picture, scale_factor=1 / factor, mode="bilinear", antialias=True)
        x = F.grid_sample(picture.expand(self.frames, -1, -1, -1), grid, padding_mode="reflection", align_corners=False)
        return (x * 255).round().to(torch.uint8)


class Material:
    """What a recipe trains on, read once."""

    def __init__(self, recipe: Recipe, folder: Path):
        self.recipe = recipe
        sources = recipe.data.sources
        self.pictures, _ = split(find_pictures(sources), recipe.data.holdout) if sources else ([], [])
        found = find_clips(recipe.data.clips) if recipe.data.clips else []
        if unknown := set(recipe.data.holdout_clips) - {path.name for path in found}:
            raise FileNotFoundError(f"holdout_clips names {', '.join(sorted(unknown))}, but clips has no such file")
        kept = [path for path in found if path.name not in recipe.data.holdout_clips]
        self.clips = [decode_clip(path, recipe.data.clip_side, folder) for path in kept]

    def samples(self, stage: Stage, model: GLCModel, seed: int, device: torch.device) -> Dataset:
        """Crops of pictures, or of clips for a video model."""
        scales = self.recipe.data.scales
        if not isinstance(model, GLCVideo):
            return Crops(self.pictures, stage.crop, scales, model.levels, seed, device, stage.turns)
        share = 1.0 if not self.clips else self.recipe.data.synthetic if self.pictures else 0.0
        return ClipCrops(self.clips, self.pictures, share, stage.frames, stage.crop, scales, model.levels, seed)
