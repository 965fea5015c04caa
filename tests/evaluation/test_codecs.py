import random

import pytest
import torch
from safetensors.torch import save_file

from glc_toolkit.evaluation.codecs import Family, named
from glc_toolkit.types import BitstreamError, ModelFileError


def test_streams_carry_no_note_of_the_encoder(photo):
    for name in ("x264", "x265"):
        assert b"x26" not in named(name)[0].codec(51).encode(photo)


class Sized:
    def __init__(self, size: int):
        self.size = size

    def encode(self, picture) -> bytes:
        return bytes(self.size)


@pytest.mark.parametrize("size, setting", [(5, 10), (10, 10), (14, 10), (16, 20), (24, 20), (31, 30), (99, 30)])
def test_the_nearest_file_is_found(size, setting):
    assert Family("", "", range(10, 40, 10), (), Sized).nearest(None, size) == setting


@pytest.mark.parametrize(
    "text, name, settings",
    [
        ("jpeg:5,10", "jpeg", [5, 10]),
        ("x265", "x265", [51, 47, 43, 39]),
        ("glc-image-0.03", "glc-image-0.03", [0, 1, 2, 3]),
        ("glc-image-0.03:0.5", "glc-image-0.03", [0.5]),
        ("jpeg:5,5.0,5", "jpeg", [5]),
    ],
)
def test_names(text, name, settings):
    family, chosen = named(text)
    assert (family.name, chosen) == (name, settings)


def test_a_folder_with_a_colon_is_a_model(tiny_folder, tmp_path):
    (tmp_path / "a:b").symlink_to(tiny_folder)
    assert named(f"{tmp_path}/a:b:1")[1] == [1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained CompressAI model as a file."""
    from compressai.zoo import bmshj2018_factorized

    torch.manual_seed(0)
    state = bmshj2018_factorized(1, pretrained=False).state_dict()
    file = tmp_path_factory.mktemp("compressai") / "factorized.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    return file


def test_compressai_models_give_real_files(checkpoint, photo):
    family, (setting,) = named(f"compressai:bmshj2018-factorized:{checkpoint}")
    codec = family.codec(setting)
    picture = photo.crop((0, 0, 100, 70))
    data = codec.encode(picture)
    assert codec.decode(data).size == (100, 70)
    x = (
        torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).reshape(1, 70, 100, 3).permute(0, 3, 1, 2)
        / 255
    )
    with torch.no_grad():
        padded = torch.nn.functional.pad(x, (0, 28, 0, 58), mode="replicate")
        assert len(data) == 9 + len(codec.model.compress(padded)["strings"][0][0])
    with pytest.raises(BitstreamError):
        codec.decode(data[:5])


def test_checkpoints_run_no_code(tmp_path, checkpoint):
    def load(file):
        family, (setting,) = named(f"compressai:bmshj2018-factorized:{file}")
        return family.codec(setting)

    torch.save({"state_dict": random.Random(0)}, tmp_path / "evil.pth")
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "other.pth")
    for name in ("evil.pth", "other.pth"):
        with pytest.raises(ModelFileError, match=f"{name} is no checkpoint of bmshj2018-factorized"):
            load(tmp_path / name)
