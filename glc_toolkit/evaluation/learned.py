"""Learned codecs: GLC models of the zoo, and any image model of CompressAI."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from glc_toolkit import api, io, zoo
from glc_toolkit.evaluation.family import Family
from glc_toolkit.evaluation.protocols import digest
from glc_toolkit.models import GLCModel, GLCVideo
from glc_toolkit.types import BitstreamError, ModelFileError

MULTIPLE = 64  # what CompressAI's own evaluation pads to: six halvings


@dataclass
class GLC:
    """A GLC model at one quality."""

    model: GLCModel
    quality: float | None = None  #: the model's own where none is given
    effort: int = 0
    max_pixels: int | None = None

    def encode(self, picture: Image.Image) -> bytes:
        return api.encode(picture, self.model, self.quality, effort=self.effort, max_pixels=self.max_pixels)

    def decode(self, data: bytes) -> Image.Image:
        return api.decode_picture(data, self.model, max_pixels=self.max_pixels)


@dataclass
class GLCClip:
    """A GLC video model at one quality."""

    model: GLCVideo
    quality: float | None = None
    effort: int = 0
    max_pixels: int | None = None

    def encode(self, frames: Sequence[np.ndarray], fps: Fraction) -> bytes:
        chunks = api.encode_video(frames, self.model, fps, self.quality, effort=self.effort, max_pixels=self.max_pixels)
        return b"".join(chunks)

    def decode(self, data: bytes) -> list[np.ndarray]:
        return [np.asarray(picture) for picture in api.decode_video(data, self.model, max_pixels=self.max_pixels)]


def glc_family(name: str, effort: int = 0, max_pixels: int | None = None, device: str = "cpu") -> Family:
    """A model that :func:`glc_toolkit.zoo.load` takes. ``effort`` and ``max_pixels`` are as in
    :func:`glc_toolkit.encode`."""
    model = zoo.load(name, device)
    codes = range(model.quality_code(model.levels - 1) + 1)
    video = model if isinstance(model, GLCVideo) else None
    return Family(
        Path(name).resolve().name + (f"-effort{effort}" if effort else ""),
        f"weights {zoo.digest(name)[:16]}",
        [model.quality_of(code) for code in codes],
        range(model.levels),
        None if video else lambda quality: GLC(model, float(quality), effort, max_pixels),
        clips=(lambda quality: GLCClip(video, float(quality), effort, max_pixels)) if video else None,
    )


@dataclass
class CompressAI:
    """An image model of CompressAI through ``compress`` and ``decompress``.

    A file is the picture's width and height, the shape of z and the number of strings (9 bytes), the length of every
    string but the last (4 bytes each), and the strings. Padded to :data:`MULTIPLE` no latent is empty, which matters:
    compressai.ans crashes at zero symbols.
    """

    model: Any

    @torch.no_grad()
    def encode(self, picture: Image.Image) -> bytes:
        x = io.to_tensor(picture)
        height, width = x.shape[-2:]
        out = self.model.compress(F.pad(x, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate"))
        strings = [string for (string,) in out["strings"]]
        header = struct.pack(">4HB", width, height, *out["shape"], len(strings))
        lengths = struct.pack(f">{len(strings) - 1}I", *map(len, strings[:-1]))
        return header + lengths + b"".join(strings)

    @torch.no_grad()
    def decode(self, data: bytes) -> Image.Image:
        try:
            width, height, *shape, count = struct.unpack_from(">4HB", data)
            lengths = struct.unpack_from(f">{count - 1}I", data, 9)
        except struct.error as error:
            raise BitstreamError(f"this is no file of a CompressAI model: {error}") from error
        strings, position = [], 9 + 4 * len(lengths)
        for length in (*lengths, len(data) - position - sum(lengths)):
            strings.append([data[position : position + length]])
            position += length
        x_hat = self.model.decompress(strings, shape)["x_hat"]
        return io.to_pillow(x_hat[..., :height, :width])


def compressai_family(argument: str, settings: list[str]) -> Family:
    """An image model of CompressAI, ``compressai:ARCHITECTURE``, at qualities, whose weights are downloaded, or at
    checkpoint files."""
    from compressai.zoo.image import cfgs, model_architectures

    if (architecture := argument) not in model_architectures:
        raise ValueError(f"CompressAI has no model {architecture!r}; it has {', '.join(sorted(model_architectures))}")
    known = sorted(cfgs.get(architecture) or cfgs.get(architecture.replace("_", "-"), {}))
    files = [s for s in settings if not s.isdigit()]
    if not known and not files:
        raise ValueError(f"CompressAI has no trained {architecture}; give checkpoints of it as settings")
    if files and len(files) < len(settings):
        raise ValueError("give qualities or checkpoints of a CompressAI model, not both")
    for setting in settings:
        if setting.isdigit() and int(setting) not in known:
            raise ValueError(f"{architecture} has the qualities {known[0]} to {known[-1]}, not {setting}")
    load = lru_cache(maxsize=2)(lambda setting: _compressai_model(architecture, setting))
    return Family(
        f"compressai-{architecture}",
        ", ".join([f"compressai {version('compressai')}", *(digest(Path(file))[:16] for file in files)]),
        files or [str(quality) for quality in known],
        settings or [str(quality) for quality in known],
        lambda setting: CompressAI(load(str(setting))),
    )


def _compressai_model(architecture: str, setting: str) -> torch.nn.Module:
    """The model with the weights of a file or of CompressAI's own zoo. Code in such a file is not run."""
    from compressai.zoo.image import model_architectures, model_urls
    from compressai.zoo.pretrained import load_pretrained

    if setting.isdigit():
        url = model_urls.get(architecture, {}).get("mse", {}).get(int(setting))
        if url is None:
            raise ValueError(f"CompressAI has no trained {architecture} of quality {setting}; give a checkpoint")
        file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(url, str(file), hash_prefix=None, progress=False)
            except OSError as error:
                raise ModelFileError(f"{url} cannot be fetched: {error}") from error
    else:
        file = Path(setting)
    try:
        state = _tensors(file)
        model = model_architectures[architecture].from_state_dict(load_pretrained(state))
    except (OSError, KeyError, RuntimeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{file} is no checkpoint of {architecture}: {error}") from error
    model.update(force=True)
    return model.eval()


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError) as error:
        raise ValueError(str(error).splitlines()[0]) from None
    for key in ("network", "state_dict", "model_state_dict"):  # where training scripts keep it
        loaded = loaded.get(key, loaded)
    return loaded
