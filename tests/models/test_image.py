import contextlib
import copy
import hashlib
import itertools
import json
import subprocess
import sys

import pytest
import torch
from compressai.utils.eval_model import __main__ as eval_model
from compressai.zoo import image_models
from PIL import Image

from glc_toolkit import BitstreamError, api, io, registry, zoo
from glc_toolkit.coder import Decoder
from glc_toolkit.components.fixed_point import STEPS
from glc_toolkit.components.losses.rate import bpp_estimate
from glc_toolkit.conformance import tiny
from glc_toolkit.conformance.test_components import round_trip
from glc_toolkit.models.image import GLCImage
from glc_toolkit.models.video import GLCVideo
from glc_toolkit.types import PictureError

BACKBONES = {
    "folded": tiny.MODEL["backbone"],
    "published layout": {
        "name": "vqgan",
        "args": {
            "channels": 32,
            "multipliers": [1, 1],
            "encoder_blocks": 1,
            "decoder_blocks": 1,
            "latent_channels": 16,
        },
    },
}
HYPERS = {
    "factorized": {"name": "factorized"},
    **{
        name: {"name": "spatial_categorical", "args": {"quantizer": {"name": name}}}
        for name in registry.names("quantizer")
    },
}

PROJECTED = {"name": "vq", "args": {"codebook_size": 64, "codebook_dim": 4}}


@pytest.mark.parametrize(
    "backbone, hyper, context", list(itertools.product(BACKBONES, HYPERS, registry.names("context")))
)
def test_every_combination_round_trips(backbone, hyper, context):
    torch.manual_seed(0)
    round_trip(tiny.model_config(backbone=BACKBONES[backbone], hyper=HYPERS[hyper], context={"name": context}))


def test_a_head_at_twice_the_finest_grid():
    backbone = {"name": "vqgan", "args": {**tiny.MODEL["backbone"]["args"], "head": 16}}
    round_trip(tiny.model_config(backbone=backbone))
    with pytest.raises(ValueError, match="even patch, not 3"):
        registry.build("backbone", {"name": "vqgan", "args": {**backbone["args"], "patch": 3}})


def test_levels_of_a_backbone_may_have_residual_blocks_of_different_number():
    counts = {"encoder_blocks": [1, 2, 3], "decoder_blocks": [3, 1, 2]}
    config = tiny.model_config(backbone={"name": "vqgan", "args": {**tiny.MODEL["backbone"]["args"], **counts}})
    round_trip(config)
    backbone = GLCImage(config).backbone
    for part in ("encoder", "generator"):
        assert [type(layer).__name__ for layer in getattr(backbone, part).blocks].count("ResBlock") == 6
    config["backbone"]["args"]["decoder_blocks"] = [1, 2]
    with pytest.raises(ValueError, match=r"3 levels \(multipliers\) but residual blocks for 2: \[1, 2\]"):
        GLCImage(config)


def test_training_step_reaches_every_parameter():
    torch.manual_seed(0)
    model = GLCImage(tiny.MODEL).train()
    out = model(torch.rand(2, 3, 64, 64), torch.tensor([0.0, 1.5]))
    loss = out["x_hat"].mean() + bpp_estimate(out["likelihoods"], 64 * 64).sum() + out["hyper_loss"]
    loss.backward()
    without = [
        n
        for n, p in model.named_parameters()
        if p.grad is None and p.numel() and not n.startswith("backbone.quantizer")
    ]
    assert without == []
    assert model.aux_loss() == 0


def test_a_mean_that_a_symbol_makes_up_for_follows_the_bits_alone():
    """With the gradient of ``y_hat``, which does not change, it would never stop."""
    model = GLCImage(tiny.model_config(context={"name": "none"})).train()
    means = torch.tensor([0.2, 1.4, 20.2, 100.2]).repeat(4).reshape(1, -1, 1, 1).requires_grad_()
    params = torch.cat([torch.ones(1, 2 * tiny.CHANNELS, 1, 1), means], 1)
    assert params.requires_grad
    y = torch.zeros_like(means, requires_grad=True)
    y_hat, _, likelihoods = model.estimate(y, params)
    assert y_hat.abs().max() < 0.5
    of_y, of_means = torch.autograd.grad(y_hat.sum(), (y, means), retain_graph=True)
    assert of_y.eq(1).all()
    assert of_means.flatten()[:4].tolist() == [1, 0, 0, 0]
    (of_means,) = torch.autograd.grad(-likelihoods.log().sum(), means)
    assert of_means.flatten()[1] > 0


def test_forward_takes_any_size(tiny_model):
    out = tiny_model(torch.rand(1, 3, 70, 33))
    assert out["x_hat"].shape == (1, 3, 70, 33)


def test_aux_loss_of_a_factorized_hyper():
    model = GLCImage(tiny.model_config(hyper={"name": "factorized"}))
    assert model.aux_loss().requires_grad


def test_float64_entropy_path_comes_and_goes_with_eval(tiny_model):
    model = copy.deepcopy(tiny_model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert next(model.context.parameters()).dtype == torch.float64
    assert next(model.train().context.parameters()).dtype == torch.float32
    assert all(torch.equal(v, before[k].to(v.dtype)) for k, v in model.state_dict().items())
    with pytest.raises(RuntimeError, match="eval"):
        model.compress(torch.rand(1, 3, 64, 64))


def test_bytes_do_not_depend_on_the_batch(tiny_model):
    x = torch.rand(3, 3, 64, 64)
    together = tiny_model.compress(x)["strings"][0]
    assert together == [tiny_model.compress(image[None])["strings"][0][0] for image in x]


def test_quality_bytes_are_exact_at_whole_levels(tiny_model):
    for level in range(tiny_model.levels):
        assert tiny_model.quality_of(tiny_model.quality_code(level)) == level
    with pytest.raises(ValueError, match="between 0 and 2"):
        tiny_model.quality_code(2.5)


def test_size_is_what_the_estimate_says(model, photo):
    with torch.no_grad():
        l = model.analysis(io.to_tensor(photo))
        for level in range(model.levels):
            out = model.code_latent(l, torch.tensor([float(level)]))
            estimate = float(bpp_estimate(out["likelihoods"], 8))
            actual = len(api.encode(photo, model=model, quality=level))
            assert abs(actual - estimate) <= 0.01 * estimate + 16


CODE = """
import sys, hashlib, torch
from glc_toolkit import api
from glc_toolkit.coder import Decoder
stream, model = api.open_stream(open(sys.argv[1], "rb").read())
for threads in 1, 2:
    torch.set_num_threads(threads)
    y_hat = model.decode_latent(Decoder(stream.payload), (stream.height, stream.width))
    print(hashlib.sha256(y_hat.numpy().tobytes()).hexdigest())
"""


def test_latents_are_bit_identical_in_a_new_process(model, photo, tmp_path):
    """What the encoder quantized is, bit for bit, what another process decodes, at any number of threads."""
    path = tmp_path / "photo.glc"
    path.write_bytes(api.encode(photo, model=model))
    quality = torch.tensor([model.quality_of(model.quality_code(None))])
    with torch.no_grad():
        y_hat = model.code_latent(model.analysis(io.to_tensor(photo)), quality)["y_hat"]
    here = hashlib.sha256(y_hat.numpy().tobytes()).hexdigest()
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", CODE, path], capture_output=True, text=True)
    assert done.stdout.split() == [here, here], done.stderr


def test_a_decoder_looks_up_integers_whatever_the_quantizer_computes():
    """Floats that may differ between machines, such as the projections of a quantizer, do not reach the symbols."""
    model = GLCImage(tiny.model_config(hyper={"name": "spatial_categorical", "args": {"quantizer": PROJECTED}})).eval()
    model.update()
    payload = model.encode_payload(model.analysis(torch.rand(1, 3, 128, 64)), 0)
    expected = model.decode_latent(Decoder(payload), (128, 64))
    with torch.no_grad():
        for parameter in model.hyper.quantizer.parameters():
            parameter.add_(1e-4 * torch.randn_like(parameter))
    assert torch.equal(model.decode_latent(Decoder(payload), (128, 64)), expected)


def test_preview_needs_only_z(model, photo):
    stream = api.bitstream.parse(api.encode(photo, model=model))
    shape = (stream.height, stream.width)
    z = model.sections(stream.payload, shape)["z"]
    whole = model.decode_payload(stream.payload, stream.quality_code, shape, preview=True)
    start = model.decode_payload(stream.payload[: z + 8], stream.quality_code, shape, preview=True)
    assert torch.equal(whole, start)
    assert not torch.equal(whole, model.decode_payload(stream.payload, stream.quality_code, shape))
    assert io.to_pillow(whole).size == photo.size


def test_compressai_eval_model_runs_on_a_zoo_model(photo, known, tmp_path, capsys):
    zoo.register_with_compressai()
    threads = torch.get_num_threads()
    try:
        photo.save(tmp_path / "photo.png")
        eval_model.main(["pretrained", str(tmp_path), "-a", api.DEFAULT_MODEL, "-q", "1,3"])
    finally:
        torch.set_num_threads(threads)
    results = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))["results"]
    assert 0.5 * known["bpp"] < results["bpp"][0] < results["bpp"][1] < 1.5 * known["bpp"]
    assert min(results["psnr-rgb"]) > known["psnr"] - 3


def test_compressai_eval_model_in_half_precision_and_of_a_checkpoint(tiny_folder, noise, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GLC_ZOO", str(tiny_folder.parent))
    zoo.register_with_compressai()
    threads = torch.get_num_threads()
    try:
        Image.fromarray(noise).resize((192, 192)).save(tmp_path / "a.png")
        Image.fromarray(noise).resize((200, 170)).save(tmp_path / "b.png")
        torch.save(zoo.load("tiny").state_dict(), tmp_path / "tiny.pth.tar")
        source = [str(tmp_path), "-a", "tiny"]
        eval_model.main(["pretrained", *source, "-q", "2", "--half"])
        half = capsys.readouterr().out
        eval_model.main(["pretrained", *source, "-q", "2"])
        whole = capsys.readouterr().out
        eval_model.main(["checkpoint", *source, "-p", str(tmp_path / "tiny.pth.tar")])
    finally:
        torch.set_num_threads(threads)
    results = [json.loads(text[text.index("{") :])["results"] for text in (half, whole, capsys.readouterr().out)]
    assert all(0 < facts["bpp"][0] < 10 for facts in results)
    assert results[0]["psnr-rgb"][0] == pytest.approx(results[1]["psnr-rgb"][0], abs=0.5)


def test_compressai_zoo_takes_what_it_takes(tiny_folder, monkeypatch):
    monkeypatch.setenv("GLC_ZOO", str(tiny_folder.parent))
    zoo.register_with_compressai()
    untrained, trained = (image_models["tiny"](quality=1, pretrained=p) for p in (False, True))
    assert trained.fingerprint() == zoo.load("tiny").fingerprint() != untrained.fingerprint()
    assert untrained.training and untrained.default_quality == 0
    for wrong in ({"quality": 1, "metric": "vmaf"}, {"quality": 0}, {"quality": 9}):
        with pytest.raises(ValueError):
            image_models["tiny"](**wrong)


def test_what_gives_no_picture_is_refused(model):
    """Latents far out of range, which the generator makes NaN of: a black picture otherwise."""
    forged = api.bitstream.ImageStream(model.fingerprint(), 255, 64, 64, b"\0").to_bytes()
    for read in (lambda: model.decompress([[b"\xff"]], (64, 64)), lambda: api.decode(forged, model)):
        with contextlib.suppress(BitstreamError):
            x_hat = read()
            x_hat = io.to_tensor(x_hat) if not isinstance(x_hat, dict) else x_hat["x_hat"]
            assert ((x_hat >= 0) & (x_hat <= 1)).all()
    for value in (float("nan"), float("inf")):
        with pytest.raises(BitstreamError, match="latents that give no picture"):
            model.picture(torch.full((1, model.backbone.latent_channels, 4, 4), value), (64, 64))
        with pytest.raises(ValueError, match=r"x has to lie in \[0, 1\], not from (nan|inf)"):
            model.compress(torch.full((1, 3, 64, 64), value))


def test_a_decoder_reads_any_bytes_without_crashing(tiny_model):
    """Past the checksum nothing worse than a wrong picture may happen."""
    for seed in range(20):
        junk = torch.randint(256, (seed * 3,), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        with contextlib.suppress(BitstreamError):
            tiny_model.decode_latent(Decoder(bytes(junk.numpy())), (64, 128))


def test_training_on_makes_tables_old(tiny_folder):
    model = zoo.load(tiny_folder)
    x = torch.rand(1, 3, 64, 64)
    model.train()(x)
    model.eval()
    with torch.no_grad():
        model.hyper.quantizer.embedding.weight.add_(1.0)  # as a step of training might
    first = model.hyper.z_hat(torch.zeros(1, 1, 1, 1, dtype=torch.long)).flatten()
    assert torch.equal(first * STEPS, model.hyper.table()[0, 0].double())
    with pytest.raises(RuntimeError, match=r"call update\(\) before coding"):
        model.compress(x)
    assert model.update() and not model.update()
    out = model.compress(x)
    torch.testing.assert_close(model.decompress(**out)["x_hat"], model(x)["x_hat"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"default_qualty": 0}, "unknown keys: default_qualty"),
        ({"default_quality": 7}, "default_quality has to be between 0 and 2, not 7"),
        ({"transform": {"name": "gated", "args": {"levels": 1}}}, "the transform has 1 levels, the model 3"),
        ({"entropy_model": {"name": "factorized"}}, "as entropy model of y, 'factorized' lacks quantize_residual"),
    ],
)
def test_configs_that_make_no_model(change, message):
    with pytest.raises(ValueError, match=message):
        GLCImage(tiny.model_config(**change))


def test_prefixes_are_tuples(tiny_folder):
    model = zoo.load(tiny_folder)
    model.backbone.encoder_only = "encoder."
    with pytest.raises(ValueError, match="encoder_only of the backbone is a string"):
        model.fingerprint()


@pytest.mark.parametrize("quality", ["high", [0.0, 1.0, 2.0]])
def test_qualities_that_are_none(tiny_model, quality):
    with pytest.raises(ValueError, match="quality is a number, or one for each of 2 pictures"):
        tiny_model(torch.rand(2, 3, 16, 16), quality)


def test_only_pictures_are_compressed(tiny_model):
    with pytest.raises(ValueError, match=r"x has to be \(B, 3, H, W\), not \(3, 16, 16\)"):
        tiny_model.compress(torch.rand(3, 16, 16))


@pytest.mark.parametrize(
    "x, says",
    [
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), r"floats in \[0, 1\], not torch.uint8"),
        (torch.full((1, 3, 64, 64), 255.0), r"lie in \[0, 1\], not from 255 to 255"),
        (torch.full((1, 3, 64, 64), torch.nan), r"lie in \[0, 1\]"),
        (torch.full((1, 3, 64, 64), torch.inf), r"lie in \[0, 1\]"),
        (torch.full((1, 3, 64, 64), -0.1), r"lie in \[0, 1\]"),
        (torch.zeros(1, 3, 64, 64, device="meta"), "no values"),
        (torch.zeros(1, 3, 0, 64), "has to be"),
    ],
)
def test_what_is_no_picture_never_gets_to_a_network(tiny_folder, tiny_video_folder, monkeypatch, x, says):
    for model in (zoo.load(tiny_folder), zoo.load(tiny_video_folder)):
        monkeypatch.setattr(type(model), "backbone_analysis", None)
        with pytest.raises(PictureError, match=says):
            model.compress([x] if isinstance(model, GLCVideo) else x)


@pytest.mark.parametrize("form", [torch.tensor, list])
def test_each_picture_may_have_a_quality_of_its_own(tiny_model, form):
    x, levels = torch.rand(3, 3, 64, 64), [0.0, 0.7, 2.0]
    together = tiny_model.compress(x, form(levels))["strings"][0]
    assert together == [
        tiny_model.compress(image[None], q)["strings"][0][0] for image, q in zip(x, levels, strict=True)
    ]
    with pytest.raises(ValueError, match="one for each of 3 pictures"):
        tiny_model.compress(x, form([1.0, 2.0]))
