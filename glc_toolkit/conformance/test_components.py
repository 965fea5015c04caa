"""Conformance checks, parametrised over every registered component."""

import hashlib
import json
import os
import subprocess
import sys
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from compressai.entropy_models import EntropyModel
from compressai.latent_codecs import LatentCodec
from PIL import Image
from torch import nn
from torch.utils.checkpoint import checkpoint

from glc_toolkit import registry, types
from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.components.backbones.vqgan import Upsample
from glc_toolkit.components.fixed_point import to_fixed_point
from glc_toolkit.conformance import tiny
from glc_toolkit.conformance.exact import ExactOnly
from glc_toolkit.evaluation.codecs import Family
from glc_toolkit.models import GLCImage, GLCVideo
from glc_toolkit.types import trait


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
    return types.trait(registry.components(kind)[name][0], "conditional")


def latent(batch: int = 2, channels: int = tiny.CHANNELS, side: int = 8) -> torch.Tensor:
    return torch.randn(batch, channels, side, side)


def shaped(what: str, value: torch.Tensor, *shape: int) -> None:
    """``value`` is a tensor of this shape."""
    assert isinstance(value, torch.Tensor), f"{what} is a {type(value).__name__}; it has to be a tensor {shape}"
    assert tuple(value.shape) == shape, f"{what} has the shape {tuple(value.shape)}; it has to be {shape}"


def alike(what: str, value: torch.Tensor, expected: torch.Tensor, **tolerances: float) -> None:
    """``value`` is ``expected``: within tolerances, or to the bit if there are none."""
    shaped(what, value, *expected.shape)
    if tolerances:
        same = torch.allclose(value.double(), expected.double(), **tolerances)
    else:
        same = torch.equal(value, expected)
    difference = (value.double() - expected.double()).abs().max() if value.numel() else 0
    assert same, f"{what}: they differ by up to {float(difference):.3g}"


def learns(what: str, grads: list[torch.Tensor | None]) -> None:
    """There is a gradient, finite and not zero everywhere."""
    found = [grad for grad in grads if grad is not None]
    assert found, f"{what}: there is no gradient"
    assert all(bool(torch.isfinite(grad).all()) for grad in found), f"{what}: the gradient is not finite"
    assert any(bool(grad.any()) for grad in found), f"{what}: the gradient is zero everywhere"


def scalar(what: str, value: torch.Tensor) -> None:
    """``value`` is one finite number."""
    shaped(what, value)
    assert torch.isfinite(value), f"{what} is {float(value)}; it has to be finite"


@every("backbone")
def test_backbone(name):
    """Picture to latent and back: shapes, quantize, gradients."""
    backbone = tiny.build("backbone", name)
    side, channels = 4 * backbone.downsampling, backbone.latent_channels
    x = torch.rand(2, 3, side, side)
    l = backbone.analysis(x)
    shaped(f"analysis(x) of x {tuple(x.shape)}, with downsampling {backbone.downsampling},", l, 2, channels, 4, 4)
    values = backbone.quantize(l).values
    shaped("quantize(l).values", values, *l.shape)
    x_hat = backbone.synthesis(values)
    shaped("synthesis(l)", x_hat, *x.shape)
    x_hat.mean().backward()
    learns("last_weight, from x_hat", [backbone.last_weight.grad])
    learns("the backbone, from x_hat", [p.grad for p in backbone.parameters()])


@every("backbone")
def test_backbone_compiled(name):
    """Option compile: networks of its own that training compiles."""
    backbone = tiny.build("backbone", name)
    if not isinstance(backbone, types.Compiled):
        pytest.skip("has no networks of types.Compiled; compile: true compiles none of it")
    own = set(backbone.modules())
    assert backbone.networks and own.issuperset(backbone.networks), "networks have to be modules of the backbone"


@every("backbone")
def test_backbone_checkpointed(name):
    """Option checkpointing: blocks that training computes twice, with the same gradients."""
    backbone = tiny.build("backbone", name)
    blocks = [module for module in backbone.modules() if isinstance(module, types.Block)]
    if not blocks:
        pytest.skip("has no types.Block; checkpointing: true saves no memory in it")
    l = latent(1, backbone.latent_channels, 4)
    gradients = []
    for _ in range(2):
        backbone.zero_grad()
        backbone.synthesis(l).square().mean().backward()
        gradients.append(backbone.last_weight.grad.clone())
        for block in blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    alike("gradients with and without checkpointing", *gradients, rtol=1e-4, atol=1e-6)


@every("backbone")
def test_backbone_in_int8(name):
    """Option int8: the convolutions that blocks name, and the upsampling of the toolkit."""
    layers = [*tiny.build("backbone", name).modules()]
    named = [(block, conv) for block in layers if isinstance(block, types.Block) for conv in block.int8]
    if not named and not any(isinstance(layer, Upsample) for layer in layers):
        pytest.skip("has no Block.int8 and no Upsample of the toolkit; precision int8 computes it in bf16")
    for block, conv in named:
        if not isinstance(getattr(block, conv, None), nn.Conv2d):
            raise AssertionError(f"{type(block).__name__}.int8 names {conv}, which is no convolution of the block")


@every("backbone")
def test_backbone_grows(name):
    """Option grow: blocks in a sequence that a recipe may add to a trained model, or leave out."""
    sequences = [part for part in tiny.build("backbone", name).modules() if isinstance(part, nn.Sequential)]
    blocks = [layer for layers in sequences for layer in layers if isinstance(layer, types.Block) and layer.last]
    if not blocks:
        pytest.skip("has no sequence with a Block that has a last layer; a recipe starts from one of the same depth")
    for block in blocks:
        first = next(layer for layer in block.modules() if isinstance(layer, nn.Conv2d))
        x = torch.rand(1, first.in_channels, 8, 8)
        for parameter in block.get_submodule(block.last).parameters():
            nn.init.zeros_(parameter)
        alike(f"{type(block).__name__} whose {block.last} is zero, and its input", block(x), x)


@every("backbone")
@torch.no_grad()
def test_backbone_takes_a_unit(name):
    """Option unit: a latent of about one that gives the same picture and the same codes, also after a round trip."""
    backbone, other = tiny.build("backbone", name), tiny.build("backbone", name)
    if not isinstance(backbone, types.Unit):
        pytest.skip("has no take_unit of types.Unit; its latent keeps the size that it has after a stage vqvae")
    x = torch.rand(2, 3, 4 * backbone.downsampling, 4 * backbone.downsampling)
    backbone.eval()
    x_hat, codes = backbone.synthesis(backbone.analysis(x)), backbone.quantize(backbone.analysis(x)).indices
    backbone.take_unit(x)
    l = backbone.analysis(x)
    assert 0.7 < l.square().mean().sqrt() < 1.5, f"l is as large as {l.square().mean().sqrt():g} after take_unit"
    alike("the picture after take_unit, and before", backbone.synthesis(l), x_hat)
    assert torch.equal(backbone.quantize(l).indices, codes), "take_unit changed the codes of a latent"
    other.load_state_dict(backbone.state_dict())
    alike("the latent of a loaded backbone, and of the one that was saved", other.eval().analysis(x), l)


@every("backbone")
def test_backbone_draws_thumbnails(name):
    """Option thumbnail: what the objective thumbnail trains."""
    backbone = tiny.build("backbone", name)
    if not isinstance(backbone, types.Thumbnails):
        pytest.skip("has no thumbnail and draw of types.Thumbnails; the objective thumbnail needs them")
    side = 4 * backbone.downsampling
    x = torch.rand(2, 3, side, side)
    shaped("thumbnail(x)", backbone.thumbnail(x), 2, 3, side // 4, side // 4)
    shaped("draw(l)", backbone.draw(backbone.analysis(x)), 2, 3, side // 4, side // 4)


@every("hyper")
def test_hyper_exported(name):
    """Option onnx: symbols and params, the two networks that glc zoo export writes."""
    hyper = tiny.build("hyper", name).eval()
    if not isinstance(hyper, types.Exportable):
        pytest.skip("has no symbols and params of types.Exportable; glc zoo export cannot write it")
    hyper.update()
    params = hyper.params(hyper.symbols(latent(1, side=16)))
    shaped("params(symbols(y))", params, 1, 3 * tiny.CHANNELS, 16, 16)


@every("quantizer")
def test_quantizer(name):
    """Latent to indices and back: shapes, range of indices, lookup, the straight-through gradient."""
    quantizer = tiny.build("quantizer", name).eval()
    l = latent().requires_grad_()
    values, indices, loss = quantizer(l)
    shaped("values", values, *l.shape)
    shaped("indices", indices, 2, quantizer.num_codebooks, 8, 8)
    assert indices.dtype == torch.int64, f"indices are {indices.dtype}; they have to be torch.int64"
    low, high = int(indices.min()), int(indices.max())
    assert low >= 0 and high < quantizer.codebook_size, (
        f"indices go from {low} to {high}; with a codebook_size of {quantizer.codebook_size} "
        f"they have to be 0 to {quantizer.codebook_size - 1}"
    )
    scalar("loss", loss)
    alike("lookup(indices) and values", quantizer.lookup(indices), values, rtol=1e-4, atol=1e-4)
    quantizer.train()(l).values.sum().backward()
    learns("l, from values", [l.grad])


@every("transform")
def test_transform(name):
    """Latent to y and back: shapes, and gains that are continuous in the quality."""
    transform = tiny.build("transform", name)
    l, quality = latent(), torch.tensor([0.0, tiny.LEVELS - 1.0])
    given = (latent(),) if conditional("transform", name) else ()
    y = transform.analysis(l, quality, *given)
    shaped("analysis(l, quality)", y, *l.shape)
    shaped("synthesis(y, quality)", transform.synthesis(y, quality, *given), *l.shape)
    low, middle, high = (transform.analysis(l, torch.full((2,), q), *given) for q in (1.0, 1.0 + 1e-4, 1.25))
    assert (low - middle).abs().max() < (low - high).abs().max() + 1e-6, (
        "analysis jumps between the qualities 1 and 1.0001; gains between two levels have to be interpolated"
    )


@every("temporal")
def test_temporal(name):
    """Latent to context, in each place of the cycle: shapes, and layers with a fixed-point form."""
    temporal = tiny.build("temporal", name)
    l_hat = latent()
    for adaptor in (None, 0, 2):
        shaped(f"the context of adaptor {adaptor}", temporal(l_hat, adaptor), *l_hat.shape)
    for module in trait(temporal, "exact") or [temporal]:
        to_fixed_point(module)


@every("temporal")
def test_temporal_follows_motion(name):
    """Option motion: a field is read as it was written, and what stands still is left as it is."""
    temporal = tiny.build("temporal", name)
    if not isinstance(temporal, types.Moving):
        pytest.skip("has no motion of types.Moving; a pan is coded as any other change")
    temporal.update()
    l = latent(side=9)[:1]
    field = temporal.estimate(l, l)
    alike("a latent that did not move, and itself", temporal.move(l, field), l)
    field = field + torch.arange(field.numel()).view_as(field) % 5 - 2
    likelihood = temporal.likelihood(field)
    assert likelihood.min() > 0 and likelihood.max() <= 1, "likelihoods of motion have to be above 0 and at most 1"
    encoder = Encoder()
    temporal.put(encoder, field)
    alike("the field as it was read, and as written", temporal.get(Decoder(encoder.bytes()), (9, 9)), field)
    shaped("move(l_hat, field)", temporal.move(l, field), *l.shape)


@every("hyper")
def test_hyper(name):
    """y to side information and back: shapes, likelihoods, and decoded parameters that are the encoder's to the bit."""
    hyper = tiny.build("hyper", name)
    assert isinstance(hyper, LatentCodec), "a hyper module has to be a compressai.latent_codecs.LatentCodec"
    y = latent(side=16)
    given = (latent(side=16), True) if conditional("hyper", name) else ()
    out = hyper(y, *given)
    shaped('hyper(y)["params"]', out["params"], 2, 3 * tiny.CHANNELS, 16, 16)
    low, high = (float(bound) for bound in out["likelihoods"]["z"].detach().aminmax())
    assert low > 0 and high <= 1, f"likelihoods of z go from {low:g} to {high:g}; they have to be above 0 and at most 1"
    scalar('hyper(y)["loss"]', out["loss"])
    hyper.eval()
    for module in hyper.modules():
        if isinstance(module, EntropyModel):
            module.update()
    encoder = Encoder()
    if given:
        given = (given[0][:1], False)
        params = hyper.encode(encoder, y[:1], *given)
        alike("params of decode and of encode", hyper.decode(Decoder(encoder.bytes()), *given), params)
        return
    params = hyper.encode(encoder, y[:1])
    side = 16 // hyper.downsampling
    alike("params of decode and of encode", hyper.decode(Decoder(encoder.bytes()), (side, side)), params)
    packed = hyper.compress(y)
    alike(
        "params of decompress and of compress",
        hyper.decompress(packed["strings"], packed["shape"])["params"],
        packed["params"],
    )


@every("entropy_model")
@pytest.mark.parametrize("count", [0, 1, 5, 1000])
def test_entropy_model_codes_any_number_of_symbols(name, count):
    """Symbols to bytes and back; the tables travel with the weights."""
    model = tiny.build("entropy_model", name).eval()
    assert isinstance(model, EntropyModel), "an entropy model has to be a compressai.entropy_models.EntropyModel"
    assert model.update(), "the first update() has to return True"
    assert not model.update(), "a second update() has to return False: the tables are there"
    cdf, offset = model.tables()
    rows = torch.randint(len(cdf), (count,))
    symbols = torch.randint(cdf.shape[1] - 1, (count,)) + torch.from_numpy(offset)[rows]

    def coded(model) -> bytes:
        encoder = Encoder()
        model.put(encoder, symbols, rows)
        return encoder.bytes()

    decoded = model.get(Decoder(coded(model)), rows)
    alike("symbols decoded and encoded", decoded.double(), symbols.double())
    other = tiny.build("entropy_model", name)
    other.load_state_dict(model.state_dict())
    assert coded(other) == coded(model), "a model with this one's state_dict writes other bytes"


@every("entropy_model")
def test_entropy_model_of_residuals(name):
    """Residuals to symbols, whose bits are what training minimizes, though its residuals are not rounded yet."""
    model = tiny.build("entropy_model", name)
    if not isinstance(model, types.ResidualModel):
        pytest.skip("codes indices or integers, not residuals")
    residual, scales = 3 * latent(), 4 * torch.rand_like(latent()) + 0.2
    symbols = model.quantize_residual(residual, scales).detach()
    assert torch.equal(symbols, symbols.round()), "quantize_residual gives numbers that are not whole"
    assert (symbols - residual).abs().max() <= 0.5, "quantize_residual moves a residual by more than a half"
    likelihoods = [model.likelihood(value, scales) for value in (residual, symbols)]
    alike("likelihood of residuals and of their symbols", *likelihoods, rtol=1.3e-6, atol=1e-5)
    round_trip(tiny.model_config(entropy_model=tiny.config("entropy_model", name)))


@every("context")
@pytest.mark.parametrize("size", [(1, 1), (4, 6), (5, 3)])
def test_context(name, size):
    """Passes that cover every element of y once, and the parameters of each."""
    context = tiny.build("context", name)
    y = torch.zeros(2, tiny.CHANNELS, *size)
    masks = context.masks(y)
    covered, once = sum(mask.int() for mask in masks), torch.ones(1, *y.shape[1:], dtype=torch.int32)
    alike("how often the masks cover each element, and 1", covered, once)
    reduced = context.reduce(torch.randn(2, 3 * tiny.CHANNELS, *size))
    for k in range(1, len(masks)):
        scales, means = context(k, y, reduced)
        shaped(f"scales of pass {k}", scales, *y.shape)
        shaped(f"means of pass {k}", means, *y.shape)


@every("loss")
def test_loss(name):
    """One finite number, with gradients, from what a training step knows."""
    loss = tiny.build("loss", name)
    x = torch.rand(2, 3, 64, 64)
    parts = {key: latent(side=4).requires_grad_() for key in ("l", "l_hat", "y_hat")}
    out = {
        **parts,
        "x": x,
        "x_hat": torch.rand(2, 3, 64, 64, requires_grad=True),
        "t": torch.rand(2, 3, 16, 16),
        "t_hat": torch.rand(2, 3, 16, 16, requires_grad=True),
        "codes": torch.randint(64, (2, 1, 4, 4)),
        "likelihoods": {k: torch.rand(2, 4, 4, 4).clamp(min=0.1).requires_grad_() for k in "yz"},
        "quality": torch.tensor([0.0, tiny.LEVELS - 1.0]),
        "x_before": torch.rand(2, 3, 64, 64),
        "x_hat_before": torch.rand(2, 3, 64, 64, requires_grad=True),
        "codebook_loss": torch.rand((), requires_grad=True),
        "hyper_loss": torch.rand((), requires_grad=True),
    }
    value = loss(out)
    scalar("the loss", value)
    value.backward()
    leaves = [
        v for v in (*out.values(), *out["likelihoods"].values()) if isinstance(v, torch.Tensor) and v.requires_grad
    ]
    learns("what the loss is computed from", [v.grad for v in leaves])
    if isinstance(loss, types.Adversary):
        loss.discriminator_loss(out).backward()


@every("metric")
def test_metric(name):
    """One number an image, better for equal pictures than for noisy ones."""
    metric = tiny.build("metric", name)
    x = torch.rand(2, 3, 176, 176)
    same, noisy = metric(x, x), metric((x + 0.3 * torch.randn_like(x)).clamp(0, 1), x)
    for value in (same, noisy):
        shaped("metric(x_hat, x) of two images", value, 2)
    better, above = (same > noisy, "above") if metric.higher_is_better else (same < noisy, "below")
    assert better.all(), (
        f"with higher_is_better = {metric.higher_is_better} the value of equal pictures, {same.tolist()}, "
        f"has to be {above} that of noisy ones, {noisy.tolist()}"
    )


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
    """To bytes and back, pictures and clips alike, and back in another process: sides, and settings that matter."""
    if "argument" in registry.parameters(registry.components("codec")[name][0]):
        pytest.skip("is what its argument says")
    family = registry.build("codec", {"name": name})
    assert isinstance(family, Family), f"the factory gives a {type(family).__name__}; it has to be a Family"
    assert family.at or family.clips, "it codes nothing; a Family has `at` for pictures, or `clips`"
    assert family.version, "it has no version, by which results of two are told apart"
    unknown = set(family.default) - set(family.settings)
    assert not unknown, f"the default settings {sorted(unknown)} are not among its settings"
    coarse, fine = family.settings[0], family.settings[len(family.settings) * 3 // 4]
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
                assert picture.mode == "RGB", f"the decoded picture has the mode {picture.mode}; it has to be RGB"
                decoded = [np.asarray(picture)]
            else:
                data = family.clip_codec(setting).encode(frames, Fraction(30000, 1001))
                decoded = family.clip_codec(setting).decode(data)
            assert isinstance(data, bytes), f"encode gives a {type(data).__name__}; it has to be bytes"
            shapes, expected = (
                [f.shape for f in decoded],
                [(height, width, 3)] * (1 if of == "pictures" else len(frames)),
            )
            assert shapes == expected, f"decoded {of} have the shapes {shapes}; they have to be {expected}"
            pixels = b"".join(np.ascontiguousarray(frame).tobytes() for frame in decoded)
            assert elsewhere(name, setting, of, data) == hashlib.sha256(pixels).hexdigest(), (
                f"setting {setting}: another process decodes other {of}; the bytes have to hold all that it takes"
            )
            sizes.append(len(data))
            errors.append(np.square(np.subtract(decoded, frames[: len(decoded)], dtype=float)).mean())
        assert sizes[0] < sizes[1], f"settings go from small files to large; {coarse} and {fine} make {sizes} bytes"
        assert errors[0] > errors[1], f"setting {coarse} has the error {errors[0]:.4g}, and {fine}, {errors[1]:.4g}"


@every("backbone", "transform", "temporal", "hyper", "context", "quantizer")
def test_in_a_model(kind, name):
    """In a model: compress, decompress, forward and state_dict agree, and its entropy decoder is exact."""
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
        with ExactOnly(again):
            again.decode_latent(Decoder(out["strings"][0][0][1:]), out["shape"])
        x_hat = again.decompress(out["strings"], out["shape"])["x_hat"]
        quality = model.quality_of(model.quality_code(1.25))
        alike("pictures of decompress and of forward", x_hat, model(x, quality)["x_hat"], rtol=1e-3, atol=1e-3)
        assert again.fingerprint() == model.fingerprint(), "a model with this one's state_dict has another fingerprint"


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
            alike("pictures of decompress and of forward", x_hat, wanted, rtol=1e-3, atol=1e-3)
        assert again.fingerprint() == model.fingerprint(), "a model with this one's state_dict has another fingerprint"
        reference = None
        with ExactOnly(again):  # the latent of each frame decides the symbols of the next
            for string, shape in zip(strings, shapes, strict=True):
                reference = again.decode_payload(string[0][0][1:], string[0][0][0], shape, reference)
