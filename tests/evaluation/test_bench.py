import pytest
import torch

from glc_toolkit.conformance import tiny
from glc_toolkit.evaluation import bench
from glc_toolkit.models.image import GLCImage
from tests.conftest import moving_config


@pytest.fixture(scope="module")
def report():
    names = bench.CONFIGS
    bench.CONFIGS = {"tiny": tiny.MODEL}
    yield bench.report("tiny", 96, 64, "cpu", "bf16", repeats=1, compare=True)
    bench.CONFIGS = names


def rows(report: dict, direction: str) -> dict[str, dict]:
    return {row["stage"]: row for row in report["stages"] if row["direction"] == direction}


def test_every_stage_of_both_directions_has_its_row(report):
    both = {bench.BETWEEN, "hyper", "entropy coder", "context, reduction", "all"} | {
        f"context, pass {k}" for k in (1, 2, 3)
    }
    assert set(rows(report, "encode")) == both | {"backbone analysis", "transform analysis"}
    assert set(rows(report, "decode")) == both | {"backbone synthesis", "transform synthesis"}
    for row in report["stages"]:
        assert row["seconds"] > 0 and row["plain_seconds"] > 0 and row["peak_mb"] > 0


def test_a_video_model_codes_a_frame_after_others():
    x = bench.picture(96, 64)
    facts = bench.bench(bench.untrained(tiny.VIDEO), x, repeats=1)
    both = {bench.BETWEEN, "hyper", "entropy coder", "context, reduction", "context, pass 1", "temporal context"}
    assert set(rows(facts, "encode")) == both | {"backbone analysis", "transform analysis", "transform synthesis"}
    assert set(rows(facts, "decode")) == both | {"backbone synthesis", "transform synthesis"}
    assert facts["bytes"] > 0


def test_motion_has_stages_of_its_own():
    """A frame that is searched in one moved by two pixels, and moved to the same bits where it is decoded."""
    facts = bench.bench(bench.untrained(moving_config()), bench.picture(96, 64), repeats=1)
    assert {"motion search", "motion"} <= set(rows(facts, "encode"))
    assert "motion" in rows(facts, "decode") and "motion search" not in rows(facts, "decode")


def test_a_video_model_says_frames_a_second(monkeypatch):
    monkeypatch.setitem(bench.CONFIGS, "tiny-video", tiny.VIDEO)
    facts = bench.report("tiny-video", 96, 64, "cpu", "float32", repeats=1, compare=False)
    seconds = {row["direction"]: row["seconds"] for row in facts["stages"] if row["stage"] == "all"}
    assert facts["fps"] == {way: 1 / seconds[way] for way in ("encode", "decode")}


def test_operations_are_those_of_the_layers(report):
    """Of the context reduction, one 1x1 convolution, and a transform, by hand."""
    positions, channels = 8 * 4, tiny.CHANNELS  # 96 x 64 pixels become 128 x 64
    reduction = 2 * positions * 3 * channels * channels
    assert rows(report, "decode")["context, reduction"]["gflop"] * 1e9 == pytest.approx(reduction)
    block = 2 * positions * (3 * channels**2 + 9 * channels + 4 * channels**2 + 2 * channels**2)
    assert rows(report, "encode")["transform analysis"]["gflop"] * 1e9 == pytest.approx(4 * block)


def test_operations_do_not_depend_on_how_they_are_computed(monkeypatch):
    model = bench.untrained(tiny.MODEL)
    x = bench.picture(64, 64)
    both = [bench.bench(m, x, repeats=1)["stages"] for m in (model, model.plain())]
    for row, twin in zip(*both, strict=True):
        assert row["gflop"] == pytest.approx(twin["gflop"]), row["stage"]


def test_the_picture_has_detail_at_every_size():
    x = bench.picture(96, 64)
    assert x.shape == (1, 3, 64, 96) and x.min() >= 0 and x.max() <= 1
    assert torch.equal(x, bench.picture(96, 64))
    assert (x[..., 1:] - x[..., :-1]).abs().mean() > 0.005


def test_a_measured_model_is_left_as_it_was():
    model = bench.untrained(tiny.MODEL)
    before = vars(model.backbone).keys() | vars(model.context).keys()
    bench.bench(model, bench.picture(64, 64), repeats=1)
    assert vars(model.backbone).keys() | vars(model.context).keys() == before
    assert isinstance(model, GLCImage)
