import math

import pytest
import torch
from PIL import Image

from glc_toolkit import io, registry
from glc_toolkit.evaluation import evaluate as e
from glc_toolkit.evaluation import memory


@pytest.mark.parametrize("name, side", [("lpips-alex", 31), ("lpips-vgg", 16), ("dists", 1)])
def test_metrics_are_measured_down_to_the_sides_they_can_take(name, side):
    distances = {name: registry.build("metric", {"name": name})}
    x = torch.rand(1, 3, side, 40, generator=torch.Generator().manual_seed(0))
    assert e.measure(1 - x, x, distances)[name] > 0
    smaller = x[:, :, 1:]
    if side > 1:
        assert math.isnan(e.measure(1 - smaller, smaller, distances)[name])


def test_metrics_on_vgg_are_not_measured_on_pictures_that_would_fill_the_memory():
    distances = {name: registry.build("metric", {"name": name}) for name in ("psnr", "dists", "lpips-vgg")}
    for distance in distances.values():
        distance.forward = lambda x_hat, x: torch.ones(1)
    for side, measured in ((2048, 1.0), (2049, math.nan)):
        x = torch.zeros(1).expand(1, 3, side, 2048)
        assert e.measure(x, x, distances) == pytest.approx(
            {"psnr": 1.0, "dists": measured, "lpips-vgg": measured}, nan_ok=True
        )


def test_means_leave_out_what_has_no_value():
    rows = [{"image": "a", "psnr": 20.0, "dists": math.nan}, {"image": "b", "psnr": 30.0, "dists": 0.5}]
    assert e.summary(rows) == {"psnr": 25.0, "dists": 0.5}
    assert math.isnan(e.summary(rows[:1])["dists"])


def test_only_pictures_are_found(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "b.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "a.JPG")
    for name in ("paper.pdf", "film.mpg", "notes.txt", "data.h5"):
        (tmp_path / name).touch()
    assert [path.name for path in e.find(tmp_path)] == ["a.JPG", "b.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(io.PictureError, match="no pictures in"):
        e.find(tmp_path / "empty")


def test_the_peak_of_memory_is_seen():
    with memory.peak() as grown:
        torch.ones(2**27)  # 512 MiB, freed at once: more than what earlier tests may have left free
    if memory.RESET.exists():
        assert 256 < grown["megabytes"] < 1024
    else:
        assert math.isnan(grown["megabytes"])
