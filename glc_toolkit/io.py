"""Pictures in and out: anything Pillow reads, arrays and tensors -> x (1, 3, H, W) in [0, 1], and back."""

import os
import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePath
from uuid import uuid4

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms
from torch import Tensor

from glc_toolkit.mark import options

Picture = Image.Image | str | os.PathLike | np.ndarray | Tensor
MAX_PIXELS = 2**25  # 33 megapixels, which glc-image-0.03 decodes in about 5 GB

# Formats that Pillow knows by name but reads and writes with the help of another program only, or not at all.
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}

# By EXIF orientation. ImageOps.exif_transpose also writes all tags anew, and fails at tags that a camera wrote wrongly.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(ValueError):
    """Something given as a picture is none."""


def too_large(width: int, height: int, multiple: int = 1, max_pixels: int | None = None) -> str:
    """Why a picture is above the limit once its sides are padded to multiples of ``multiple``; empty if it is not.

    ``max_pixels`` is :data:`MAX_PIXELS` where ``None``, and no limit where 0.
    """
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

    Takes a Pillow image or a path (EXIF orientation applied, alpha over white, grey, palette, CMYK, 16 bits and colours
    of an ICC profile converted to sRGB; of an animation the first frame, with a warning), an array (H, W), (H, W, 1),
    (H, W, 3) or (H, W, 4), uint8, uint16 or float in [0, 1], or a tensor (3, H, W) or (1, 3, H, W), uint8 or float in
    [0, 1].

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
    try:
        if isinstance(picture, Image.Image):
            return _from_pillow(picture, check)
        with Image.open(picture) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # whose others are a camera's previews and depth maps
                warnings.warn(f"{picture} has {frames} frames, of which only the first is taken", stacklevel=2)
            return _from_pillow(image, check)
    except FileNotFoundError as error:
        raise PictureError(f"there is no file {picture}") from error
    except IsADirectoryError as error:
        raise PictureError(f"{picture} is a folder, not a picture") from error
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from error
    except Exception as error:  # each of Pillow's plugins has its own exceptions for a damaged file
        raise PictureError(f"{name} cannot be read as a picture: {error}") from error


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


def save(image: Image.Image, path: str | os.PathLike, mark: str = "") -> None:
    """Write a picture in the format of its name, with a ``mark`` in it (see :mod:`glc_toolkit.mark`).

    Raises :class:`PictureError`, or ``OSError`` as :func:`replacing`.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes(Image.SAVE):
        raise PictureError(f"cannot tell a picture format from the name {path.name!r}; try .png")
    with replacing(path) as partial:
        try:
            image.save(partial, **options(path.suffix, mark))
        except OSError:
            raise
        except Exception as error:  # as in reading
            raise PictureError(f"cannot write {path}: {error}") from error


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Where to write a file that takes the name ``path`` once it is whole; a file that has the name stays until then.

    Folders that lead to it are made. A link stays one: what it points to is replaced. A device or pipe is written to
    as it is. Raises ``OSError`` that names ``path``.
    """
    device = Path(path).exists() and not Path(path).is_file()  # where a name like /dev/stdout leads may be no path
    target = Path(path).resolve()
    partial = target.with_name(f".{uuid4().hex}.partial{target.suffix}")  # several machines may share the folder
    try:
        if device:
            yield Path(path)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            os.replace(partial, target)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _from_pillow(image: Image.Image, check: Callable[[int, int], None]) -> Tensor:
    check(*image.size)
    wide = image.mode == "I" and image.format in ("PNG", "PPM")  # by their readers; elsewhere it may hold anything
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    if turn is not None:
        image = image.transpose(turn)
    if wide or image.mode in ("I;16", "I;16B", "I;16L", "I;16N"):  # 16 bits of grey
        return _from_array(np.asarray(image).astype(np.float32) / 65535, check)
    if image.mode in ("I", "F"):
        raise PictureError(f"a picture of mode {image.mode!r} has no known range; give it as an array in [0, 1]")
    profile = image.info.get("icc_profile")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    image = _to_srgb(image, profile) if profile else image
    return _from_array(np.asarray(image.convert("RGB")), check)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """As colours are meant, by the picture's ICC profile; as it is if that is sRGB's, broken, or of another mode."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, ImportError):  # the last of a Pillow that was built without littlecms
        return image


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
    x = tensor[None] if tensor.ndim == 3 else tensor
    if x.ndim != 4 or x.shape[:2] != (1, 3) or 0 in x.shape:
        raise PictureError(f"a tensor of shape {tuple(tensor.shape)} is no picture; give (3, H, W) or (1, 3, H, W)")
    check(x.shape[3], x.shape[2])
    x = x.float() if x.is_floating_point() else x  # NumPy knows no bf16
    return torch.from_numpy(_unit(x.detach().cpu().numpy()))
