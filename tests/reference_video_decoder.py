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

    def picture_synthesis(self, y_hat: np.ndarray, quality: float) -> np.ndarray:
        h = self.gain("transform.q_dec", self.gated_blocks("transform.dec_1", y_hat), quality)
        return self.gated_blocks("transform.dec_2", h)

    def context_of(self, l_hat: np.ndarray, adaptor: int | None, keep: bool) -> np.ndarray:
        x = self.conv("temporal.fresh" if adaptor is None else f"temporal.adaptors.{adaptor}", l_hat)
        blocks = self.depth("temporal.extractor") - 1
        for i in range(blocks):
            x = self.depth_conv_block(f"temporal.extractor.{i}", x, gated=False)
        x = self.conv(f"temporal.extractor.{blocks}", x)
        return np.concatenate([l_hat, x]) if keep else x

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
        h = self.sum_blocks("transform.dec_1", np.concatenate([y_hat, context]))
        l_hat = self.sum_blocks("transform.dec_2", self.gain("transform.q_dec", h, quality))
        return l_hat + context[: len(l_hat)] if residual else l_hat


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
            l_hat, age = image.picture_synthesis(y_hat, image_quality), 0
        else:
            age += 1
            fresh = age % refresh == 1 % refresh
            adaptor = None if fresh else cycle[age % len(cycle)]
            context = network.context_of(l_hat, adaptor, args["temporal"].get("keep", False))
            params = network.hyper_decode(decoder, context, fresh, args["hyper"].get("tokens", 16))
            y_hat = read_y(decoder, network, config, params)["y_hat"]
            l_hat = network.synthesis(y_hat, quality, context, args["transform"].get("residual", False))
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
