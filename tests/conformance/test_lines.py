"""What ``glc plugins check`` says."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from glc_toolkit.components.contexts.spatial import FourPartContext
from glc_toolkit.components.fixed_point import FixedConv
from glc_toolkit.components.quantizers.nearest import NearestCode
from glc_toolkit.evaluation.codecs import Family
from tests.test_cli import glc


class Elementwise(FourPartContext):
    """A coding order with the activations that authors write first."""

    def __init__(self, channels: int):
        super().__init__(channels, depth=1)
        self.activations = nn.Sequential(nn.ReLU6(), nn.PReLU(2 * channels), nn.Hardtanh(), nn.Threshold(0.1, 0.0))
        self.codes = nn.Embedding(4, 2 * channels)

    def forward(self, k, y_hat, reduced):
        h = torch.cat(super().forward(k, y_hat, reduced), 1)
        h = F.relu(h) + self.codes(torch.tensor([[k]])).movedim(-1, 1)[..., None].sign().trunc()
        h = F.pixel_unshuffle(F.interpolate(h, scale_factor=2), 2)[:, ::4]
        h = F.max_pool2d(F.pad(h, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return self.activations(h.roll(1, 3)).chunk(2, 1)


class Sigmoid(FourPartContext):
    """One with an activation that differs between machines."""

    def __init__(self, channels: int):
        super().__init__(channels, depth=1)
        self.gate = nn.Sequential(FixedConv(2 * channels, 2 * channels, 1), nn.Sigmoid())

    def forward(self, k, y_hat, reduced):
        return self.gate(torch.cat(super().forward(k, y_hat, reduced), 1)).chunk(2, 1)


class Linear(FourPartContext):
    """One with sums whose order is left open."""

    def __init__(self, channels: int):
        super().__init__(channels, depth=1)
        self.gate = nn.Linear(2 * channels, 2 * channels)


class TwoIndices(NearestCode):
    """It names one codebook and gives indices of two."""

    def forward(self, l):
        values, indices, loss = super().forward(l)
        return values, indices.repeat(1, 2, 1, 1), loss


def broken_loss(**_):
    return lambda out: out["x_hat"].mean() + out["no such thing"]


def check(plugin, code=1, **hooks):
    plugin("tried", **hooks)
    return glc("plugins", "check", "tried", code=code).splitlines()


def test_what_is_exact_passes(plugin):
    said = check(plugin, code=0, glc_contexts=lambda: {"elementwise": Elementwise})
    assert said[-1] == "4 passed"
    assert "passed context elementwise: In a model: compress, decompress" in said[-2]


@pytest.mark.parametrize(
    "context, message",
    [
        (
            Sigmoid,
            "sigmoid is not exact, in context.gate.1 (Sigmoid), conformance/test_lines.py:{line}; "
            "use relu, leaky_relu, prelu or hardtanh",
        ),
        (Linear, "ValueError: gate (Linear) is not exact in an entropy decoder: use FixedConv for sums of products"),
    ],
)
def test_what_is_not_is_named_with_its_module_and_what_to_write(context, message, plugin):
    said = check(plugin, glc_contexts=lambda: {"it": context})
    line = Sigmoid.forward.__code__.co_firstlineno + 1
    assert said[-3].startswith("failed context it: In a model")
    assert said[-2].strip().startswith(message.format(line=line))
    assert said[-1] == "3 passed, 1 failed"


def test_a_wrong_shape_is_a_sentence_and_an_error_has_its_place(plugin):
    said = check(plugin, glc_quantizers=lambda: {"two": TwoIndices}, glc_losses=lambda: {"broken": broken_loss})
    assert "       indices has the shape (2, 2, 8, 8); it has to be (2, 1, 8, 8)" in said
    assert any(line.startswith("       KeyError: 'no such thing' (conformance/test_lines.py:") for line in said)
    assert not any(line.startswith("assert") for line in said)


class Grey:
    """A codec of no colours."""

    def encode(self, picture):
        return bytes(picture.size) + picture.convert("L").tobytes()

    def decode(self, data):
        return Image.frombytes("L", (data[0], data[1]), data[2:])


def test_a_codec_is_checked(plugin):
    said = check(plugin, glc_codecs=lambda: {"grey": lambda: Family("grey", "1", [0, 1], [0], lambda _: Grey())})
    assert said[0].startswith("failed codec grey: To bytes and back, pictures and clips alike")
    assert "       the decoded picture has the mode L; it has to be RGB" in said and said[-1] == "2 failed"


def test_what_is_skipped_says_why(plugin):
    from glc_toolkit.components.entropy.categorical import CategoricalTable

    found = {"glc_entropy_models": lambda: {"table": CategoricalTable}, "glc_zoo": lambda: {}}
    said = check(plugin, code=0, **found)
    assert said[0] == "skipped tried: glc_zoo, of which nothing is checked"
    assert said[-2].endswith(", because it codes indices or integers, not residuals")
    assert said[-1] == "4 passed, 1 skipped"
