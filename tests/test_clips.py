from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from glc_toolkit import clips
from glc_toolkit.io import PictureError

pytest.importorskip("av")


def frames(count: int, width: int = 64, height: int = 48) -> list[Image.Image]:
    """A smooth picture that wanders."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.stack([np.sin(columns / 9 + t + c) + np.cos(rows / 7 + c) for c in range(3)], -1) for t in range(count)]
    return [Image.fromarray((64 + 40 * wave + 40).clip(0, 255).astype(np.uint8)) for wave in waves]


def test_a_video_comes_back(tmp_path):
    written = frames(9)
    assert clips.save(written, tmp_path / "clip.mp4", Fraction(30000, 1001), clips.BT709) == 9
    with clips.opened(tmp_path / "clip.mp4") as (clip, decoded):
        assert (clip.width, clip.height, clip.fps, clip.colour) == (64, 48, Fraction(30000, 1001), clips.BT709)
        assert not clip.audio
        read = list(decoded)
    assert len(read) == 9
    for a, b in zip(written, read, strict=True):
        assert np.abs(np.asarray(a).astype(int) - b).mean() < 3


def test_colour_is_kept_whatever_the_matrix(tmp_path):
    red = [Image.new("RGB", (64, 48), (200, 40, 30))] * 3
    for matrix in (clips.BT709, clips.BT601):
        clips.save(red, tmp_path / "red.mkv", Fraction(25), matrix)
        with clips.opened(tmp_path / "red.mkv") as (clip, decoded):
            assert clip.colour == matrix
            assert np.abs(next(decoded).astype(int) - (200, 40, 30)).max() < 6


def test_odd_sizes(tmp_path):
    clips.save(frames(2, 33, 21), tmp_path / "odd.mp4", Fraction(10))
    with clips.opened(tmp_path / "odd.mp4") as (_, decoded):
        assert next(decoded).shape == (21, 33, 3)


def test_frames_end_with_the_file(tmp_path):
    """Else what is left of them would run when the interpreter ends, and fail."""
    clips.save(frames(3), tmp_path / "clip.mp4", Fraction(10))
    with clips.opened(tmp_path / "clip.mp4") as (_, decoded):
        next(decoded)
    assert list(decoded) == []


def test_a_folder_of_png_files(tmp_path):
    assert clips.save(frames(3), tmp_path / "out", Fraction(25)) == 3
    assert [p.name for p in sorted((tmp_path / "out").iterdir())] == ["000000.png", "000001.png", "000002.png"]


def test_an_interrupted_video_is_whole(tmp_path):
    def interrupted():
        yield from frames(4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clips.save(interrupted(), tmp_path / "part.mp4", Fraction(25))
    with clips.opened(tmp_path / "part.mp4") as (_, decoded):
        assert len(list(decoded)) == 4


def test_what_is_no_video(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(PictureError, match="cannot be read as a video"), clips.opened(tmp_path / "text.mp4"):
        pass
    with pytest.raises(PictureError, match="cannot write a video of the name"):
        clips.save(frames(1), tmp_path / "a.gif7", Fraction(25))
    with pytest.raises(PictureError, match="no frames to write"):
        clips.save([], tmp_path / "none.mp4", Fraction(25))
    assert not (tmp_path / "none.mp4").exists()


def test_an_interrupt_before_the_first_frame_leaves_what_was_there(tmp_path):
    def interrupted():
        raise KeyboardInterrupt
        yield

    clips.save(frames(2), tmp_path / "old.mp4", Fraction(25))
    before = (tmp_path / "old.mp4").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        clips.save(interrupted(), tmp_path / "old.mp4", Fraction(25))
    assert (tmp_path / "old.mp4").read_bytes() == before


@pytest.mark.parametrize("suffix", sorted(clips.WRITABLE))
def test_every_suffix_that_is_offered_can_be_written(suffix, tmp_path):
    clips.save(frames(3), tmp_path / f"clip{suffix}", Fraction(25))
    with clips.opened(tmp_path / f"clip{suffix}") as (_, decoded):
        assert len(list(decoded)) == 3


def test_names_and_sizes_that_cannot_be(tmp_path, monkeypatch):
    with pytest.raises(PictureError, match=r"cannot write a video of the name 'a\.webm'"):
        clips.save(frames(1), tmp_path / "a.webm", Fraction(25))
    wide = Image.new("RGB", (16386, 32))
    with pytest.raises(PictureError, match="cannot write"):
        clips.save([wide], tmp_path / "a.mp4", Fraction(25))
    assert not list(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    clips.save(frames(1), tmp_path / "10:30.mp4", Fraction(25))
    with clips.opened("10:30.mp4") as (clip, _):
        assert clip.aspect == 1


def test_frames_of_two_videos_are_not_mixed(tmp_path):
    clips.save(frames(3), tmp_path / "frames", Fraction(25))
    with pytest.raises(PictureError, match="has frames already"):
        clips.save(frames(2), tmp_path / "frames", Fraction(25))
