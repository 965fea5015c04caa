import math
import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glc_toolkit as glc
from glc_toolkit import api, videostream, zoo
from glc_toolkit.ratecontrol import Budget, RateControl

HIGHEST, HEADER, PERIOD = 255, 19, 12

# Bytes of a frame at the lowest quality, and by how much they rise up to the highest.
clips = st.lists(st.tuples(st.integers(0, 90), st.floats(0, 8)), min_size=1, max_size=40)


def frame(lowest: float, rise: float = 2.0):
    """What a codec gives for a quality code."""
    return lambda code: (None, bytes(round(lowest * (1 + rise * (code / HIGHEST) ** 2))))


def controlled(frames: list, budget: Budget) -> tuple[int, list[int]]:
    """Bytes of the file, and the quality codes."""
    control, size, codes = RateControl(budget, HIGHEST, HEADER), HEADER, []
    for number, coded in enumerate(frames):
        code, told = control.fit(coded, control.plan(coded))
        size += len(videostream.record(number, coded(code)[1], number % budget.intra_period == 0, told))
        assert told in (None, code) and (told is not None or code == codes[-1])
        codes.append(code)
        assert control.spent == size
    return size + len(videostream.end(len(frames))), codes


@settings(max_examples=150)
@given(clips, st.integers(1, 4000), st.integers(-3, 3))
def test_no_file_is_above_its_budget(clip, most, wrong):
    """Whatever frames take, and though there are more or fewer of them than were announced."""
    budget = Budget(PERIOD, max(len(clip) + wrong, 1), most, None)
    try:
        size, _ = controlled([frame(*f) for f in clip], budget)
    except ValueError as error:
        assert "does not fit even at the lowest quality" in str(error)
    else:
        assert size <= most


@settings(max_examples=50)
@given(clips, st.floats(3, 200))
def test_a_share_of_each_frame_is_kept_at_the_end_of_every_period(clip, share):
    frames = [frame(*f) for f in clip]
    whole = len(clip) - len(clip) % PERIOD
    for known in (len(clip), None):
        try:
            size, _ = controlled(frames if known else frames[:whole], Budget(PERIOD, known, None, share))
        except (ValueError, IndexError):
            continue
        assert size <= share * (len(clip) if known else whole) or not (known or whole)


@pytest.mark.parametrize("share", [1.02, 1.3, 2.0])
@pytest.mark.parametrize("known", [True, False])
def test_a_budget_that_can_be_kept_is_kept_and_used(share, known):
    """Frames that vary, of which every one can have every quality."""
    random = np.random.default_rng(0)
    frames = [frame(300 if i % 96 == 0 else random.uniform(20, 60)) for i in range(192)]
    lowest, _ = controlled([lambda _, f=f: f(0) for f in frames], Budget(96, 192, 10**6, None))
    bytes_ = int(share * lowest)
    budget = Budget(96, 192, bytes_, None) if known else Budget(96, None, None, bytes_ / 192)
    size, codes = controlled(frames, budget)
    assert 0.9 * bytes_ < size <= bytes_
    assert sum(a != b for a, b in pairwise(codes)) < 60  # it changes now and then


def test_a_loose_budget_gives_the_highest_quality():
    _, codes = controlled([frame(40)] * 30, Budget(96, 30, 10**6, None))
    assert codes == [HIGHEST] * 30


def test_frames_that_become_harder_still_fit():
    frames = [frame(40 + i / 2, 1.5) for i in range(96)]
    lowest = sum(len(f(0)[1]) for f in frames)
    assert controlled(frames, Budget(96, 96, int(1.5 * lowest), None))[0] <= 1.5 * lowest


def test_a_refusal_says_how_much_would_do():
    frames = [frame(300), *[frame(40)] * 95]
    with pytest.raises(ValueError, match="budget of 2,000 bytes for 96 frames is too small") as error:
        controlled(frames, Budget(96, 96, 2000, None))
    frame_number, enough = re.search(r"frame (\d+) does not fit .* about ([\d,]+)", str(error.value)).groups()
    assert int(frame_number) > 30  # it goes on as long as the rest may be easier
    assert int(enough.replace(",", "")) == pytest.approx(300 + 95 * 43, rel=0.02)


# -- the codec ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(photo) -> list:
    """Eight small frames over which the view wanders."""
    return [photo.crop((100 + 6 * i, 100, 356 + 6 * i, 292)).resize((64, 48)) for i in range(8)]


@pytest.fixture(scope="module")
def video():
    return zoo.load(api.DEFAULT_VIDEO_MODEL)


@pytest.fixture(scope="module")
def sizes(clip, video) -> tuple[int, int]:
    """Bytes at the lowest and at the highest quality."""
    return tuple(len(b"".join(glc.encode_video(clip, video, quality=q, intra_period=4))) for q in (0, 3))


def test_real_files_are_within_any_budget(clip, video, sizes):
    refused, low, high = [], *sizes
    for budget in (19, low // 2, (low + high) // 2, high + 60):
        try:
            data = b"".join(glc.encode_video(clip, video, max_bytes=budget, intra_period=4))
        except ValueError:
            refused.append(budget)
            continue
        assert len(data) <= budget
        facts = api.info(data, video)
        assert facts["damages"] == [] and len([*glc.decode_video(data, video, strict=True)]) == 8
    assert refused == [19, low // 2]


def test_another_process_decodes_what_changes_its_quality(clip, video, sizes, tmp_path):
    budget = sum(sizes) // 2
    data = b"".join(glc.encode_video(clip, video, max_bytes=budget, intra_period=4))
    assert 0.8 * budget < len(data) <= budget
    facts = api.info(data, video)
    assert len({record["quality"] for record in facts["records"]}) > 2
    (tmp_path / "clip.glv").write_bytes(data)
    code = (
        "import sys, torch, glc_toolkit as glc; torch.set_num_threads(2)\n"
        "for picture in glc.decode(sys.argv[1]): sys.stdout.buffer.write(picture.tobytes())"
    )
    shown = subprocess.run([sys.executable, "-c", code, tmp_path / "clip.glv"], capture_output=True, check=True).stdout
    here = np.stack([np.asarray(picture) for picture in glc.decode(data)]).astype(int)
    assert np.abs(here - np.frombuffer(shown, np.uint8).reshape(here.shape)).max() <= 1
    late = [*glc.decode_video(data, start=6)]  # from the intra frame before, whose record tells the quality
    assert [p.tobytes() for p in late] == [p.tobytes() for p in [*glc.decode(data)][6:]]


def test_target_bpp_of_frames_of_any_number(clip, video, sizes):
    """A generator has no length: the target holds at the end of each intra period."""
    target = 8 * 1.1 * sizes[1] / (64 * 48 * 8)
    known = b"".join(glc.encode_video(clip, video, target_bpp=target, intra_period=4))
    assert 8 * len(known) <= target * 64 * 48 * 8
    chunks = [*glc.encode_video((f for f in clip), video, target_bpp=target, intra_period=4)]
    assert 8 * sum(map(len, chunks[:5])) <= target * 64 * 48 * 4
    with pytest.raises(ValueError, match="max_bytes needs the number of frames"):
        next(glc.encode_video((f for f in clip), video, max_bytes=10**6))
    assert b"".join(glc.encode_video((f for f in clip), video, max_bytes=10**6, count=8, intra_period=4))


def test_effort_within_a_budget(clip, video, sizes):
    budget = (sizes[0] + sizes[1]) // 2
    data = b"".join(glc.encode_video(clip[:4], video, max_bytes=budget, effort=2))
    assert len(data) <= budget and len([*glc.decode_video(data, video, strict=True)]) == 4


@pytest.mark.parametrize("budget", [{"max_bytes": 0}, {"target_bpp": math.nan}, {"max_bytes": 9, "quality": 1}])
def test_impossible_budgets_are_refused(clip, budget):
    with pytest.raises(ValueError, match=r"has to be a positive number|not several"):
        next(glc.encode_video(clip, **budget))
