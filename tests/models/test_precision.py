from statistics import fmean

import pytest
import torch
from PIL import Image

from glc_toolkit import api, io, zoo
from glc_toolkit.coder import Decoder
from glc_toolkit.components.int8 import has_int8
from glc_toolkit.models import modes
from glc_toolkit.models.modes import has_bf16
from tests.conftest import ROOT
from tests.make_golden import latent_hash, references_hash


@pytest.fixture(scope="module", params=["bf16", "int8"])
def half(request):
    if request.param == "int8" and not has_int8(torch.device("cpu")):
        pytest.skip("this processor has no VNNI")
    return zoo.load(api.DEFAULT_MODEL, precision=request.param)


@pytest.fixture(scope="module")
def crop(photo):
    return photo.crop((100, 100, 356, 292))


@pytest.fixture(scope="module")
def crops():
    photographs = map(Image.open, (ROOT / "docs" / "images" / "gallery").glob("*-original.webp"))
    return [photo.convert("RGB").crop((100, 100, 356, 292)) for photo in photographs]


def test_a_file_has_the_same_symbols_in_either_precision(model, half, crop):
    stream, _ = api.open_stream(api.encode(crop, model=half), model)
    shape = (stream.height, stream.width)
    assert torch.equal(*(m.decode_latent(Decoder(stream.payload), shape) for m in (model, half)))


def psnr(data: bytes, model, picture) -> float:
    x_hat = io.to_tensor(api.decode(data, model=model))
    return -10 * (x_hat - io.to_tensor(picture)).square().mean().log10().item()


@pytest.fixture(scope="module")
def plain(model, crop, crops) -> list[tuple]:
    """Picture, file and PSNR of the crop and then of each of the crops, all in float32."""
    files = [(picture, api.encode(picture, model=model)) for picture in (crop, *crops)]
    return [(picture, data, psnr(data, model, picture)) for picture, data in files]


def test_a_file_is_decoded_to_within_a_fiftieth_of_a_decibel(half, plain):
    """Each loses less, and the mean is no further away to either side: rounding may make one picture better by more."""
    more = [psnr(data, half, picture) - before for picture, data, before in plain]
    assert min(more) > -0.02
    assert fmean(more) == pytest.approx(0, abs=0.02)


def test_pictures_coded_in_it_lose_less_than_a_twentieth_of_a_decibel_in_the_mean(half, plain):
    """In the mean: of one picture, other symbols may be chosen, which are better or worse ones."""
    _, *photographs = plain
    assert len(photographs) >= 4
    rounded = fmean(psnr(api.encode(picture, model=half), half, picture) for picture, _, _ in photographs)
    assert rounded > fmean(before for _, _, before in photographs) - 0.05


def test_casts_do_not_leave_fixed_point(model, half, crop):
    """A model taken to float32 would read other symbols now and then, and nothing would say so."""
    cast = zoo.load(api.DEFAULT_MODEL).float().to("cpu", torch.float32)
    assert {p.dtype for p in cast.context.parameters()} == {torch.float64}
    assert cast.fingerprint() == model.fingerprint()
    assert api.encode(crop, model=cast) == api.encode(crop, model=model)
    for refused in (cast.half, cast.double, cast.bfloat16, half.float):
        with pytest.raises(ValueError, match="keeps its precision"):
            refused()
    assert half.to("cpu", memory_format=torch.channels_last) is half
    assert cast.train().float() is cast
    assert {p.dtype for p in cast.parameters()} == {torch.float32}


def test_a_part_of_a_model_is_not_cast_either(model, crop):
    own = zoo.load(api.DEFAULT_MODEL)
    for part in (own.hyper.h_s, own.context):
        for cast in (lambda part: part.to(torch.bfloat16), lambda part: part.float(), lambda part: part.half()):
            with pytest.raises(ValueError, match=r"keeps float64; call train\(\)"):
                cast(part)
    assert own.hyper.h_s.double() is own.hyper.h_s
    assert api.encode(crop, model=own) == api.encode(crop, model=model)


def test_a_rounded_model_keeps_its_name_and_refuses_what_would_lose_it(model, half, tmp_path):
    assert half.fingerprint() == model.fingerprint()
    for refused in (half.train, half.state_dict, lambda: half.set_precision("float32")):
        with pytest.raises(ValueError, match="for coding alone"):
            refused()
    with pytest.raises(ValueError, match="precision is one of"):
        model.set_precision("int4")
    with pytest.raises(ValueError, match="for coding alone"):
        zoo.save(half, tmp_path / "lost", "lost")


def test_auto_is_the_fastest_there_is(monkeypatch):
    for has, chosen in ((has_int8, "int8"), (has_bf16, "bf16"), (None, "float32")):
        if has is None or has(torch.device("cpu")):
            assert zoo.load(api.DEFAULT_MODEL, precision="auto").precision == chosen
        monkeypatch.setattr(modes, f"has_{chosen}", lambda device: False, raising=False)
    with pytest.raises(ValueError, match="int8 needs a processor with VNNI"):
        zoo.load(api.DEFAULT_MODEL, precision="int8")


def test_what_surrounds_loading_and_coding_moves_no_symbol(model, crop):
    """Another default type, and autocast: streams are read to the same bits, and what is written there is read here."""
    data, video = api.encode(crop, model=model), zoo.load(api.DEFAULT_VIDEO_MODEL)
    frames = [crop.crop((i, 0, 128 + i, 64)) for i in range(2)]
    latents = latent_hash(data)
    torch.set_default_dtype(torch.float64)
    try:
        zoo._load.cache_clear()
        other, other_video = zoo.load(api.DEFAULT_MODEL), zoo.load(api.DEFAULT_VIDEO_MODEL)
        assert other.fingerprint() == model.fingerprint() and other_video.fingerprint() == video.fingerprint()
        assert {p.dtype for p in other.backbone.parameters()} == {torch.float32}
        assert api.encode(crop, model=other) == data and latent_hash(data) == latents
        clip = b"".join(api.encode_video(frames, other_video))
        references = references_hash(clip)
    finally:
        torch.set_default_dtype(torch.float32)
        zoo._load.cache_clear()
    assert b"".join(api.encode_video(frames, video)) == clip and references_hash(clip) == references
    with torch.autocast("cpu", torch.bfloat16):
        assert latent_hash(data) == latents and references_hash(clip) == references
        inside, clip_inside = api.encode(crop, model=model), b"".join(api.encode_video(frames, video))
        hashes = latent_hash(inside), references_hash(clip_inside)
    assert (latent_hash(inside), references_hash(clip_inside)) == hashes
