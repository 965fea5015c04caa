"""The same bits everywhere: symbols, rows of the scale table, z and y_hat do not depend on how they are computed."""

import contextlib
import copy
import functools
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from glc_toolkit import api, bitstream, registry, zoo
from glc_toolkit.coder import Decoder
from glc_toolkit.components import fixed_point
from glc_toolkit.components.fixed_point import FixedConv
from glc_toolkit.conformance import tiny
from glc_toolkit.conformance.exact import ExactOnly, InexactError
from glc_toolkit.models import GLCImage, GLCVideo
from tests import reference_decoder, reference_video_decoder
from tests.conftest import ROOT
from tests.make_golden import DATA, latent_hash, model_of, references_hash

GOLDEN = json.loads((DATA / "golden.json").read_text())
GOLDEN_VIDEO = json.loads((DATA / "golden_video.json").read_text())
LARGEST = {name for name in GOLDEN if name.endswith("-333x257.glc")}
FAST = sorted(set(GOLDEN) - LARGEST)
HYPERS = sorted(set(registry.names("hyper")) & {"spatial_categorical", "factorized"})
COMBINATIONS = list(itertools.product(HYPERS, registry.names("context")))


class Recorder(Decoder):
    """A decoder that keeps what it was asked and what it read, a step (z, then each pass of y) at a time."""

    def __init__(self, data: bytes):
        super().__init__(data)
        self.rows, self.symbols = [], []

    def get(self, rows, cdf, offset):
        symbols = super().get(rows, cdf, offset)
        self.rows.append(rows.tolist())
        self.symbols.append(symbols.tolist())
        return symbols


def decoded(model: GLCImage, data: bytes) -> dict:
    """Everything that has to be the same."""
    stream = bitstream.parse(data)
    recorder = Recorder(stream.payload)
    y_hat = model.decode_latent(recorder, (stream.height, stream.width))
    return {"rows": recorder.rows, "symbols": recorder.symbols, "y_hat": y_hat.double().numpy().tobytes()}


def combination(hyper: str, context: str) -> GLCImage:
    """A tiny model of these two, whose y has symbols in every pass."""
    torch.manual_seed(0)
    model = GLCImage(tiny.model_config(hyper={"name": hyper}, context={"name": context})).eval()
    model.update()
    return model


@functools.cache
def combined(hyper: str, context: str) -> tuple[GLCImage, bytes, dict]:
    """Such a model, which no test changes, a file of noise, and what is decoded from it."""
    model = combination(hyper, context)
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    data = api.encode(noise, model, quality=2)
    return model, data, decoded(model, data)


# -- a second decoder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_decoder_of_the_written_format_reads_the_golden_streams(name):
    """Whole numbers in NumPy and a range decoder of a few lines: tests/reference_decoder.py."""
    data, model = (DATA / name).read_bytes(), model_of(name)
    expected, other = decoded(zoo.load(model), data), reference_decoder.decode(data, zoo.locate(model))
    assert other["z"].reshape(-1).tolist() == expected["symbols"][0]
    assert [rows.tolist() for rows in other["rows"]] == expected["rows"][1:]
    assert [symbols.tolist() for symbols in other["symbols"]] == expected["symbols"][1:]
    assert other["y_hat"].tobytes() == expected["y_hat"]
    assert hashlib.sha256(other["y_hat"].tobytes()).hexdigest() == GOLDEN[name]["y_hat"]


@pytest.mark.parametrize("name", GOLDEN_VIDEO)
def test_it_reads_the_golden_videos(name):
    """Twelve frames, two of them intra frames, to the latents that they leave for the next."""
    expected, digest = GOLDEN_VIDEO[name], hashlib.sha256()
    for l_hat in reference_video_decoder.decode((DATA / name).read_bytes(), zoo.locate(model_of(name))):
        digest.update(l_hat[None].tobytes())
    assert digest.hexdigest() == expected


@pytest.mark.parametrize("more", [{}, {"skip": True}, {"bound": 1}])
def test_it_follows_motion(more, tmp_path):
    """Frames coded by an untrained model of the temporal context and the transforms for thumbnails."""
    torch.manual_seed(0)
    config = copy.deepcopy(tiny.VIDEO) | {
        "channels": 14,
        "intra_period": 6,
        **more,
        "temporal": {"name": "moved_context", "args": {"side": 2, "depth": 1}},
        "transform": {"name": "predicted", "args": {"spread": 2.0}},
    }
    config["hyper"]["args"]["heads"] = 2
    config["image"]["transform"] = {"name": "scaled"}
    video = GLCVideo(config)
    for conv in (video.temporal.extractor[-1], *(block.body[-1] for block in video.transform.dec)):
        torch.nn.init.normal_(conv.weight, 0, 0.05)
    video.eval().update()
    folder = zoo.save(video, tmp_path / "model", "moves")
    whole = F.interpolate(torch.rand(1, 3, 30, 30), (240, 240), mode="bicubic").clamp(0, 1).mul(255).round() / 255
    frames = [whole[..., 10 + 3 * i : 106 + 3 * i, 20 - 2 * i : 180 - 2 * i] for i in range(6)]

    reference, latents = None, []
    video = zoo.load(folder)
    field = torch.randint(-40, 41, (1, 2, 1, 2))
    video.temporal.estimate = lambda l, previous: field  # an untrained latent has no motion worth its bits
    quantize = video.entropy_model.quantize_residual
    nothing = torch.arange(4, 8)  # columns where the encoder chooses to send nothing
    video.entropy_model.quantize_residual = lambda *args: quantize(*args).index_fill(-1, nothing, 0)
    for x in frames:
        reference, _ = video.encode_payload(video.frame_analysis(x, reference), 170, reference)
        latents.append(reference.l_hat[0].numpy().tobytes())
    data = b"".join(api.encode_video(frames, model=video, fps=25, quality=170 / 127))
    assert [l_hat.tobytes() for l_hat in reference_video_decoder.decode(data, folder)] == latents


@pytest.mark.parametrize("hyper, context", COMBINATIONS)
def test_it_reads_every_combination_of_components(hyper, context, noise, tmp_path):
    folder = zoo.save(combination(hyper, context), tmp_path / "model", "combination")
    model = zoo.load(folder)
    data = api.encode(noise, model, quality=2)
    expected, other = decoded(model, data), reference_decoder.decode(data, folder)
    assert [symbols.tolist() for symbols in other["symbols"]] == expected["symbols"][1:]
    assert any(any(symbols) for symbols in expected["symbols"][1:])
    assert other["y_hat"].tobytes() == expected["y_hat"]


@pytest.mark.parametrize("name", [api.DEFAULT_MODEL, api.DEFAULT_VIDEO_MODEL])
def test_the_fingerprint_is_what_the_page_says(name):
    assert reference_decoder.fingerprint(zoo.locate(name)) == zoo.info(name)["fingerprint"]


@pytest.mark.parametrize("hyper, context", COMBINATIONS)
def test_the_fingerprint_of_every_combination_is_what_the_page_says(hyper, context, tmp_path):
    folder = zoo.save(combination(hyper, context), tmp_path / "model", "combination")
    assert reference_decoder.fingerprint(folder) == zoo.load(folder).fingerprint().hex()


# -- only exact operations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hyper, context", COMBINATIONS)
def test_the_entropy_decoder_is_made_of_exact_operations(hyper, context):
    model, data, _ = combined(hyper, context)
    stream = bitstream.parse(data)
    with ExactOnly() as seen:
        model.decode_latent(Decoder(stream.payload), (stream.height, stream.width))
    assert {"_int_mm", "mm"} & seen.operations and {"addcmul", "clamp"} <= seen.operations


GRID = torch.arange(128.0, dtype=torch.float64).reshape(1, 8, 4, 4) / 8 - 7


@pytest.mark.parametrize(
    "exact",
    [
        F.relu,
        F.relu6,
        F.hardtanh,
        torch.sign,
        torch.trunc,
        lambda x: F.threshold(x, 0.1, 0.2),
        lambda x: F.prelu(x, torch.full((8,), 0.3, dtype=x.dtype)),
        lambda x: F.leaky_relu(x, 0.1),
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.interpolate(x, scale_factor=3),
        lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"),
        lambda x: x.roll(1, 2),
        lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"),
        lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
        lambda x: x.gather(2, torch.zeros_like(x, dtype=torch.long)),
        lambda x: F.embedding(torch.tensor([[1, 2]]), x[0, 0]),
        lambda x: F.pixel_unshuffle(x, 2),
        lambda x: F.channel_shuffle(x, 2),
        lambda x: x.masked_fill(x > 0, 0),
    ],
)
def test_operations_with_one_result_only_are_let_through(exact):
    """They have the same bits in whatever layout and however the work is divided among threads."""
    with ExactOnly():
        expected = exact(GRID)
    with threads(7):
        assert torch.equal(exact(GRID.contiguous(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize(
    "inexact",
    [
        lambda x: x.softmax(1),
        lambda x: x.exp(),
        lambda x: torch.sigmoid(x),
        lambda x: x + x.mean(),
        lambda x: F.group_norm(x, 2),
        lambda x: torch.lerp(x, 2 * x, 0.3),
        lambda x: x.bfloat16() * 1.1,
        lambda x: F.conv2d(x.float(), torch.ones(1, 8, 1, 1)),
        lambda x: torch.einsum("bchw,cd->bdhw", x, torch.eye(8, dtype=x.dtype)),
        lambda x: F.conv2d(x / 3, torch.ones(1, 8, 1, 1, dtype=x.dtype)),
        lambda x: F.conv2d(x, torch.full((1, 8, 1, 1), 2.0**30, dtype=x.dtype)),
        lambda x: F.interpolate(x, scale_factor=1.5),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: F.avg_pool2d(x, 2),
    ],
)
def test_other_operations_are_found(inexact):
    x = torch.arange(128.0, dtype=torch.float64).reshape(1, 8, 4, 4)
    with pytest.raises(InexactError), ExactOnly():
        inexact(x)


# -- the same, computed otherwise -----------------------------------------------------------------------------------


@contextlib.contextmanager
def convolutions(change):
    """Every convolution of the entropy decoder done by ``change(its own forward, layer, x)``."""
    own = FixedConv.forward
    FixedConv.forward = lambda layer, x: change(lambda x: own(layer, x), layer, x)
    try:
        yield
    finally:
        FixedConv.forward = own


@contextlib.contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def sums_of_products(multiply):
    """Sums of products of bytes by ``multiply(rows, columns)``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixed_point, "exact_way", lambda *_: multiply)
        yield


def backwards(rows, columns):
    """The sums in the other order."""
    return rows.flip(1).int() @ columns.flip(0).int()


WAYS = {
    "one thread": lambda: threads(1),
    "seven threads": lambda: threads(7),
    "channels last": lambda: convolutions(lambda own, _, x: own(x.contiguous(memory_format=torch.channels_last))),
    "columns first": lambda: convolutions(lambda own, _, x: own(x.mT.contiguous().mT)),
    "without oneDNN": lambda: torch.backends.mkldnn.flags(enabled=False),
    "in a batch of four": lambda: convolutions(lambda own, _, x: own(torch.cat([-x, x / 3, x, x.flip(2)]))[2:3]),
    "sums in the other order": lambda: sums_of_products(backwards),
    "sums in float32": lambda: sums_of_products(fixed_point.in_float32),
    "sums in float64": lambda: sums_of_products(fixed_point.in_float64),
}


@pytest.fixture(scope="module")
def shipped() -> dict[str, GLCImage]:
    """The model of each golden picture."""
    models = {model_of(name): zoo.load(model_of(name)) for name in FAST}
    return {name: models[model_of(name)] for name in FAST}


@pytest.fixture(scope="module")
def expected(shipped) -> dict[str, dict]:
    return {name: decoded(shipped[name], (DATA / name).read_bytes()) for name in FAST}


@pytest.mark.parametrize("way", WAYS)
def test_golden_streams_give_the_same_bits(shipped, expected, way):
    with WAYS[way]():
        for name in FAST:
            assert decoded(shipped[name], (DATA / name).read_bytes()) == expected[name]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hyper, context", COMBINATIONS)
def test_every_combination_gives_the_same_bits(hyper, context, way):
    model, data, before = combined(hyper, context)
    with WAYS[way]():
        assert decoded(model, data) == before


# What oneDNN may use of a processor: below VNNI, its products of bytes saturate.
LESS = [
    "ONEDNN_MAX_CPU_ISA=SSE41",
    "ONEDNN_MAX_CPU_ISA=AVX",
    "ONEDNN_MAX_CPU_ISA=AVX2",
    "ONEDNN_MAX_CPU_ISA=AVX512_CORE",
    "DNNL_MAX_CPU_ISA=AVX512_CORE",
]


@pytest.mark.slow
@pytest.mark.timeout(900)  # six processes, one after another
@pytest.mark.parametrize("capability", [None, "default"])
def test_processes_that_are_held_to_less_read_and_write_the_same(capability, tmp_path):
    """Pictures and videos: they read the golden ones, and we read what they write."""
    settings = LESS if capability is None else ["ONEDNN_MAX_CPU_ISA=DEFAULT"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"} | ({} if capability is None else {"ATEN_CPU_CAPABILITY": capability})
    command = [sys.executable, "-W", "ignore", "-m", "tests.coded_here", tmp_path, *settings]
    subprocess.run(command, check=True, cwd=ROOT, env=env)
    for setting in settings:
        facts = json.loads((tmp_path / setting / "facts.json").read_text())
        if capability is None:
            assert facts["way"] == "in_float32"
        else:
            assert facts["capability"] == "DEFAULT"
        assert facts["golden"] == {**{name: facts["y_hat"] for name, facts in GOLDEN.items()}, **GOLDEN_VIDEO}
        assert facts["picture"] == latent_hash((tmp_path / setting / "picture.glc").read_bytes())
        assert facts["video"] == references_hash((tmp_path / setting / "video.glv").read_bytes())


def test_products_that_saturate_are_not_taken_for_exact():
    """As older instructions add up: two products at a time in 16 bits, of bytes from 0 to 255 on one side."""

    def saturating(rows, columns, shift=0):
        products = (rows.int()[:, :, None] + shift) * columns.int()
        pairs = F.pad(products, (0, 0, 0, rows.shape[1] % 2)).unflatten(1, (-1, 2)).sum(2)
        return (pairs.clamp(-(2**15), 2**15 - 1).sum(1) - shift * columns.int().sum(0)).int()

    for inputs, outputs in ((2, 1), (64, 3), (65, 19)):
        assert fixed_point.is_exact(fixed_point.in_float32, "cpu", inputs, outputs)
        for shift in (0, 128):
            assert not fixed_point.is_exact(functools.partial(saturating, shift=shift), "cpu", inputs, outputs)


def test_without_an_exact_product_nothing_is_decoded(monkeypatch):
    monkeypatch.setattr(fixed_point, "is_exact", lambda *_: False)
    with pytest.raises(RuntimeError, match="no product of 7 by 5 bytes is exact on this cpu"):
        fixed_point.exact_way("cpu", 7, 5)


def test_the_ways_do_differ(noise):
    """Ordinary float32 networks do not survive them."""

    def other_order(own, layer, x):
        return own(x) if layer.groups > 1 else F.conv2d(x.flip(1), layer.weight.flip(1), layer.bias)

    model = combination("spatial_categorical", "four_part")
    fixed_point.to_floating_point(model.context)
    x = torch.randn(1, 32, 9, 7)
    with torch.no_grad():
        before = model.context.prior(x)
        with convolutions(other_order):
            assert not torch.equal(model.context.prior(x), before)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_blocks_give_the_same_bits(noise):
    """One of each kind that there is."""
    model = combination("spatial_categorical", "four_part")
    data = api.encode(noise, model, quality=2)
    before = decoded(model, data)
    for part, i in ((model.hyper.h_s, 0), (model.context.prior, 0)):
        part[i] = torch.compile(part[i])
    assert decoded(model, data) == before


def test_floats_that_may_differ_do_not_reach_a_symbol(shipped, expected, monkeypatch):
    """Whatever is not in the entropy decoder, moved by 1e-4: the transform, the generator, the quantizer and the
    probabilities that tables were made of."""
    monkeypatch.setattr(GLCImage, "check_ready", lambda *args: None)  # it would refuse weights that moved
    torch.manual_seed(0)
    *_, last = FAST
    model, files = shipped[last], [name for name in FAST if model_of(name) == model_of(last)]
    own = {name: value.clone() for name, value in model.state_dict().items()}
    moved = [(n, p) for n, p in model.named_parameters() if not n.startswith(("hyper.h_s.", "context.", "auxiliary."))]
    assert {n.split(".")[0] for n, _ in moved} == {"backbone", "transform", "hyper"}
    try:
        with torch.no_grad():
            for _, parameter in moved:
                parameter.add_(1e-4 * torch.randn_like(parameter).sign())
        for name in files:
            assert decoded(model, (DATA / name).read_bytes()) == expected[name]
    finally:
        model.load_state_dict(own)


def test_other_versions_gave_the_same_bits():
    """What tests/record_platform.py found where it ran."""
    platforms = json.loads((DATA / "platforms.json").read_text())
    assert len({name.split()[1] for name in platforms}) >= 2
    assert set().union(*platforms.values()) == set(GOLDEN)
    for platform, hashes in platforms.items():
        assert hashes == {name: GOLDEN[name]["y_hat"] for name in hashes}, platform


def test_every_changed_byte_of_the_golden_streams_is_detected():
    for name in GOLDEN:
        data = (DATA / name).read_bytes()
        for at, change in itertools.product(range(len(data)), range(1, 256)):
            with pytest.raises(bitstream.BitstreamError):
                bitstream.parse(data[:at] + bytes([data[at] ^ change]) + data[at + 1 :])
