from fractions import Fraction

import numpy as np
import pytest

from glc_toolkit import clips, zoo
from glc_toolkit.evaluation import video
from tests.test_clips import frames

pytest.importorskip("av")


@pytest.fixture
def clip(tmp_path):
    clips.save(frames(8), tmp_path / "clip.mkv", Fraction(25))
    return tmp_path / "clip.mkv"


@pytest.mark.parametrize("codec", video.CLASSIC)
def test_classic_codecs_come_nearest_from_above(clip, codec):
    about, originals = video.read(clip, 6)
    assert len(originals) == 6
    tried = video.classic(originals, codec, about.fps, 40)
    coarse, decoded = tried.data, tried.decoded
    fine = video.classic(originals, codec, about.fps, 20).data
    assert b"x264" not in coarse and b"x265" not in coarse  # settings as text are not counted
    assert len(coarse) < len(fine) and len(decoded) == 6 and decoded[0].shape == originals[0].shape
    crf = video.nearest(originals, codec, about.fps, len(coarse))
    data = video.classic(originals, codec, about.fps, crf).data
    assert len(data) >= len(coarse) and crf >= 40


def test_flicker_is_of_changes():
    still = [np.full((4, 4, 3), 100, np.uint8)] * 3
    trembling = [still[0], still[0] + np.uint8(6), still[0]]
    assert video.flicker(still, still) == 0 and video.flicker(trembling, still) == 6


def test_comparison(clip, tiny_video_folder):
    rows = video.compare(clip, zoo.load(tiny_video_folder), [0.0], frames=5, rivals=("libx264",), metrics=("psnr",))
    assert [row["codec"] for row in rows] == ["tiny-video", "libx264"]
    assert rows[1]["psnr"] > rows[0]["psnr"] > 0 and rows[0]["decode_fps"] > 0
