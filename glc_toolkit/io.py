"""Pictures in and out: anything Pillow reads, arrays and tensors -> x (1, 3, H, W) in [0, 1], and back."""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

Picture = Image.Image | str | os.PathLike | np.ndarray | Tensor


class PictureError(ValueError):
    """Something given as a picture is none."""


def to_tensor(picture: Picture) -> Tensor:
    """A picture as ``x`` (1, 3, H, W) float32 in [0, 1].

    Takes a Pillow image or a path (EXIF orientation applied, alpha over white, grey, palette, CMYK and 16 bits
    converted), an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16 or float in [0, 1], or a tensor
    (3, H, W) or (1, 3, H, W), uint8 or float in [0, 1].
    """
    if isinstance(picture, Tensor):
        return _from_tensor(picture)
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    if isinstance(picture, Image.Image):
        return _from_pillow(picture)
    if not isinstance(picture, (str, os.PathLike)):
        raise PictureError(f"a picture is a path, a Pillow image, an array or a tensor, not {type(picture).__name__}")
    try:
        with Image.open(picture) as image:
            return _from_pillow(image)
    except FileNotFoundError as error:
        raise PictureError(f"there is no file {picture}") from error
    except IsADirectoryError as error:
        raise PictureError(f"{picture} is a folder, not a picture") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(f"{picture} cannot be read as a picture: {error}") from error


def to_pillow(x: Tensor) -> Image.Image:
    """``x`` (1, 3, H, W) in [0, 1] -> an 8-bit RGB image, rounded to nearest."""
    array = (x[0].detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).cpu().contiguous().numpy())


def save(image: Image.Image, path: str | os.PathLike) -> None:
    """Write a picture in the format of its name; a file that exists stays whole until the new one is."""
    path = Path(path)
    Image.init()
    if path.suffix.lower() not in Image.EXTENSION:
        raise PictureError(f"cannot tell a picture format from the name {path.name!r}; try .png")
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        image.save(partial)
        os.replace(partial, path)
    except (OSError, KeyError, ValueError) as error:
        raise PictureError(f"cannot write {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _from_pillow(image: Image.Image) -> Tensor:
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I"):  # 16 bits of grey
        return _from_array(np.asarray(image).astype(np.float32) / 65535)
    if image.mode == "F":
        raise PictureError("a floating-point picture has no known range; give it as an array in [0, 1]")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return _from_array(np.asarray(image.convert("RGB")))


def _from_array(array: np.ndarray) -> Tensor:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise PictureError(f"an array of shape {array.shape} is no picture; give (H, W), (H, W, 3) or (H, W, 4)")
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


def _from_tensor(tensor: Tensor) -> Tensor:
    x = tensor[None] if tensor.ndim == 3 else tensor
    if x.ndim != 4 or x.shape[:2] != (1, 3) or 0 in x.shape:
        raise PictureError(f"a tensor of shape {tuple(tensor.shape)} is no picture; give (3, H, W) or (1, 3, H, W)")
    return torch.from_numpy(_unit(x.detach().cpu().numpy()))
