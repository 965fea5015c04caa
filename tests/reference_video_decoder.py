"""The second entropy decoder for videos: the latent that each frame leaves for the next.

python -m tests.reference_video_decoder FILE.glv MODEL_FOLDER
"""

import hashlib
import sys
from decimal import Decimal, getcontext
from pathlib import Path

import numpy as np

from tests.reference_decoder import (
    Network,
    RangeDecoder,
    decode_picture,
    fixed,
    leaky,
    leb128,
    look_up,
    read_model,
    read_y,
    read_z,
)

BLOCK = 16
FILTERS = np.array(
    [
        [0, 0, 0, 64, 0, 0, 0, 0],
        [-1, 4, -10, 58, 17, -5, 1, 0],
        [-1, 4, -11, 40, 40, -11, 4, -1],
        [0, 1, -5, 17, 58, -10, 4, -1],
    ]
)
CYCLE = (0, 1, 0, 2, 0, 2, 0, 2)  # of temporal adaptors, where the config does not say

getcontext().prec = 30
SIGMOID = np.array([round(2**16 / (1 + float((Decimal(-i) / 32).exp()))) for i in range(-384, 386)]) / 2.0**16


def sigmoid(x: np.ndarray) -> np.ndarray:
    at = (np.clip(fixed(x), -12, 12) + 12) * 32
    low = np.floor(at).astype(int)
    left, right = SIGMOID[low], SIGMOID[low + 1]
    return fixed(left + (right - left) * (at - low))


class VideoNetwork(Network):
    def gain(self, name: str, x: np.ndarray, quality: float) -> np.ndarray:
        weight = np.rint(self.tensors[f"{name}.weight"] * 2.0**16) / 2.0**16
        low = int(quality)
        high = min(low + 1, len(weight) - 1)
        part = fixed(np.float64(np.float32(quality)) - low)
        return x * (weight[low] + part * (weight[high] - weight[low]))

    def sum_blocks(self, name: str, x: np.ndarray) -> np.ndarray:
        for i in range(self.depth(name)):
            x = self.depth_conv_block(f"{name}.{i}", x, gated=False)
        return x

    def gated_blocks(self, name: str, x: np.ndarray) -> np.ndarray:
        for i in range(self.depth(name)):
            own = f"{name}.{i}.0"
            inner = self.conv(f"{own}.depth_conv", leaky(self.conv(f"{own}.conv1", x), 0.01))
            skip = self.conv(f"{own}.adaptor", x) if f"{own}.adaptor.weight" in self.tensors else x
            x = self.conv(f"{own}.out_conv", inner * self.conv(f"{own}.conv2", x)) + skip
            x = self.feed_forward(f"{name}.{i}.1", x, gated=True)
        return x

    def conv_blocks(self, name: str, x: np.ndarray) -> np.ndarray:
        for i in range(self.depth(name)):
            own = f"{name}.{i}"
            inner = self.conv(f"{own}.body.2", leaky(self.conv(f"{own}.body.0", x), 0.01))
            x = inner + (self.conv(f"{own}.adaptor", x) if f"{own}.adaptor.weight" in self.tensors else x)
        return x

    def picture_synthesis(self, y_hat: np.ndarray, quality: float, transform: str) -> np.ndarray:
        if transform == "scaled":
            return self.gain("transform.q_dec", self.conv_blocks("transform.dec", y_hat), quality)
        h = self.gain("transform.q_dec", self.gated_blocks("transform.dec_1", y_hat), quality)
        return self.gated_blocks("transform.dec_2", h)

    def context_of(self, l_hat: np.ndarray, adaptor: int | None, keep: bool) -> np.ndarray:
        x = self.conv("temporal.fresh" if adaptor is None else f"temporal.adaptors.{adaptor}", l_hat)
        blocks = self.depth("temporal.extractor") - 1
        for i in range(blocks):
            x = self.depth_conv_block(f"temporal.extractor.{i}", x, gated=False)
        x = self.conv(f"temporal.extractor.{blocks}", x)
        if "temporal.inverse.weight" in self.tensors:
            return l_hat[: len(x)] + x
        return np.concatenate([l_hat, x]) if keep else x

    def moved(self, l_hat: np.ndarray, field: np.ndarray, side: int) -> np.ndarray:
        """``l_hat`` after the motion ``field`` (2, rows, columns)."""
        if not field.any():
            return l_hat
        height, width = l_hat.shape[1:]
        thumbnail = fixed(shuffled(self.conv("temporal.inverse", l_hat[: 3 * side**2]), side))
        fill = [(0, BLOCK * count - length) for count, length in zip(field.shape[1:], thumbnail.shape[1:], strict=True)]
        thumbnail = np.pad(thumbnail, ((0, 0), *fill), "edge")
        change = fixed(moved_picture(thumbnail, field) - thumbnail)
        change = self.conv("temporal.blocks", unshuffled(change, side))[:, :height, :width]
        of_block = BLOCK // side
        rows, columns = np.indices((height, width))
        down, right = (field[:, rows // of_block, columns // of_block] + 2 * side) // (4 * side)
        rest = l_hat[:, np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)]
        return np.concatenate([l_hat[: len(change)] + change, rest[len(change) :]])

    def hyper_decode(self, decoder: RangeDecoder, context: np.ndarray, fresh: bool, tokens: int) -> np.ndarray:
        prior = x = self.conv("hyper.temporal_prior", context)
        for i in (0, 2, 4):
            x = leaky(self.depth_conv_block(f"hyper.weights.{i}", x, gated=False), 0.01)
        maps = sigmoid(self.conv("hyper.weights.6", x))
        maps = maps.reshape(tokens, -1, *maps.shape[1:])  # (tokens, heads, h, w)
        values = fixed(self.conv("hyper.values", look_up(self, read_z(decoder, self, tokens, 1))))
        values = values.reshape(maps.shape[1], -1, tokens)  # (heads, channels of one, tokens)
        h = np.einsum("dck,kdhw->dchw", values, maps) / tokens
        h = leaky(self.depth_conv_block("hyper.spread.0", h.reshape(-1, *h.shape[2:]), gated=False), 0.01)
        x = np.concatenate([self.conv("hyper.spread.2", h), prior])
        own = f"hyper.adaptors.{0 if fresh else 1}"
        x = self.conv(f"{own}.1", self.depth_conv_block(f"{own}.0", x, gated=False))
        return self.sum_blocks("hyper.fusion", x)

    def synthesis(self, y_hat: np.ndarray, quality: float, context: np.ndarray, residual: bool) -> np.ndarray:
        if "transform.dec.0.body.0.weight" in self.tensors:
            h = self.conv_blocks("transform.dec", np.concatenate([y_hat, context]))
            l_hat = context + self.gain("transform.q_dec", h, quality)
            if "transform.rest.weight" in self.tensors:
                l_hat = np.concatenate([l_hat, self.conv("transform.rest", np.concatenate([h, context]))])
            return l_hat
        h = self.sum_blocks("transform.dec_1", np.concatenate([y_hat, context]))
        l_hat = self.sum_blocks("transform.dec_2", self.gain("transform.q_dec", h, quality))
        return l_hat + context[: len(l_hat)] if residual else l_hat


def near(sent: np.ndarray) -> np.ndarray:
    """Where ``sent`` is true, and beside it."""
    height, width = sent.shape
    padded = np.pad(sent, 1)
    return np.any([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)


def shuffled(x: np.ndarray, side: int) -> np.ndarray:
    """Channels to ``side`` x ``side`` pixels a position."""
    channels, height, width = x.shape
    x = x.reshape(channels // side**2, side, side, height, width).transpose(0, 3, 1, 4, 2)
    return x.reshape(channels // side**2, side * height, side * width)


def unshuffled(x: np.ndarray, side: int) -> np.ndarray:
    channels, height, width = x.shape
    x = x.reshape(channels, height // side, side, width // side, side).transpose(0, 2, 4, 1, 3)
    return x.reshape(channels * side**2, height // side, width // side)


def moved_picture(x: np.ndarray, field: np.ndarray) -> np.ndarray:
    """``x`` after the motion ``field``, in steps of 2**-38, which 64 bits hold."""
    whole, (height, width) = np.rint(x * 2.0**16).astype(np.int64), x.shape[1:]
    blocks = np.indices((height, width)) // BLOCK
    place = np.indices((height, width)) % BLOCK
    near = 2 * place + 1 - BLOCK  # from the centre of the block, in 2 * BLOCK parts of it
    out = np.zeros(x.shape, np.int64)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            share = 1
            for step, distance in ((down, near[0]), (right, near[1])):
                share = share * np.clip(step * distance if step else 2 * BLOCK - abs(distance), 0, None)
            rows, columns = (
                np.clip(b + step, 0, count - 1)
                for b, step, count in zip(blocks, (down, right), field.shape[1:], strict=True)
            )
            vectors = field[:, rows, columns]
            row, column = np.indices((height, width)) + vectors // 4 - 3
            total = np.zeros(x.shape, np.int64)
            for a in range(8):
                for b in range(8):
                    weight = FILTERS[vectors[0] % 4, a] * FILTERS[vectors[1] % 4, b]
                    at = np.clip(row + a, 0, height - 1), np.clip(column + b, 0, width - 1)
                    total += weight * whole[:, at[0], at[1]]
            out += share * total
    return out / 2.0**16 / 64**2 / (2 * BLOCK) ** 2


def read_field(decoder: RangeDecoder, network: Network, height: int, width: int) -> np.ndarray:
    """Vectors (2, height, width): from one block to the blocks between known ones."""
    cdf, offset = (network.tensors[f"temporal.field.entropy_model.{name}"] for name in ("_quantized_cdf", "_offset"))
    known = {}
    stride = 1
    while stride < max(height, width):
        stride *= 2
    steps = [([(0, 0)], 0, False)]
    while stride > 1:
        half = stride // 2
        for first, diagonal in (((half, half), True), ((0, half), False), ((half, 0), False)):
            grid = [(r, c) for r in range(first[0], height, stride) for c in range(first[1], width, stride)]
            steps.append((grid, half, diagonal))
        stride = half
    for places, half, diagonal in steps:
        if not places:
            continue
        offsets = [(-1, -1), (-1, 1), (1, -1), (1, 1)] if diagonal else [(-1, 0), (1, 0), (0, -1), (0, 1)]
        expected, tables = [], []
        for r, c in places:
            near = [known[q] for q in ((r + half * a, c + half * b) for a, b in offsets) if half and q in known]
            n = len(near)
            mean = [(2 * sum(v[i] for v in near) + n) // (2 * n) if n else 0 for i in (0, 1)]
            apart = max(max(v[i] for v in near) - min(v[i] for v in near) for i in (0, 1)) if n else 99
            expected.append(mean)
            tables.append(sum(apart > limit for limit in (0, 2, 8)) + 4 * any(mean))
        symbols = decoder.symbols(np.array(2 * tables), cdf, offset).reshape(2, -1) - 128
        for place, mean, symbol in zip(places, expected, symbols.T, strict=True):
            known[place] = np.clip(symbol + mean, -64, 64).tolist()
    return np.array([[known[r, c] for c in range(width)] for r in range(height)]).transpose(2, 0, 1)


def frames(data: bytes, at: int):
    """(is it an intra frame, quality byte, payload) of each record of a sound file."""
    quality = data[7]
    while data[at : at + 2] != b"\0E":
        intra = data[at : at + 2] == b"\0I"
        if intra:
            _, at = leb128(data, at + 2)
            length, at = leb128(data, at)
            if data[1] == 3:
                quality, at = data[at], at + 1
            at += 2
        else:
            if data[at : at + 2] == b"\0Q" and data[1] == 3:
                quality, at = data[at + 2], at + 3
            length, at = leb128(data, at)
        yield intra, quality, data[at + 2 : at + 1 + length]
        at += 1 + length


def decode(data: bytes, folder: Path):
    """A file and the folder of its model -> l_hat (C, h, w) of each frame."""
    tensors, facts = read_model(folder)
    config, network, image = facts["config"], VideoNetwork(tensors), VideoNetwork(tensors, "image.")
    assert data[:2] in (b"\xa7\x02", b"\xa7\x03") and data[4:7].hex() == facts["fingerprint"][:6]
    at, sizes = 9, []
    for _ in range(5):
        size, at = leb128(data, at)
        sizes.append(size)
    width, height = sizes[:2]

    args = {slot: config[slot].get("args", {}) for slot in ("hyper", "temporal", "transform")}
    cycle, refresh = config.get("cycle", CYCLE), config.get("refresh", 32)
    l_hat, age = np.zeros(0), 0
    for intra, code, payload in frames(data, at):
        quality, image_quality = qualities(code, config)
        decoder = RangeDecoder(payload)
        if intra:
            y_hat = decode_picture(decoder, image, config["image"], width, height)["y_hat"]
            l_hat, age = image.picture_synthesis(y_hat, image_quality, config["image"]["transform"]["name"]), 0
        else:
            age += 1
            fresh = age % refresh == 1 % refresh
            adaptor = None if fresh else cycle[age % len(cycle)]
            if "temporal.inverse.weight" in tensors:
                side = args["temporal"].get("side", 4)
                blocks = [-(-length * side // BLOCK) for length in l_hat.shape[1:]]
                l_hat = network.moved(l_hat, read_field(decoder, network, *blocks), side)
            context = network.context_of(l_hat, adaptor, args["temporal"].get("keep", False))
            params = network.hyper_decode(decoder, context, fresh, args["hyper"].get("tokens", 16))
            y = read_y(decoder, network, config, params)
            before, residual = l_hat, args["transform"].get("residual", False)
            l_hat = network.synthesis(y["y_hat"], quality, context, residual)
            if config.get("bound"):
                l_hat = np.clip(l_hat, -config["bound"], config["bound"])
            if config.get("skip"):
                l_hat = np.where(near(y["sent"]), l_hat, before)
        yield l_hat


def qualities(code: int, config: dict) -> tuple[float, float]:
    """Of P frames and of intra frames."""
    levels, image_levels = config.get("levels", 4), config["image"].get("levels", 4)
    steps, image_steps = (255 // max(count - 1, 1) for count in (levels, image_levels))
    low, high = config.get("image_levels", (0, image_levels - 1))
    quality = code / steps
    return quality, round((low + quality * (high - low) / max(levels - 1, 1)) * image_steps) / image_steps


if __name__ == "__main__":
    digest = hashlib.sha256()
    for l_hat in decode(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])):
        digest.update(np.ascontiguousarray(l_hat))
    print(digest.hexdigest())
