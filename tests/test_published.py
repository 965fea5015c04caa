"""The published models: names, numbers and files.

The expected numbers are what the authors' code computes with the weights of :func:`fill`. ``data/published`` holds a
part of each tensor; where the whole ones lie beside the checkout, those are compared.
"""

import copy
import hashlib
import json
import math
import pickle
import sys
import types
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from glc_toolkit import ModelFileError, api, models, published, registry, zoo
from glc_toolkit.coder import Decoder
from glc_toolkit.models import GLCImage, GLCVideo
from glc_toolkit.models.video import Reference
from tests.conftest import ROOT
from tests.test_cli import glc

REFERENCE = ROOT.parent / "shared" / "reference"


def fill(name: str, shape: tuple[int, ...]) -> Tensor:
    """The weights behind the expected numbers, from the authors' name of a tensor."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if "q_enc" in name or "q_dec" in name:
        return 1 + 0.1 * noise
    if len(shape) == 1:
        return 1 + 0.1 * noise if name.endswith(".weight") else 0.05 * noise
    gain = 1.0 if "vqgan" in name or "z_vq" in name else 0.6
    return gain * noise / math.sqrt(noise.numel() / shape[0])


def picture(height: int, width: int, phase: float) -> Tensor:
    rows, columns = torch.arange(height).float()[:, None], torch.arange(width).float()[None]

    def channel(c: int) -> Tensor:
        across = torch.sin(columns * (0.05 + 0.02 * c) + phase + c)
        down = torch.cos(rows * (0.07 + 0.01 * c) - phase)
        return 0.5 + 0.25 * across + 0.25 * down

    return torch.stack([channel(c) for c in range(3)])[None]


def published_bits(symbols: Tensor, scales: Tensor) -> float:
    """The published estimate: no bound on scales, at most 16.6 bits a symbol."""
    normal = torch.distributions.Normal(torch.zeros(()), scales.float().clamp(1e-5, 1e10))
    p = normal.cdf(symbols.float() + 0.5) - normal.cdf(symbols.float() - 0.5)
    return (p + 1e-5).log2().neg().clamp(min=0).sum().item()


def names_and_shapes() -> dict[str, tuple[int, ...]]:
    """The authors' tensors, by our own model and mapping."""
    with torch.device("meta"):
        model, predictor = GLCImage(published.GLC_IMAGE), registry.build("loss", published.CODE_PREDICTION)
    found = {
        published.authors_name(n): tuple(p.shape) for n, p in model.named_parameters() if p.requires_grad and p.numel()
    }
    for start in published.PREDICTORS:
        found |= {f"{start}.{n}": tuple(p.shape) for n, p in predictor.named_parameters()}
    return found


# -- the numbers, at full size ----------------------------------------------------------------------------------


def test_names_and_shapes_are_those_of_the_authors():
    lines = sorted(f"{name}\t{shape}\ttorch.float32" for name, shape in names_and_shapes().items())
    assert len(lines) == 792
    digest = "79df6e69cac914202af984a6c455f3d39e22a77557c70675ba4889143cf54fc5"
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest


@pytest.fixture(scope="module")
def paper() -> published.Imported:
    return published.convert({n: fill(n, s) for n, s in names_and_shapes().items()}, "glc-image-paper")


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    if not REFERENCE.is_dir():
        return load_file(ROOT / "tests" / "data" / "published" / "golden.safetensors")
    images, codes = (load_file(REFERENCE / f"golden_{name}.safetensors") for name in ("a", "code_prediction"))
    return {**images, **{f"code_prediction.{name}": tensor for name, tensor in codes.items()}}


@pytest.fixture
def same(golden):
    def check(name: str, actual: Tensor, tolerance: float = 1e-4) -> None:
        expected = golden[name].flatten().double()
        actual = actual.flatten()[:: actual.numel() // expected.numel()].double()
        assert (actual - expected).abs().max() <= tolerance * expected.abs().max(), name

    return check


class Watched(nn.Module):
    """An entropy model that keeps what it was asked, and may take every residual as zero."""

    def __init__(self, entropy_model: nn.Module, preview: bool = False):
        super().__init__()
        self.inner, self.preview = entropy_model, preview

    def quantize_residual(self, residual: Tensor, scales: Tensor) -> Tensor:
        return torch.zeros_like(residual) if self.preview else self.inner.quantize_residual(residual, scales)

    def likelihood(self, residual: Tensor, scales: Tensor) -> Tensor:
        self.symbols, self.scales = residual.round(), scales
        return self.inner.likelihood(residual, scales)


def coded(model: GLCImage, l: Tensor, quality: float, preview: bool = False) -> tuple[dict, Tensor, Tensor]:
    """What :meth:`GLCImage.code_latent` gives, the symbols and the scales."""
    plain = model.entropy_model
    model.entropy_model = Watched(plain, preview)
    try:
        out = model.code_latent(l, torch.tensor([quality]))
        return out, model.entropy_model.symbols, model.entropy_model.scales
    finally:
        model.entropy_model = plain


@pytest.fixture(scope="module")
def latent(paper) -> Tensor:
    with torch.no_grad():
        return paper.model.backbone.analysis(picture(128, 192, 0.0))


@torch.no_grad()
def test_every_number_as_trained(paper, latent, golden, same):
    model, quality = paper.model, torch.tensor([2.0])
    assert model.training
    out, symbols, scales = coded(model, latent, 2.0)
    y = model.transform.analysis(latent, quality)
    same("image.l", latent)
    same("image.y", y)
    same("image.z", model.hyper.h_a(y))
    same("image.indices", out["indices"], 0)
    same("image.params_sub", model.hyper(y)["params"][:, ::8])
    same("image.y_q", symbols, 0)
    same("image.scales_hat", scales)
    same("image.y_hat", out["y_hat"])
    same("image.l_hat", out["l_hat"])
    same("image.x_hat", 2 * model.backbone.synthesis(out["l_hat"]) - 1)
    assert published_bits(symbols, scales) == pytest.approx(golden["image.bits_y"].item(), rel=1e-4)
    assert -out["likelihoods"]["z"].log2().sum() == golden["image.bits_z"]
    preview, *_ = coded(model, latent, 2.0, preview=True)
    same("image.preview_x_hat", 2 * model.backbone.synthesis(preview["l_hat"]) - 1)


@torch.no_grad()
def test_code_prediction(paper, same):
    model, predictor = paper.model, registry.build("loss", published.CODE_PREDICTION)
    start = "code_pred_loss."
    predictor.load_state_dict({n.removeprefix(start): t for n, t in paper.predictors.items() if n.startswith(start)})
    l = model.backbone.analysis(picture(256, 256, 0.7))
    out, *_ = coded(model, l, 1.0)
    out["codes"] = model.backbone.quantize(l).indices
    logits = predictor.logits(out["l_hat"])
    same("code_prediction.target_latent", l)
    same("code_prediction.target_indices", out["codes"], 0)
    same("code_prediction.l_hat", out["l_hat"])
    same("code_prediction.logits_sub", logits[:, :16, ::64])
    same("code_prediction.logits_argmax", logits.argmax(-1), 0)
    same("code_prediction.cross_entropy", predictor(out)[None])
    same("code_prediction.latent_mse", registry.build("loss", {"name": "latent_mse"})(out)[None])


@torch.no_grad()
def test_as_coded_in_fixed_point(paper, latent, golden, same):
    model = copy.deepcopy(paper.model).eval()
    model.update()
    out, symbols, scales = coded(model, latent, 2.0)
    y = model.transform.analysis(latent, torch.tensor([2.0]))
    same("image.indices", out["indices"], 0)
    same("image.params_sub", model.hyper(y)["params"][:, ::8], 1e-3)
    assert (symbols.flatten() != golden["image.y_q"].flatten()).sum() <= 24  # of 24576, where a residual is near 1/2
    assert published_bits(symbols, scales) == pytest.approx(golden["image.bits_y"].item(), rel=1e-3)
    payload = model.encode_payload(latent, model.quality_code(2.0))
    assert torch.equal(model.decode_latent(Decoder(payload), (128, 192)), out["y_hat"])  # below the table, too
    estimate = -sum(p.log2().sum() for p in out["likelihoods"].values())
    assert 8 * len(payload) == pytest.approx(estimate.item(), rel=0.01)


@torch.no_grad()
def test_a_file_is_as_small_as_estimated_where_scales_are_in_range(paper, latent):
    model, channels = copy.deepcopy(paper.model), published.GLC_IMAGE["channels"]
    model.hyper.h_s[-1][-1].conv_out.bias[channels : 2 * channels] += 2.5
    model.context.prior[-1][-1].conv_out.bias[:channels] += 2.5
    model.eval().update()
    out, symbols, scales = coded(model, latent, 2.0)
    assert scales.min() >= model.entropy_model.scale_table[0]
    estimate = published_bits(symbols, scales) + 14 * out["indices"].numel()
    payload = model.encode_payload(latent, model.quality_code(2.0))
    assert 8 * (12 + len(payload)) == pytest.approx(estimate, rel=0.015)  # a header takes 12 bytes at most


# -- files, at a small size -------------------------------------------------------------------------------------


@pytest.fixture
def narrow(monkeypatch) -> None:
    """The published layout, of a sixty-fourth of the size."""
    codebook = {"name": "nearest", "args": {"codebook_size": 64}}
    image = copy.deepcopy(published.GLC_IMAGE)
    image["channels"] = 32
    image["backbone"]["args"] |= {"channels": 32, "latent_channels": 32, "quantizer": codebook}
    image["hyper"]["args"]["quantizer"] = codebook
    prediction = copy.deepcopy(published.CODE_PREDICTION)
    prediction["args"] |= {"latent_channels": 32, "codebook_size": 64, "width": 32}
    video = copy.deepcopy(published.GLC_VIDEO) | {"channels": 32, "image": image, "backbone": image["backbone"]}
    video["hyper"]["args"]["quantizer"] = codebook
    monkeypatch.setattr(published, "GLC_IMAGE", image)
    monkeypatch.setattr(published, "GLC_VIDEO", video)
    monkeypatch.setattr(published, "CODE_PREDICTION", prediction)
    for kind, checkpoint in published.CHECKPOINTS.items():
        config = video if checkpoint.config["model"] == "video" else image
        monkeypatch.setitem(published.CHECKPOINTS, kind, checkpoint._replace(config=config))


@pytest.fixture
def authors(narrow) -> dict[str, Tensor]:
    return {name: fill(name, shape) for name, shape in names_and_shapes().items()}


def saved(contents: object, folder: Path) -> Path:
    torch.save(contents, folder / "GLC_image.pth.tar")
    return folder / "GLC_image.pth.tar"


def test_import_the_authors_checkpoint(authors, tmp_path):
    wrapped = {"epoch": 3, "state_dict": {"net_g": {f"module.{n}": t for n, t in authors.items()}}}
    file, first, second = saved(wrapped, tmp_path), tmp_path / "first", tmp_path / "second"
    facts = json.loads(glc("zoo", "import", file, "--as", "glc-image-paper", first, "--json"))
    glc("zoo", "import", file, "--as", "glc-image-paper", second)
    assert facts["skipped"] == []
    assert facts["parameters"] == sum(t.numel() for n, t in authors.items() if not n.startswith(published.PREDICTORS))
    names = {p.name for p in first.iterdir()}
    assert names == {*zoo.FILES, published.PREDICTIONS}
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)

    kept = load_file(first / published.PREDICTIONS)
    assert set(kept) == {n for n in authors if n.startswith(published.PREDICTORS)} == set(facts["apart"])
    assert all(torch.equal(tensor, authors[name]) for name, tensor in kept.items())

    model = zoo.load(first)
    exact = [id(p) for part in (*model.hyper.exact, model.context) for p in part.parameters()]
    for name, value in model.named_parameters():
        if value.requires_grad and value.numel():
            assert torch.allclose(
                value.float(), authors[published.authors_name(name)], 0, 2.0**-17 * (id(value) in exact)
            )
    data = api.encode(picture(40, 70, 0.0), model=model)
    assert api.decode(data, model=model).size == (70, 40)


def test_the_predictors_may_be_left_out(authors, tmp_path):
    bare = {n: t.half() for n, t in authors.items() if not n.startswith(published.PREDICTORS)}
    facts = published.import_file(saved({"net": bare}, tmp_path), "glc-image-paper", tmp_path / "out")
    assert facts["apart"] == [] and not (tmp_path / "out" / published.PREDICTIONS).exists()


def test_import_tamings_checkpoint(narrow, tmp_path, monkeypatch):
    model = GLCImage(published.GLC_IMAGE)
    names = {n: published.taming_name(n) for n, _ in model.named_parameters() if n.startswith("backbone.")}
    for name, theirs in {
        "encoder.blocks.0.weight": "encoder.conv_in.weight",
        "encoder.blocks.7.conv_out.weight": "encoder.down.2.block.0.nin_shortcut.weight",
        "encoder.blocks.12.conv.bias": "encoder.down.3.downsample.conv.bias",
        "encoder.blocks.16.proj_out.weight": "encoder.down.4.attn.1.proj_out.weight",
        "encoder.blocks.20.weight": "encoder.norm_out.weight",
        "encoder.blocks.22.weight": "encoder.conv_out.weight",
        "encoder.quant_conv.weight": "quant_conv.weight",
        "generator.post_quant_conv.bias": "post_quant_conv.bias",
        "generator.blocks.2.k.weight": "decoder.mid.attn_1.k.weight",
        "generator.blocks.9.norm.weight": "decoder.up.4.attn.2.norm.weight",
        "generator.blocks.10.conv.weight": "decoder.up.4.upsample.conv.weight",
        "generator.blocks.11.conv_out.weight": "decoder.up.3.block.0.nin_shortcut.weight",
        "generator.blocks.25.conv2.weight": "decoder.up.0.block.2.conv2.weight",
        "generator.blocks.26.weight": "decoder.norm_out.weight",
        "generator.head.0.weight": "decoder.conv_out.weight",
        "quantizer.embedding.weight": "quantize.embedding.weight",
    }.items():
        assert names[f"backbone.{name}"] == theirs
    tensors = {theirs: fill(theirs, tuple(model.get_parameter(name).shape)) for name, theirs in names.items()}

    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")  # as if Lightning were installed
    module.ModelCheckpoint = published.ModelCheckpoint
    monkeypatch.setitem(sys.modules, module.__name__, module)
    contents = {
        "callbacks": {published.ModelCheckpoint: {"monitor": "val/rec_loss"}},
        "state_dict": {**tensors, "loss.logvar": torch.zeros(())},
    }
    file = saved(contents, tmp_path)
    monkeypatch.delitem(sys.modules, module.__name__)
    out = glc("zoo", "import", file, "--as", "vqgan-f16-16384", tmp_path / "first")
    assert "skipped: loss.logvar" in out
    published.import_file(file, "vqgan-f16-16384", tmp_path / "second")
    assert (tmp_path / "first" / zoo.WEIGHTS).read_bytes() == (tmp_path / "second" / zoo.WEIGHTS).read_bytes()
    loaded = zoo.load(tmp_path / "first")
    assert all(torch.equal(loaded.get_parameter(name), tensors[theirs]) for name, theirs in names.items())


class Code:
    """What an unsafe checkpoint holds."""

    def __reduce__(self):
        return exec, ("raise SystemExit('a checkpoint ran code')",)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda t: {**t, "q_enc": t["q_enc"][:3]},
            r"as glc-image-paper: of another shape \(1\): q_enc \(3, 32, 1, 1\) for \(4, 32, 1, 1\)$",
        ),
        (
            lambda t: {n: t[n] for n in t if not n.startswith("enc.")},
            r"missing \(48\): enc.enc_1.0.block.0.conv1.0.weight, .*, \.\.\.$",
        ),
        (lambda t: {**t, "y_q_enc": t["q_enc"]}, r"unknown \(1\): y_q_enc$"),
        (lambda t: {**t, "q_dec": t["q_dec"] * math.nan}, "not finite: q_dec"),
        (
            lambda t: {n: t[n] for n in t if n != "code_pred_loss.feat_emb.bias"},
            r"missing \(1\): code_pred_loss.feat_emb.bias$",
        ),
        (
            lambda t: {**t, "y_spatial_prior_reduction.weight": t["y_spatial_prior_reduction.weight"] + 1e7},
            r"its weights reach 1e\+07",
        ),
        (lambda t: {"model": t}, "holds no state dict"),
        (lambda t: t["q_enc"], "holds no state dict"),
        (lambda t: {0: t["q_enc"]}, "holds no state dict"),
        (
            lambda t: {**t, "more": Code()},
            "no PyTorch checkpoint of tensors alone: Unsupported global: GLOBAL .*exec$",
        ),
    ],
)
def test_another_file_is_refused(authors, tmp_path, change, message):
    with pytest.raises(ModelFileError, match=message):
        published.import_file(saved(change(authors), tmp_path), "glc-image-paper", tmp_path / "out")
    assert not (tmp_path / "out" / zoo.SUMS).exists()


def test_a_pickle_of_another_checkpointis_refused_without_advice_to_run_it(tmp_path):
    for name, contents in (("plain.pkl", pickle.dumps(Code())), ("old.pkl", pickle.dumps({"a": 1}, 0))):
        (tmp_path / name).write_bytes(contents)
        refused = glc("zoo", "import", tmp_path / name, "--as", "glc-image-paper", tmp_path / "out", code=1)
        assert "is no PyTorch checkpoint of tensors alone: " in refused
        assert "weights_only" not in refused and "False" not in refused and "trust" not in refused


def test_mistakes_on_the_command_line(tmp_path):
    file = tmp_path / "file.pth"
    file.write_bytes(b"nothing of this kind")
    refused = glc("zoo", "import", file, "--as", "glc-image-paper", tmp_path / "out", code=1)
    assert f"{file} is no PyTorch checkpoint" in refused and refused.count("\n") == 1
    assert "one of glc-image-paper, glc-video-paper, vqgan-f16-16384" in glc(
        "zoo", "import", file, "--as", "x", tmp_path / "out", code=2
    )


# -- the video model ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published_video(paper) -> GLCVideo:
    with torch.device("meta"):
        video = models.build(published.GLC_VIDEO)
    ours = {n: p for n, p in video.named_parameters() if p.requires_grad and p.numel() and not n.startswith("image.")}
    tensors = {published.authors_video_name(n): tuple(p.shape) for n, p in ours.items()}
    lines = sorted(f"{name}\t{shape}\ttorch.float32" for name, shape in tensors.items())
    assert len(lines) == 678
    digest = "828a60491f186975fb5d87b7adffee014b7b09d4561c4262087a74763057e0fb"
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest
    learned = (item for item in paper.model.named_parameters() if item[1].requires_grad and item[1].numel())
    image = {published.authors_name(n): p.detach() for n, p in learned} | paper.predictors
    return published.convert({n: fill(n, s) for n, s in tensors.items()}, "glc-video-paper", image).model


@torch.no_grad()
def test_published_p_frames(published_video, same):
    model, quality = published_video, torch.tensor([42.0])
    assert model.training and model.image_quality(quality) == 2.0
    l_hat = model.image.code_latent(model.image.analysis(picture(128, 192, 0.0)), model.image_quality(quality))["l_hat"]
    same("video.0.l_hat", l_hat)
    reference = Reference(l_hat, 0)
    for t in (1, 2, 3):
        l = model.analysis(picture(128, 192, 0.3 * t))
        context, fresh, _ = model.temporal_context(reference)
        assert fresh == (t == 1)
        same(f"video.{t}.context", context)
        y = model.transform.analysis(l, quality, context)
        same(f"video.{t}.y", y)
        maps = model.hyper._maps(model.hyper.temporal_prior(context))
        same(f"video.{t}.weight_map_sub", maps[:, ::8])
        same(f"video.{t}.z", model.hyper._tokens(y, context, maps))
        hyper = model.hyper(y, context, fresh)
        same(f"video.{t}.indices", hyper["indices"].flatten(), 0)
        same(f"video.{t}.params_sub", hyper["params"][:, ::8])
        plain, model.entropy_model = model.entropy_model, Watched(model.entropy_model)
        out = model.code_inter(l, reference, quality)
        same(f"video.{t}.y_q", model.entropy_model.symbols, 0)
        same(f"video.{t}.scales_hat", model.entropy_model.scales)
        model.entropy_model = plain
        same(f"video.{t}.y_hat", out["y_hat"])
        same(f"video.{t}.l_hat", out["l_hat"])
        same(f"video.{t}.x_hat", (2 * model.backbone.synthesis(out["l_hat"]) - 1).clamp(-1, 1))
        reference = Reference(out["l_hat"], t)


def test_import_the_authors_video_checkpoint(authors, tmp_path):
    with torch.device("meta"):
        ours = models.build(published.GLC_VIDEO)
    learned = {
        n: tuple(p.shape)
        for n, p in ours.named_parameters()
        if p.requires_grad and p.numel() and not n.startswith("image.")
    }
    tensors = {published.authors_video_name(n): fill(published.authors_video_name(n), s) for n, s in learned.items()}
    torch.save({"state_dict": tensors}, tmp_path / "GLC_video.pth.tar")
    options = ("--as", "glc-video-paper", tmp_path / "out", "--image", saved(authors, tmp_path))
    glc("zoo", "import", tmp_path / "GLC_video.pth.tar", *options)
    model = zoo.load(tmp_path / "out")
    assert isinstance(model, GLCVideo) and model.own_backbone is not None
    frames = [picture(64, 64, 0.3 * t) for t in range(3)]
    strings, shapes = model.compress(frames)
    assert len(model.decompress(strings, shapes)) == 3

    torch.save({n: t for n, t in tensors.items() if n != "y_q_enc"}, tmp_path / "GLC_video.pth.tar")
    assert "missing (1): y_q_enc" in glc("zoo", "import", tmp_path / "GLC_video.pth.tar", *options, "-y", code=1)


def test_a_video_model_needs_its_image_model(tmp_path):
    (tmp_path / "video.pth.tar").write_bytes(b"")
    with pytest.raises(ModelFileError, match="needs the image model"):
        published.import_file(tmp_path / "video.pth.tar", "glc-video-paper", tmp_path / "out")
    with pytest.raises(ModelFileError, match="has no use for an image model"):
        published.import_file(
            tmp_path / "video.pth.tar", "glc-image-paper", tmp_path / "out", tmp_path / "video.pth.tar"
        )
