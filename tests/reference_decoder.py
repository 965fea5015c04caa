"""A second entropy decoder, written from docs/format.md alone: no PyTorch, no range coder but the one below.

    python -m tests.reference_decoder FILE.glc MODEL_FOLDER

Dense products are summed in float64. Their factors are whole numbers from -128 to 127, so every sum stays below 2**53
and is exact in any order.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

MASK = 2**64 - 1
FOUR_PART = ("abcd", "dcba", "cdab", "badc")  # passes by groups of channels


class RangeDecoder:
    """64-bit state, 32-bit words, 24-bit tables."""

    def __init__(self, payload: bytes):
        self.words = np.frombuffer(payload + bytes(-len(payload) % 4), ">u4").tolist()
        self.at, self.lower, self.span = 0, 0, MASK
        self.point = self.word() << 32 | self.word()

    def word(self) -> int:
        self.at += 1
        return self.words[self.at - 1] if self.at <= len(self.words) else 0

    def symbol(self, cdf: list[int]) -> int:
        scale = self.span >> 24
        quantile = (self.point - self.lower & MASK) // scale
        if quantile >= 2**24:
            raise ValueError("no encoder wrote this")
        s = int(np.searchsorted(cdf, quantile, "right")) - 1
        self.lower = self.lower + scale * cdf[s] & MASK
        self.span = scale * (cdf[s + 1] - cdf[s])
        if self.span < 2**32:
            self.lower, self.span = self.lower << 32 & MASK, self.span << 32
            self.point = (self.point << 32 | self.word()) & MASK
        return s

    def symbols(self, rows: np.ndarray, cdf: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """One for each of ``rows``; tables in rising order, each for all its elements."""
        out = np.empty(len(rows), np.int64)
        for row in np.unique(rows):
            table = cdf[row].tolist()
            for i in np.flatnonzero(rows == row):
                out[i] = self.symbol(table) + int(offset[row])
        return out


ENCODER_ONLY = (
    *("backbone.encoder.", "backbone.quantizer.", "transform.enc_1.", "transform.q_enc.", "transform.enc_2."),
    *("hyper.h_a.", "transform.enc."),
)
ENCODER_ONLY_VIDEO = (
    *("own_backbone.encoder.", "own_backbone.quantizer.", "transform.enc_1.", "transform.q_enc.", "transform.enc_2."),
    *("hyper.condition.", "hyper.combine.", "hyper.guide.", "hyper.enhancement.", "hyper.features.", "hyper.out."),
    *("hyper.quantizer.", "transform.enc."),
)


def fingerprint(folder: Path) -> str:
    """Of the model in a folder, by what is stored."""
    with safe_open(folder / "model.safetensors", "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}

    def only_an_encoders(name: str) -> bool:
        if not video:
            own = (*ENCODER_ONLY, "hyper.quantizer.") if "hyper.codes" in tensors else ENCODER_ONLY
            return name.startswith(own)
        own = (*ENCODER_ONLY, "hyper.quantizer.") if "image.hyper.codes" in tensors else ENCODER_ONLY
        return name.startswith((*ENCODER_ONLY_VIDEO, *(f"image.{prefix}" for prefix in own)))

    video = any(name.startswith("image.") for name in tensors)
    digest = hashlib.sha256(b"16-bit integers by position")
    for name in sorted(tensors):
        if name.endswith("::scale") or only_an_encoders(name):
            continue
        value = tensors[name]
        if f"{name}::scale" in tensors:
            value = value.astype(np.float32) * tensors[f"{name}::scale"].astype(np.float32)
        value = value.astype("<f4" if value.dtype.kind == "f" else "<i8")
        digest.update(f"{name}{value.shape}".encode() + value.tobytes())
    return digest.hexdigest()


def grid(x: np.ndarray) -> np.ndarray:
    """``x`` in whole steps of 2**-16."""
    return np.clip(np.rint(x * 2.0**16), -(2**27), 2**27).astype(np.int64)


def fixed(x: np.ndarray) -> np.ndarray:
    return grid(x) / 2.0**16


def integers(x: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    """``x`` as 16-bit integers, and the power of two that each along ``axis`` stands for."""
    largest = np.clip(abs(x).max(axis, keepdims=True).astype(np.float64) * (1 + 2.0**-7), 2.0**-17, 2.0**11)
    unit = np.ldexp(1.0, np.frexp(largest)[1] - 15)
    return np.clip(np.rint(x / unit), -32514, 32514).astype(np.int64), unit


def digits(whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """256 * high + low, low within [-128, 127]. In float64, of which the matrix products are fast."""
    high = whole + 128 >> 8
    return high.astype(np.float64), (whole - 256 * high).astype(np.float64)


def leaky(x: np.ndarray, slope: float) -> np.ndarray:
    return np.where(x > 0, x, x * x.dtype.type(slope))


def pixel_shuffle(x: np.ndarray) -> np.ndarray:
    channels, height, width = x.shape
    x = x.reshape(channels // 4, 2, 2, height, width).transpose(0, 3, 1, 4, 2)
    return x.reshape(channels // 4, 2 * height, 2 * width)


class Network:
    """The layers of a model by their names in its weights file; every array is (C, h, w) float64.

    ``tensors`` are those of which the names start with ``prefix``, without it: a video model holds an image model.
    """

    def __init__(self, tensors: dict[str, np.ndarray], prefix: str = ""):
        own = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
        self.tensors = {name: t.astype(np.float64) if t.dtype.kind == "f" else t for name, t in own.items()}

    def depth(self, name: str) -> int:
        """How many parts are numbered below ``name``."""
        return len({key[len(name) + 1 :].split(".")[0] for key in self.tensors if key.startswith(name + ".")})

    def conv(self, name: str, x: np.ndarray, output: type = np.float64) -> np.ndarray:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        depthwise = weight.shape[1] == 1 < len(x)
        return self.depthwise(weight, bias, x) if depthwise else self.dense(weight, bias, x, output)

    def depthwise(self, weight: np.ndarray, bias: np.ndarray, x: np.ndarray) -> np.ndarray:
        weight, bias = (np.rint(t * 2.0**16).astype(np.int64) for t in (weight, bias))
        side, (_, height, width) = weight.shape[-1], x.shape
        padded = np.pad(grid(x), ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
        sums = np.repeat(bias << 16, height * width).reshape(x.shape)
        for i in range(side):
            for j in range(side):
                sums += weight[:, 0, i, j, None, None] * padded[:, i : i + height, j : j + width]
        assert abs(sums).max() < 2**53
        return sums / 2.0**32

    def dense(self, weight: np.ndarray, bias: np.ndarray, x: np.ndarray, output: type) -> np.ndarray:
        side, (channels, height, width) = weight.shape[-1], x.shape
        taps, unit_w = integers(weight, axis=None)
        spare = 2 ** ((channels - 1) // 512).bit_length()
        taps = np.rint(taps / spare).astype(np.int64)
        whole, unit_x = integers(x, axis=0)
        padded, unit_x = (np.pad(t, ((0, 0), (side // 2, side // 2), (side // 2, side // 2))) for t in (whole, unit_x))
        out = np.zeros((len(weight), height, width), output)
        for i in range(side):
            for j in range(side):
                part, unit = (t[:, i : i + height, j : j + width] for t in (padded, unit_x))
                (w_high, w_low), (x_high, x_low) = digits(taps[:, :, i, j]), digits(part.reshape(channels, -1))
                sums = 256 * (w_high @ x_high) + w_low @ x_high + w_high @ x_low
                assert abs(sums).max() < 2**31
                out = out + sums.reshape(out.shape).astype(output) * (unit * (256 * spare * unit_w.item())).astype(
                    output
                )
        return out + bias[:, None, None].astype(output)

    def depth_conv_block(self, name: str, x: np.ndarray, gated: bool = True) -> np.ndarray:
        inner = self.conv(f"{name}.0.depth_conv", leaky(self.conv(f"{name}.0.conv1", x), 0.01))
        skip = self.conv(f"{name}.0.adaptor", x) if f"{name}.0.adaptor.weight" in self.tensors else x
        return self.feed_forward(f"{name}.1", self.conv(f"{name}.0.conv2", inner) + skip, gated)

    def feed_forward(self, name: str, x: np.ndarray, gated: bool) -> np.ndarray:
        a, b = np.split(self.conv(f"{name}.conv", x, np.float32), 2)
        mixed = a * leaky(b, 0.1) if gated else leaky(a, 0.1) + leaky(b, 0.01)
        return x + self.conv(f"{name}.conv_out", mixed)

    def upsample(self, name: str, x: np.ndarray) -> np.ndarray:
        main = leaky(pixel_shuffle(self.conv(f"{name}.subpel_conv", x)), 0.01)
        return leaky(self.conv(f"{name}.conv", main), 0.1) + pixel_shuffle(self.conv(f"{name}.upsample", x))

    def hyper_synthesis(self, z_hat: np.ndarray) -> np.ndarray:
        x = self.upsample("hyper.h_s.1", self.upsample("hyper.h_s.0", z_hat))
        for i in (2, 3, 4):
            x = self.depth_conv_block(f"hyper.h_s.{i}", x)
        return x

    def context(self, k: int, x: np.ndarray) -> np.ndarray:
        gated = "context.reduction.weight" in self.tensors
        if gated:
            x = self.depth_conv_block(f"context.adaptors.{k - 1}", x)
        for i in range(self.depth("context.prior")):
            x = self.depth_conv_block(f"context.prior.{i}", x, gated)
        return x


def masks(context: str, channels: int, height: int, width: int) -> list[np.ndarray]:
    """The coding order of y: (C, h, w) booleans, one a pass."""
    channel, row, column = np.ogrid[:channels, :height, :width]
    if context == "none":
        return [np.ones((channels, height, width), bool)]
    if context in ("checkerboard", "dual_checkerboard"):
        first = (row + column) % 2 == channel * 2 // channels
        return [first, ~first]
    position = 2 * (row % 2) + column % 2
    order = np.array([["abcd".index(letter) for letter in groups] for groups in FOUR_PART])
    return [order[k][channel * 4 // channels] == position for k in range(4)]


def leb128(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def crc16(data: bytes) -> int:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


def read_model(folder: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors of a model, but for its backbone's, and its metadata."""
    with safe_open(folder / "model.safetensors", "np") as file:
        names = [name for name in file.keys() if "backbone." not in name]
        return {name: file.get_tensor(name) for name in names}, json.loads(file.metadata()["glc_toolkit"])


def decode(data: bytes, folder: Path) -> dict[str, np.ndarray | list]:
    """A file and the folder of its model -> ``z`` (symbols or indices), ``rows`` and ``symbols`` of each pass in order
    of channel, row, column, and ``y_hat`` (C, h, w)."""
    tensors, facts = read_model(folder)
    assert data[:2] == b"\xa7\x01" and crc16(data[:2] + data[4:]) == int.from_bytes(data[2:4], "big")
    assert data[4:7].hex() == facts["fingerprint"][:6]
    width, at = leb128(data, 8)
    height, at = leb128(data, at)
    return decode_picture(RangeDecoder(data[at:]), Network(tensors), facts["config"], width, height)


def decode_picture(decoder: RangeDecoder, network: Network, config: dict, width: int, height: int) -> dict:
    factor = 4 * downsampling(config["backbone"])
    h, w = -(-height // factor), -(-width // factor)
    z = read_z(decoder, network, h, w)
    if config["hyper"]["name"] == "factorized":
        z_hat = z + network.tensors["hyper.entropy_model.quantiles"][:, 0, 1, None, None]
    else:
        z_hat = look_up(network, z)
    return {"z": z, **read_y(decoder, network, config, network.hyper_synthesis(z_hat))}


def read_z(decoder: RangeDecoder, network: Network, height: int, width: int) -> np.ndarray:
    cdf, offset = (network.tensors[f"hyper.entropy_model.{name}"] for name in ("_quantized_cdf", "_offset"))
    return decoder.symbols(np.repeat(np.arange(len(cdf)), height * width), cdf, offset).reshape(-1, height, width)


def look_up(network: Network, z: np.ndarray) -> np.ndarray:
    """Indices (codebooks, h, w) -> z_hat (C, h, w)."""
    codes = network.tensors["hyper.codes"]
    return sum(table[index] for table, index in zip(codes, z, strict=True)).transpose(2, 0, 1) / 2.0**16


def read_y(decoder: RangeDecoder, network: Network, config: dict, params: np.ndarray) -> dict:
    """The passes of y, given what the hyper module makes of z."""
    step, scales, means = np.split(fixed(params), 3)
    tensors = network.tensors
    cdf, offset = tensors["entropy_model._quantized_cdf"], tensors["entropy_model._offset"]
    table = tensors["entropy_model.scale_table"]
    skip = config["entropy_model"].get("args", {}).get("skip", True)
    y_hat, all_rows, all_symbols = np.zeros_like(means), [], []
    sent = np.zeros(means.shape[1:], bool)
    reduced = network.conv("context.reduction", params) if "context.reduction.weight" in tensors else params
    for k, mask in enumerate(masks(config["context"]["name"], *means.shape)):
        if k > 0:
            scales, means = np.split(fixed(network.context(k, np.concatenate([y_hat, reduced]))), 2)
        coded = mask & (scales >= table[0]) if skip else mask
        rows = np.searchsorted(np.sqrt(table[:-1] * table[1:]), scales, "left")[coded]
        symbols = np.zeros(means.shape, np.int64)
        symbols[coded] = decoder.symbols(rows, cdf, offset)
        y_hat = y_hat + symbols + means * mask
        sent |= symbols.any(0)
        all_rows.append(rows)
        all_symbols.append(symbols[coded])
    return {"rows": all_rows, "symbols": all_symbols, "y_hat": y_hat * np.maximum(step, 0.5), "sent": sent}


def downsampling(backbone: dict) -> int:
    """Of the built-in backbone, from picture to y."""
    args = backbone.get("args", {})
    if backbone["name"] == "thumbnail":
        return 16
    return args.get("patch", 1) * 2 ** (len(args.get("multipliers", range(5))) - 1)


if __name__ == "__main__":
    y_hat = decode(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]))["y_hat"]
    print(hashlib.sha256(np.ascontiguousarray(y_hat[None])).hexdigest())
