"""Pictures in and out: anything Pillow reads, arrays and tensors -> x (1, 3, H, W) in [0, 1], and back."""

import os
import shutil
import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePath
from uuid import uuid4

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glc_toolkit import stills
from glc_toolkit.defaults import MAX_PIXELS
from glc_toolkit.mark import options
from glc_toolkit.types import PictureError

Picture = Image.Image | str | os.PathLike | np.ndarray | Tensor
MAX_PIPE_BYTES = 2**28  # of a picture from a pipe, read at once
MAX_SIDE = 2**16  # more than formats of pictures but PNG and TIFF can have

# Formats that Pillow knows by name but reads and writes with the help of another program only, or not at all.
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
ICONS = {"ICNS", "ICO"}  # of fixed sizes, to which Pillow shrinks or stretches
ANY_WRITE = 0o222  # of a mode: to the superuser, os.access grants everything


def too_large(width: int, height: int, multiple: int = 1, max_pixels: int | None = None) -> str:
    """Why a picture is above the limits once its sides are padded to multiples of ``multiple``; empty if it is not.

    ``max_pixels`` is :data:`MAX_PIXELS` where ``None``, and no limit where 0; nor then is :data:`MAX_SIDE`.
    """
    if max_pixels != 0 and max(width, height) > MAX_SIDE:
        return (
            f"{width} x {height} pixels have a side above the limit of {MAX_SIDE}; "
            "set max_pixels (--max-pixels) to 0 if you trust the picture and have the memory"
        )
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    padded = -(-width // multiple) * -(-height // multiple) * multiple**2
    if not limit or padded <= limit:
        return ""
    return (
        f"{width} x {height} pixels, {padded} with padding, are above the limit of {limit}; "
        "raise max_pixels (--max-pixels) if you trust the picture and have the memory"
    )


def to_tensor(picture: Picture, max_pixels: int | None = None, multiple: int = 1) -> Tensor:
    """A picture as ``x`` (1, 3, H, W) float32 in [0, 1].

    Takes a Pillow image or a path (turned, in sRGB, over white, as :func:`glc_toolkit.stills.read` does; of an
    animation the first frame, with a warning), an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16 or
    float in [0, 1], or a tensor (3, H, W) or (1, 3, H, W), uint8 or float in [0, 1]. Warns of what cannot be as the
    picture asks.

    Raises :class:`PictureError` for anything else, and before a pixel is decoded for what is :func:`too_large`.
    Pillow's own limit, ``PIL.Image.MAX_IMAGE_PIXELS``, holds besides.
    """

    def check(width: int, height: int) -> None:
        if reason := too_large(width, height, multiple, max_pixels):
            raise PictureError(reason)

    if isinstance(picture, Tensor):
        return _from_tensor(picture, check)
    if isinstance(picture, np.ndarray):
        return _from_array(picture, check)
    if not isinstance(picture, (Image.Image, str, os.PathLike)):
        raise PictureError(f"a picture is a path, a Pillow image, an array or a tensor, not {type(picture).__name__}")
    name = "the picture" if isinstance(picture, Image.Image) else picture
    pipe = not isinstance(picture, Image.Image) and Path(picture).is_fifo()

    def say(text: str) -> None:
        warnings.warn(f"{name}: {text}", stacklevel=2)

    try:
        if isinstance(picture, Image.Image):
            check(*picture.size)
            return _from_array(stills.read(picture, say), check)
        with Image.open(_contents(picture) if pipe else picture) as image:
            check(*image.size)
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # whose others are a camera's previews and depth maps
                warnings.warn(f"{picture} has {frames} frames, of which only the first is taken", stacklevel=2)
            return _from_array(stills.read(image, say), check)
    except FileNotFoundError as error:
        raise PictureError(f"there is no file {picture}") from error
    except IsADirectoryError as error:
        raise PictureError(f"{picture} is a folder, not a picture") from error
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from error
    except Exception as error:  # each of Pillow's plugins has its own exceptions for a damaged file
        if pipe:
            raise PictureError(f"what comes from {name} is no picture; give a video as a file") from error
        raise PictureError(f"{name} cannot be read as a picture: {error}") from error


def _contents(pipe: str | os.PathLike) -> BytesIO:
    """All that comes out of a pipe: Pillow goes back and forth in a file."""
    with open(pipe, "rb") as file:
        data = file.read(MAX_PIPE_BYTES + 1)
    if len(data) > MAX_PIPE_BYTES:
        raise PictureError(f"more than {MAX_PIPE_BYTES} bytes come from it; give the file itself")
    return BytesIO(data)


def to_pillow(x: Tensor) -> Image.Image:
    """``x`` (1, 3, H, W) in [0, 1] -> an 8-bit RGB image, rounded to nearest."""
    array = x[0].detach().float().clamp(0, 1).mul_(255).round_().to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).cpu().contiguous().numpy())


def suffixes(formats: Container[str]) -> set[str]:
    """Suffixes of the picture formats among ``formats``, which is ``Image.OPEN`` or ``Image.SAVE``."""
    known = Image.registered_extensions()  # fills both
    return {suffix for suffix, name in known.items() if name in formats and name not in NO_PICTURES}


def hidden(name: str | PurePath) -> bool:
    """What systems, and writers that were cut off, leave beside pictures with their suffix; ``name`` is relative."""
    return any(part.startswith(".") for part in PurePath(name).parts)


def format_of(suffix: str) -> str:
    """Pillow's name of the picture format that is written for a suffix, ``.png`` say.

    Raises :class:`PictureError` where there is none, or it would not hold the picture as it is.
    """
    if suffix.lower() not in suffixes(Image.SAVE):
        raise PictureError(f"cannot tell a picture format from {suffix!r}; try .png")
    format = Image.registered_extensions()[suffix.lower()]
    if format in ICONS:
        raise PictureError(f"{suffix} is for icons, to whose sizes the picture would shrink or stretch; try .png")
    return format


def save(image: Image.Image, path: str | os.PathLike, format: str = "", mark: str = "", force: bool = False) -> None:
    """Write a picture in the format of its name, or of ``format``, such as ``png``, with a ``mark`` in it (see
    :mod:`glc_toolkit.mark`).

    Raises :class:`PictureError`, or ``OSError`` as :func:`replacing`, to which ``force`` goes.
    """
    path = Path(path)
    suffix = f".{format}" if format else path.suffix
    written = format_of(suffix)
    with replacing(path, force) as partial:
        try:
            image.save(partial, written, **options(suffix, mark))
        except OSError:
            raise
        except Exception as error:  # as in reading
            raise PictureError(f"cannot write {path}: {error}") from error


def check_writable(path: str | os.PathLike, force: bool = False) -> None:
    """Raise ``OSError`` where :func:`replacing` would, as far as that can be known before."""
    target = Path(path).resolve()
    if target.is_file():
        if not force and (not target.stat().st_mode & ANY_WRITE or not os.access(target, os.W_OK)):
            raise OSError(f"cannot write {path}: it is read-only; make it writable, or give --force")
    elif target.exists():
        return  # a device or pipe
    there = next(folder for folder in target.parents if folder.exists())  # those behind it are made
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = "Permission denied" if there.is_dir() else f"{there} is a file"
        raise OSError(f"cannot write {path}: {why}")


@contextmanager
def replacing(path: str | os.PathLike, force: bool = False) -> Iterator[Path]:
    """Where to write a file that takes the name ``path`` once it is whole; a file that has the name stays until then.

    Folders that lead to it are made. A link stays one: what it points to is replaced, and its mode goes on to what
    replaces it. A device or pipe is written to as it is. A read-only file is replaced with ``force`` alone. Raises
    ``OSError`` that names ``path``.
    """
    device = Path(path).exists() and not Path(path).is_file()  # where a name like /dev/stdout leads may be no path
    target = Path(path).resolve()
    suffix = target.suffix if len(target.suffix) < 16 else ""  # of a known format; another could make the name too long
    partial = target.with_name(f".{uuid4().hex}.partial{suffix}")  # several machines may share the folder
    check_writable(path, force)
    try:
        if device:
            yield Path(path)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            if target.is_file():
                shutil.copymode(target, partial)
            os.replace(partial, target)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _from_array(array: np.ndarray, check: Callable[[int, int], None]) -> Tensor:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise PictureError(f"an array of shape {array.shape} is no picture; give (H, W), (H, W, 3) or (H, W, 4)")
    check(array.shape[1], array.shape[0])
    array = _unit(array)
    if array.shape[2] == 4:
        array = array[..., :3] * array[..., 3:] + 1 - array[..., 3:]
    x = torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)[None]
    return x.expand(1, 3, *x.shape[2:]).contiguous()


def _unit(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    if array.dtype == np.uint16:
        return array.astype(np.float32) / 65535
    if not np.issubdtype(array.dtype, np.floating):
        raise PictureError(f"an array of {array.dtype} is no picture; give uint8, uint16 or floats in [0, 1]")
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
        raise PictureError("an array of floats has to lie in [0, 1]")
    return array.astype(np.float32)


def _from_tensor(tensor: Tensor, check: Callable[[int, int], None]) -> Tensor:
    if tensor.is_meta:
        raise PictureError("a tensor on the device meta has no values")
    x = tensor[None] if tensor.ndim == 3 else tensor
    if x.ndim != 4 or x.shape[:2] != (1, 3) or 0 in x.shape:
        raise PictureError(f"a tensor of shape {tuple(tensor.shape)} is no picture; give (3, H, W) or (1, 3, H, W)")
    check(x.shape[3], x.shape[2])
    x = x.float() if x.is_floating_point() else x  # NumPy knows no bf16
    return torch.from_numpy(_unit(x.detach().cpu().numpy()))
