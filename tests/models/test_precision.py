import pytest
import torch

from glc_toolkit import api, io, zoo
from glc_toolkit.coder import Decoder


@pytest.fixture(scope="module")
def half():
    return zoo.load("glc-image-0.03", precision="bf16")


@pytest.fixture(scope="module")
def crop(photo):
    return photo.crop((100, 100, 356, 292))


def test_a_file_has_the_same_symbols_in_either_precision(model, half, crop):
    stream, _ = api.open_stream(api.encode(crop, model=half), model)
    shape = (stream.height, stream.width)
    assert torch.equal(*(m.decode_latent(Decoder(stream.payload), shape) for m in (model, half)))


def test_the_picture_is_within_a_twentieth_of_a_decibel(model, half, crop):
    def psnr(coder) -> float:
        data = api.encode(crop, model=coder)
        return -10 * (io.to_tensor(api.decode(data, model=coder)) - io.to_tensor(crop)).square().mean().log10().item()

    assert psnr(half) > psnr(model) - 0.05


def test_a_rounded_model_keeps_its_name_and_refuses_what_would_lose_it(model, half, tmp_path):
    assert half.fingerprint() == model.fingerprint()
    for refused in (half.train, half.state_dict, lambda: half.set_precision("float32")):
        with pytest.raises(ValueError, match="for coding alone"):
            refused()
    with pytest.raises(ValueError, match="precision is one of"):
        model.set_precision("int4")
    with pytest.raises(ValueError, match="for coding alone"):
        zoo.save(half, tmp_path / "lost", "lost")
