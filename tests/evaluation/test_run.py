import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from glc_toolkit.evaluation import patches, protocols
from glc_toolkit.evaluation.classic import Pillow
from glc_toolkit.evaluation.codecs import Family
from glc_toolkit.evaluation.evaluate import find
from glc_toolkit.evaluation.run import run


@pytest.fixture
def folder(tmp_path, photo):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(2):
        photo.crop((64 * i, 0, 64 * i + 96, 96)).save(folder / f"{i}.png")
    return folder


class Counted(Pillow):
    calls = 0

    def decode(self, data):
        Counted.calls += 1
        return super().decode(data)


@pytest.fixture
def codec():
    Counted.calls = 0
    return Family("jpeg", "1", range(1, 96), (), lambda q: Counted("JPEG", q)), [5, 20]


class Mean(torch.nn.Module):
    """A feature network that costs nothing."""

    num_features = 3

    def forward(self, x):
        return x.float().mean((2, 3))


def evaluated(folder, codec, **options):
    options = {"metrics": ["psnr", "ms-ssim"], **options}
    (result,) = run(folder, sorted(folder.glob("*.png")), [codec], **options)
    return result


def test_results_are_means_of_real_files(folder, codec, tmp_path):
    result = evaluated(folder, codec, out=tmp_path / "out")
    rows = result["images"]
    assert result["settings"] == ["5", "20"] and [r["setting"] for r in rows] == ["5", "5", "20", "20"]
    with Image.open(folder / "1.png") as picture:
        assert rows[1]["bytes"] == len(Pillow("JPEG", 5).encode(picture))
    assert rows[1]["bpp"] == rows[1]["bytes"] * 8 / 96**2
    assert result["results"]["bpp"][0] == pytest.approx((rows[0]["bpp"] + rows[1]["bpp"]) / 2)
    assert result["results"]["psnr-rgb"][0] < result["results"]["psnr-rgb"][1]
    assert math.isnan(result["results"]["ms-ssim-rgb"][0])
    stored = json.loads((tmp_path / "out" / "jpeg.json").read_text())
    assert stored["results"]["ms-ssim-rgb"] == [None, None]
    assert stored["protocol"]["name"] == protocols.FREE and stored["protocol"]["images"] == 2


def test_a_run_that_was_cut_off_goes_on(folder, codec, tmp_path):
    out = tmp_path / "out"
    first = evaluated(folder, codec, out=out)
    lines = (out / "rows.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == Counted.calls == 4
    (out / "rows.jsonl").write_text("".join(lines[:2]) + lines[2][:30])
    second = evaluated(folder, codec, out=out)
    assert Counted.calls == 6
    assert second["results"]["psnr-rgb"] == first["results"]["psnr-rgb"]
    assert len((out / "rows.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("line", [b"null", b'{"key": null, "row": {}}', b'{"key": []}', b"[" * 100_000, b"\xff\xfe1"])
def test_rows_that_are_none(folder, codec, tmp_path, line):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rows.jsonl").write_bytes(line + b"\n")
    with pytest.raises(ValueError, match=r"is no row; remove it|is not in UTF-8; remove it"):
        evaluated(folder, codec, out=tmp_path / "out")


def test_cells_are_no_formulas(folder, codec, tmp_path):
    (folder / "0.png").rename(folder / "=1+1.png")
    evaluated(folder, codec, out=tmp_path / "out")
    table = (tmp_path / "out" / "jpeg.csv").read_text().splitlines()
    assert any(",'=1+1.png," in line for line in table) and not any(",=" in line for line in table)


def test_other_pictures_versions_and_metrics_are_measured_anew(folder, codec, tmp_path):
    out = tmp_path / "out"
    evaluated(folder, codec, out=out)
    Image.new("RGB", (96, 96)).save(folder / "1.png")
    evaluated(folder, codec, out=out)
    assert Counted.calls == 4 + 2
    codec[0].version = "2"
    evaluated(folder, codec, out=out)
    assert Counted.calls == 6 + 4
    evaluated(folder, codec, out=out, metrics=["psnr", "lpips-alex"])
    assert Counted.calls == 10 + 4


def test_rows_keep_what_was_measured_before_and_results_have_what_was_asked(folder, codec, tmp_path):
    out, (family, _) = tmp_path / "out", codec
    evaluated(folder, (family, [20]), out=out, metrics=["psnr", "ms-ssim"])
    result = evaluated(folder, (family, [5, 20]), out=out, metrics=["psnr"])
    assert Counted.calls == 4
    assert "ms-ssim-rgb" not in result["results"] and len({tuple(row) for row in result["images"]}) == 1
    evaluated(folder, (family, [20]), out=out, metrics=["grid"])
    assert Counted.calls == 6
    result = evaluated(folder, (family, [20]), out=out, metrics=["grid", "psnr", "ms-ssim"])
    assert Counted.calls == 6
    assert list(result["images"][0])[-3:] == ["grid", "psnr-rgb", "ms-ssim-rgb"]


def test_hidden_files_are_no_pictures(folder):
    (folder / "._0.png").write_bytes(b"of a Mac")
    (folder / ".cache").mkdir()
    Image.new("RGB", (8, 8)).save(folder / ".cache" / "small.png")
    assert [path.name for path in find(folder)] == ["0.png", "1.png"]


def test_a_damaged_line_is_named(folder, codec, tmp_path):
    (tmp_path / "rows.jsonl").write_text("nonsense\n")
    with pytest.raises(ValueError, match=r"line 1 of .*rows\.jsonl"):
        evaluated(folder, codec, out=tmp_path)


@pytest.mark.parametrize("stored", [False, True])
def test_distances_of_patches_are_of_the_whole_set(folder, codec, tmp_path, monkeypatch, stored):
    monkeypatch.setattr(patches, "build", lambda name: Mean())
    monkeypatch.setattr(patches, "SIZE", 32)
    options = {"metrics": ["psnr", "fd-efflite0"], "out": tmp_path / "out" if stored else None}
    first = evaluated(folder, codec, **options)
    x, x_hat = [], []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            jpeg = Pillow("JPEG", 20)
            for found, image in ((x, picture), (x_hat, jpeg.decode(jpeg.encode(picture)))):
                tensor = torch.from_numpy(np.asarray(image)).permute(2, 0, 1)[None]
                found.append(Mean()(patches.patches(tensor, 32)).numpy())
    assert len(np.concatenate(x)) == 2 * 13
    expected = patches.distance("fd-efflite0", np.concatenate(x), np.concatenate(x_hat))
    assert first["results"]["fd-efflite0"][1] == pytest.approx(expected)
    calls = Counted.calls
    assert evaluated(folder, codec, **options)["results"]["fd-efflite0"] == first["results"]["fd-efflite0"]
    assert Counted.calls == (calls if stored else 2 * calls)


def test_sizes_are_matched_for_each_picture(folder, codec):
    result = evaluated(folder, codec, match_bpp=[1.0])
    assert result["settings"] == ["1 bpp"]
    for row in result["images"]:
        assert abs(row["bpp"] - 1.0) < 0.05 and int(row["matched"]) in range(1, 96)


def test_a_protocol_takes_its_own_pictures_only(folder, monkeypatch):
    digests = [protocols.digest(path) for path in folder.glob("*.png")]
    with pytest.raises(ValueError, match="not the pictures of glc-kodak-v1") as error:
        protocols.describe(digests, ["psnr"], "glc-kodak-v1")
    monkeypatch.setitem(protocols.PINNED, "glc-kodak-v1", str(error.value).split()[-1])
    assert protocols.describe(digests[::-1], ["psnr"])["name"] == "glc-kodak-v1"
