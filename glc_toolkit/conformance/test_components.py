"""Conformance checks, parametrised over every registered component."""

import hashlib
import json
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from compressai.entropy_models import EntropyModel
from compressai.latent_codecs import LatentCodec
from PIL import Image

from glc_toolkit import registry, types
from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.conformance import tiny
from glc_toolkit.conformance.exact import ExactOnly
from glc_toolkit.evaluation.codecs import Family
from glc_toolkit.models import GLCImage, GLCVideo


def every(*kinds: str):
    """Run a check on each component of these kinds: it takes ``name``, and ``kind`` where there are several."""

    def mark(check):
        check.kinds = kinds
        return check

    return mark


def pytest_generate_tests(metafunc):
    """All components, or those of the ``PLUGIN`` that a module names which imports the checks from here."""
    kinds = getattr(metafunc.function, "kinds", ())
    only = getattr(metafunc.module, "PLUGIN", os.environ.get("GLC_CHECK_PLUGINS", "")).split()
    found = [(k, n) for k in kinds for n, (_, p) in sorted(registry.components(k).items()) if not only or p in only]
    if len(kinds) == 1:
        metafunc.parametrize("name", [name for _, name in found])
    elif kinds:
        metafunc.parametrize("kind, name", found)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def conditional(kind: str, name: str) -> bool:
    """Whether a transform or hyper module is of a video model: it takes the temporal context, too."""
    return getattr(registry.components(kind)[name][0], "conditional", False)


def latent(batch: int = 2, channels: int = tiny.CHANNELS, side: int = 8) -> torch.Tensor:
    return torch.randn(batch, channels, side, side)


@every("backbone")
def test_backbone(name):
    backbone = tiny.build("backbone", name)
    assert isinstance(backbone, types.Backbone)
    side = 4 * backbone.downsampling
    x = torch.rand(2, 3, side, side)
    l = backbone.analysis(x)
    assert l.shape == (2, backbone.latent_channels, 4, 4)
    quantized = backbone.quantize(l)
    assert quantized.values.shape == l.shape
    x_hat = backbone.synthesis(quantized.values)
    assert x_hat.shape == x.shape
    x_hat.mean().backward()
    assert backbone.last_weight.grad is not None
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())


@every("quantizer")
def test_quantizer(name):
    quantizer = tiny.build("quantizer", name).eval()
    assert isinstance(quantizer, types.Quantizer)
    l = latent().requires_grad_()
    values, indices, loss = quantizer(l)
    assert values.shape == l.shape
    assert indices.shape == (2, quantizer.num_codebooks, 8, 8)
    assert indices.dtype == torch.int64
    assert indices.min() >= 0 and indices.max() < quantizer.codebook_size
    assert loss.ndim == 0 and torch.isfinite(loss)
    torch.testing.assert_close(quantizer.lookup(indices), values, rtol=1e-4, atol=1e-4)
    quantizer.train()(l).values.sum().backward()
    assert l.grad is not None and l.grad.abs().sum() > 0


@every("transform")
def test_transform(name):
    transform = tiny.build("transform", name)
    assert isinstance(transform, types.Transform)
    l, quality = latent(), torch.tensor([0.0, tiny.LEVELS - 1.0])
    given = (latent(),) if conditional("transform", name) else ()
    y = transform.analysis(l, quality, *given)
    assert y.shape == l.shape
    assert transform.synthesis(y, quality, *given).shape == l.shape
    low, middle, high = (transform.analysis(l, torch.full((2,), q), *given) for q in (1.0, 1.0 + 1e-4, 1.25))
    assert (low - middle).abs().max() < (low - high).abs().max() + 1e-6  # continuous in quality


@every("temporal")
def test_temporal(name):
    temporal = tiny.build("temporal", name)
    l_hat = latent()
    contexts = [temporal(l_hat, adaptor) for adaptor in (None, 0, 2)]
    assert all(context.shape == l_hat.shape for context in contexts)
    for module in temporal.modules():
        assert not list(module.parameters(recurse=False)) or getattr(module, "fixed_point", False)


@every("hyper")
def test_hyper(name):
    hyper = tiny.build("hyper", name)
    assert isinstance(hyper, types.Hyper) and isinstance(hyper, LatentCodec)
    y = latent(side=16)
    given = (latent(side=16), True) if conditional("hyper", name) else ()
    out = hyper(y, *given)
    assert out["params"].shape == (2, 3 * tiny.CHANNELS, 16, 16)
    assert out["likelihoods"]["z"].min() > 0 and out["likelihoods"]["z"].max() <= 1
    assert torch.isfinite(out["loss"])
    hyper.eval()
    for module in hyper.modules():
        if isinstance(module, EntropyModel):
            module.update()
    encoder = Encoder()
    if given:
        given = (given[0][:1], False)
        params = hyper.encode(encoder, y[:1], *given)
        assert torch.equal(hyper.decode(Decoder(encoder.bytes()), *given), params)
        return
    params = hyper.encode(encoder, y[:1])
    side = 16 // hyper.downsampling
    assert torch.equal(hyper.decode(Decoder(encoder.bytes()), (side, side)), params)
    packed = hyper.compress(y)
    assert torch.equal(hyper.decompress(packed["strings"], packed["shape"])["params"], packed["params"])


@every("entropy_model")
@pytest.mark.parametrize("count", [0, 1, 5, 1000])
def test_entropy_model_codes_any_number_of_symbols(name, count):
    model = tiny.build("entropy_model", name).eval()
    assert isinstance(model, EntropyModel)
    assert model.update()
    assert not model.update()
    cdf, offset = model.tables()
    rows = torch.randint(len(cdf), (1, count))
    symbols = torch.randint(cdf.shape[1] - 1, (1, count)) + torch.from_numpy(offset)[rows]
    strings = model.compress(symbols.float(), rows)
    assert torch.equal(model.decompress(strings, rows), symbols.float())
    other = tiny.build("entropy_model", name)  # the tables travel with the weights
    other.load_state_dict(model.state_dict())
    assert other.compress(symbols.float(), rows) == strings


@every("entropy_model")
def test_entropy_model_of_residuals(name):
    """What training minimizes are the bits of symbols, though it gives residuals that are not rounded yet."""
    model = tiny.build("entropy_model", name)
    if not isinstance(model, types.ResidualModel):
        pytest.skip("codes indices or integers, not residuals")
    residual, scales = 3 * latent(), 4 * torch.rand_like(latent()) + 0.2
    symbols = model.quantize_residual(residual, scales).detach()
    assert torch.equal(symbols, symbols.round()) and (symbols - residual).abs().max() <= 0.5
    torch.testing.assert_close(model.likelihood(residual, scales), model.likelihood(symbols, scales))
    round_trip(tiny.model_config(entropy_model=tiny.config("entropy_model", name)))


@every("context")
@pytest.mark.parametrize("size", [(1, 1), (4, 6), (5, 3)])
def test_context(name, size):
    context = tiny.build("context", name)
    assert isinstance(context, types.Context)
    y = torch.zeros(2, tiny.CHANNELS, *size)
    masks = context.masks(y)
    assert torch.equal(sum(m.int() for m in masks), torch.ones(1, tiny.CHANNELS, *size, dtype=torch.int32))
    reduced = context.reduce(torch.randn(2, 3 * tiny.CHANNELS, *size))
    for k in range(1, len(masks)):
        scales, means = context(k, y, reduced)
        assert scales.shape == means.shape == y.shape


@every("loss")
def test_loss(name):
    loss = tiny.build("loss", name)
    x = torch.rand(2, 3, 64, 64)
    parts = {key: latent(side=4).requires_grad_() for key in ("l", "l_hat", "y_hat")}
    out = {
        **parts,
        "x": x,
        "x_hat": torch.rand(2, 3, 64, 64, requires_grad=True),
        "codes": torch.randint(64, (2, 1, 4, 4)),
        "likelihoods": {k: torch.rand(2, 4, 4, 4).clamp(min=0.1).requires_grad_() for k in "yz"},
        "quality": torch.tensor([0.0, tiny.LEVELS - 1.0]),
        "codebook_loss": torch.rand((), requires_grad=True),
        "hyper_loss": torch.rand((), requires_grad=True),
    }
    value = loss(out)
    assert value.ndim == 0 and torch.isfinite(value)
    value.backward()
    leaves = [
        v for v in (*out.values(), *out["likelihoods"].values()) if isinstance(v, torch.Tensor) and v.requires_grad
    ]
    grads = [v.grad for v in leaves if v.grad is not None]
    assert grads and all(torch.isfinite(g).all() for g in grads)
    if hasattr(loss, "discriminator_loss"):
        loss.discriminator_loss(out).backward()


@every("metric")
def test_metric(name):
    metric = tiny.build("metric", name)
    x = torch.rand(2, 3, 176, 176)
    same, noisy = metric(x, x), metric((x + 0.3 * torch.randn_like(x)).clamp(0, 1), x)
    assert same.shape == noisy.shape == (2,)
    assert ((same > noisy) if metric.higher_is_better else (same < noisy)).all()


ELSEWHERE = """
import hashlib, json, sys
import numpy as np
from glc_toolkit import registry
for line in sys.stdin:
    name, setting, of, data = json.loads(line)
    family = registry.build("codec", {"name": name})
    codec = family.codec(setting) if of == "pictures" else family.clip_codec(setting)
    decoded = codec.decode(bytes.fromhex(data))
    frames = [decoded] if of == "pictures" else decoded
    print(hashlib.sha256(b"".join(np.ascontiguousarray(frame).tobytes() for frame in frames)).hexdigest(), flush=True)
"""


@pytest.fixture(scope="module")
def elsewhere():
    """Decodes in another process, which has nothing but the bytes; gives the sha256 of the pixels."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", ELSEWHERE], **pipes) as other:

        def decode(name: str, setting, of: str, data: bytes) -> str:
            other.stdin.write(json.dumps([name, setting, of, data.hex()]) + "\n")
            return other.stdout.readline().strip()

        yield decode
        other.stdin.close()


@every("codec")
@pytest.mark.parametrize("size", [(96, 64), (95, 63)])
def test_codec(name, size, elsewhere):
    if "argument" in registry.parameters(registry.components("codec")[name][0]):
        pytest.skip("what it is depends on its argument")
    family = registry.build("codec", {"name": name})
    assert isinstance(family, Family) and (family.at or family.clips)
    coarse, fine = family.settings[0], family.settings[len(family.settings) * 3 // 4]
    assert family.version and coarse in family.settings and set(family.default) <= set(family.settings)
    width, height = size
    ramp = np.stack(np.broadcast_arrays(np.arange(width), np.arange(height)[:, None], 40), 2) * 1.6 + 20
    texture = np.random.default_rng(0).normal(0, 12, (height // 4 + 1, width // 4 + 1)).repeat(4, 0).repeat(4, 1)
    frames = [(ramp + np.roll(texture, k, 1)[:height, :width, None]).clip(0, 255).astype(np.uint8) for k in range(3)]
    for of in ("pictures", "clips"):
        if not (family.at if of == "pictures" else family.clips):
            continue
        sizes, errors = [], []
        for setting in (coarse, fine):
            if of == "pictures":
                data = family.codec(setting).encode(Image.fromarray(frames[0]))
                picture = family.codec(setting).decode(data)
                assert picture.mode == "RGB"
                decoded = [np.asarray(picture)]
            else:
                data = family.clip_codec(setting).encode(frames, Fraction(30000, 1001))
                decoded = family.clip_codec(setting).decode(data)
            assert isinstance(data, bytes)
            assert [f.shape for f in decoded] == [(height, width, 3)] * (1 if of == "pictures" else len(frames))
            pixels = b"".join(np.ascontiguousarray(frame).tobytes() for frame in decoded)
            assert elsewhere(name, setting, of, data) == hashlib.sha256(pixels).hexdigest()
            sizes.append(len(data))
            errors.append(np.square(np.subtract(decoded, frames[: len(decoded)], dtype=float)).mean())
        assert sizes[0] < sizes[1] and errors[0] > errors[1]


@every("backbone", "transform", "temporal", "hyper", "context", "quantizer")
def test_in_a_model(kind, name):
    part = tiny.config(kind, name)
    if kind == "quantizer":
        part = {"name": "spatial_categorical", "args": {"quantizer": part}}
    if kind == "temporal" or conditional(kind, name):
        return video_round_trip({**tiny.VIDEO, kind: part})
    round_trip(tiny.model_config(**{"hyper" if kind == "quantizer" else kind: part}))


def round_trip(config: dict) -> None:
    """A model codes to bytes and back to what its forward pass predicts, and is rebuilt from its state dict. Its
    entropy decoder is made of exact operations."""
    model = GLCImage(config).eval()
    model.update()
    x = torch.rand(2, 3, model.downsampling_factor, 2 * model.downsampling_factor)
    with torch.no_grad():
        out = model.compress(x, quality=1.25)
        again = GLCImage.from_state_dict(model.state_dict()).eval()
        x_hat = again.decompress(out["strings"], out["shape"])["x_hat"]
        quality = model.quality_of(model.quality_code(1.25))
        expected = model(x, quality)
        torch.testing.assert_close(x_hat, expected["x_hat"], rtol=1e-3, atol=1e-3)
        assert again.fingerprint() == model.fingerprint()
        with ExactOnly():
            again.decode_latent(Decoder(out["strings"][0][0][1:]), out["shape"])


def video_round_trip(config: dict) -> None:
    """The same of a video model, frame by frame."""
    model = GLCVideo(config).eval()
    model.update()
    frames = [torch.rand(1, 3, model.downsampling_factor, model.downsampling_factor - 5) for _ in range(3)]
    with torch.no_grad():
        strings, shapes = model.compress(frames, quality=1.25)
        again = GLCVideo.from_state_dict(model.state_dict()).eval()
        pictures = again.decompress(strings, shapes)
        expected = model(frames, model.quality_of(model.quality_code(1.25)))
        for x_hat, wanted in zip(pictures, expected["x_hat"], strict=True):
            torch.testing.assert_close(x_hat, wanted, rtol=1e-3, atol=1e-3)
        assert again.fingerprint() == model.fingerprint()
        reference = None
        with ExactOnly():  # the latent of each frame decides the symbols of the next
            for string, shape in zip(strings, shapes, strict=True):
                reference = again.decode_payload(string[0][0][1:], string[0][0][0], shape, reference)
