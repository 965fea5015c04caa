"""MS-ILLM by the network of neuralcompression, with checkpoints that the user has or that its authors publish."""

import struct
import sys
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from glc_toolkit import io, published
from glc_toolkit.evaluation.codecs import Family
from glc_toolkit.evaluation.protocols import digest
from glc_toolkit.types import BitstreamError, ModelFileError

# Bits a pixel that each was trained for. The first two are of a later paper (Careil et al., ICLR 2024).
QUALITIES = ("0.00218", "0.00438", "0.035", "0.07", "0.14", "0.3", "0.45", "0.9")
FILE = "msillm_target_{}bpp.ckpt"
HUB = "https://dl.fbaipublicfiles.com/NeuralCompression/2023-muckley-msillm/"  # as neuralcompression.zoo has it
TABLES = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")  # made anew of the weights
HEADER = ">2HI"


def network() -> Any:
    """The network with random weights. Raises ``ValueError`` where neuralcompression is not installed."""
    try:
        from neuralcompression.models import HiFiCAutoencoder
    except ModuleNotFoundError as error:
        raise ValueError(f"ms-illm needs {error.name}: pip install neuralcompression==0.3.1") from error
    return HiFiCAutoencoder()


def fetch(quality: str) -> Path:
    """The published checkpoint of a quality, where ``torch.hub`` keeps it, downloaded if it is not there."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / FILE.format(quality)
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        part, url = file.with_suffix(".part"), HUB + file.name
        print(f"ms-illm: downloading {url} (0.7 GB, CC-BY-NC 4.0)", file=sys.stderr)
        try:
            urllib.request.urlretrieve(url, part)  # raises if there are fewer bytes than the server says
        except OSError as error:
            part.unlink(missing_ok=True)
            raise ValueError(
                f"{url} cannot be downloaded ({error}); fetch it in another way into a folder, and say ms-illm:FOLDER"
            ) from error
        part.replace(file)
    return file


def load(file: Path) -> Any:
    """A network ready to code. Raises :class:`ModelFileError` for a file that is not its checkpoint."""
    model = network()
    tensors = {name: tensor for name, tensor in published.read(file).items() if not name.endswith(TABLES)}
    wanted = {name: tuple(t.shape) for name, t in model.state_dict().items() if not name.endswith(TABLES)}
    try:
        published.check(wanted, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    except ValueError as error:
        raise ModelFileError(f"{file} is no checkpoint of MS-ILLM: {error}") from error
    torch.nn.Module.load_state_dict(model, tensors, strict=False)  # CompressAI's own asks for the tables
    model.eval()
    model.update_tensor_devices("compress")
    return model


@dataclass
class MSILLM:
    """One quality. A file is width, height, the length of the hyper latent's string, and the two strings."""

    model: Any

    @torch.no_grad()
    def encode(self, picture: Image.Image) -> bytes:
        out = self.model.compress(io.to_tensor(picture))
        (latent,), (hyper,) = out.latent_strings, out.hyper_latent_strings
        return struct.pack(HEADER, picture.width, picture.height, len(hyper)) + hyper + latent

    @torch.no_grad()
    def decode(self, data: bytes) -> Image.Image:
        from neuralcompression import HyperpriorCompressedOutput

        try:
            width, height, size = struct.unpack_from(HEADER, data)
        except struct.error as error:
            raise BitstreamError(f"this is no file of MS-ILLM: {error}") from error
        strings = data[struct.calcsize(HEADER) :]
        factor = self.model.factor
        return io.to_pillow(
            self.model.decompress(
                HyperpriorCompressedOutput(
                    latent_strings=[strings[size:]],
                    hyper_latent_strings=[strings[:size]],
                    image_size=(height, width),
                    padded_size=(height + -height % factor, width + -width % factor),
                )
            )
        )


def family(argument: str, settings: list[str]) -> Family:
    """MS-ILLM at the qualities whose checkpoints are in a folder, ``ms-illm:FOLDER``, or at published qualities,
    ``ms-illm:hub:0.035,0.07``."""
    if argument == "hub":
        if not settings or set(settings) - set(QUALITIES):
            known = ", ".join(QUALITIES)
            raise ValueError(f"ms-illm:hub downloads 0.7 GB for each quality: name those that you want, of {known}")
        files = {quality: fetch(quality) for quality in QUALITIES if quality in settings}
    else:
        files = {quality: Path(argument) / FILE.format(quality) for quality in QUALITIES} if argument else {}
        files = {quality: file for quality, file in files.items() if file.is_file()}
    if not files:
        raise ValueError(
            f"ms-illm takes a folder of the published checkpoints, {FILE.format(QUALITIES[0])} and so on, or hub; "
            f"{argument or 'none'} has none"
        )
    read = lru_cache(maxsize=1)(lambda quality: load(files[quality]))
    used = [digest(file)[:16] for quality, file in files.items() if not settings or quality in settings]
    return Family(
        "ms-illm",
        ", ".join([f"neuralcompression {version('neuralcompression')}", *used]),
        list(files),
        list(files),
        lambda quality: MSILLM(read(str(quality))),
        "MS-ILLM",
    )
