import contextlib
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glc_toolkit import BitstreamError, bitstream, videostream
from glc_toolkit.videostream import Damage, Frame

HEADER = videostream.VideoHeader(b"abc", 5, 640, 360, 4, Fraction(30000, 1001), 1)
RANDOM = np.random.default_rng(0)
PAYLOADS = [RANDOM.bytes(n) for n in (300, 0, 5, 90, 250, 126, 127, 1, 200, 17)]
RECORDS = [videostream.record(i, payload, i % 4 == 0) for i, payload in enumerate(PAYLOADS)]
START = len(HEADER.to_bytes())


def file(records: list[bytes], frames: int | None = len(PAYLOADS)) -> bytes:
    return HEADER.to_bytes() + b"".join(records) + (b"" if frames is None else videostream.end(frames))


def read(data: bytes) -> list[int | Damage]:
    """Numbers of the frames that are read, every one as it was written, and damages."""
    items = list(videostream.records(data, START))
    for item in items:
        if isinstance(item, Frame):
            assert item.payload == PAYLOADS[item.number] and item.intra == (item.number % 4 == 0)
    return [item.number if isinstance(item, Frame) else item for item in items]


def test_round_trip():
    header, at = videostream.parse_header(file(RECORDS))
    assert (header, at) == (HEADER, START)
    assert bitstream.is_video(file(RECORDS)) and START == 19
    assert read(file(RECORDS)) == list(range(10))
    sizes = [item.size - len(item.payload) for item in videostream.records(file(RECORDS), START) if not item.intra]
    assert max(sizes) <= 4


# -- version 2: the quality changes -----------------------------------------------------------------------------------

CODES = [9, 9, 200, 200, 0, 255, 255, 1, 73, 73]
VARYING = replace(HEADER, varies=True)


def varying(frames=range(10)) -> bytes:
    """A file of version 2, whole or without some frames."""
    told = [code if i % 4 == 0 or code != CODES[i - 1] else None for i, code in enumerate(CODES)]
    records = [videostream.record(i, PAYLOADS[i], i % 4 == 0, told[i]) for i in frames]
    return VARYING.to_bytes() + b"".join(records) + videostream.end(10)


def test_each_frame_has_its_quality():
    header, at = videostream.parse_header(varying())
    assert (header, at) == (VARYING, START) and bitstream.is_video(varying())
    found = list(videostream.records(varying(), at))
    assert [(f.quality_code, f.payload, f.intra) for f in found] == [
        (code, payload, i % 4 == 0) for i, (code, payload) in enumerate(zip(CODES, PAYLOADS, strict=True))
    ]
    assert sum(f.size for f in found) + at + len(videostream.end(10)) == len(varying())
    assert len(varying()) == len(file(RECORDS)) + 3 + 3 * 3  # a byte an intra frame, three a change
    late = list(videostream.records(varying(), found[8].offset, 8))
    assert [f.quality_code for f in late] == CODES[8:]
    assert {f.quality_code for f in videostream.records(file(RECORDS), START)} == {HEADER.quality_code}


def test_a_lost_change_of_quality_costs_the_frames_up_to_the_next_intra_frame():
    for lost, resumes in ((2, 4), (5, 8)):
        found = list(videostream.records(varying([i for i in range(10) if i != lost]), START))
        damage = found[lost]
        assert (damage.number, damage.resumes) == (lost, resumes)
        assert [f.quality_code for f in found[lost + 1 :]] == CODES[resumes:]


def test_every_flipped_byte_of_version_2_is_detected():
    data = varying()
    for at in range(len(data)):
        for bits in (0x01, 0x80, 0xFF):
            bad = bytearray(data)
            bad[at] ^= bits
            try:
                _, body = videostream.parse_header(bytes(bad))
            except BitstreamError:
                assert at < START
                continue
            assert any(isinstance(item, Damage) for item in videostream.records(bytes(bad), body)), at


def test_a_file_of_version_2_cut_short_is_read_up_to_its_last_whole_frame():
    data = varying()
    ends = np.cumsum([START, *(f.size for f in videostream.records(data, START))])
    for length in range(START, len(data)):
        found = list(videostream.records(data[:length], START))
        assert [f.quality_code for f in found[:-1]] == CODES[: int((ends[1:] <= length).sum())]
        assert isinstance(found[-1], Damage) and found[-1].resumes is None


def test_version_1_knows_no_change_of_quality():
    """What writes one is no encoder of version 1; and who knows version 1 alone says that the version is new."""
    data = HEADER.to_bytes() + RECORDS[0] + videostream.record(1, PAYLOADS[1], False, 7) + videostream.end(2)
    assert "begins with 00 51" in list(videostream.records(data, START))[1].reason
    with pytest.raises(BitstreamError, match="0x03 are unknown here; a newer glc-toolkit may read it"):
        bitstream.parse(varying())


# -- both ------------------------------------------------------------------------------------------------------------


def test_a_p_frame_of_16_kilobytes_costs_four_bytes():
    assert len(videostream.record(10**6, bytes(2**14 - 2), False)) == 2**14 - 2 + 4


@pytest.mark.parametrize("lost, resumes", [((2,), 4), ((1, 2, 3), 4), ((4,), 8), ((9,), None), ((3, 4, 5), 8)])
def test_missing_frames_are_reported_and_reading_goes_on_at_the_next_intra_frame(lost, resumes):
    found = read(file([r for i, r in enumerate(RECORDS) if i not in lost]))
    damage = found[lost[0]]
    assert (damage.number, damage.resumes) == (lost[0], resumes)
    assert found[lost[0] + 1 :] == ([] if resumes is None else list(range(resumes, 10)))


def test_every_flipped_byte_is_detected():
    data = file(RECORDS)
    for at in range(len(data)):
        for bits in (0x01, 0x80, 0xFF):
            bad = bytearray(data)
            bad[at] ^= bits
            if at < START:
                with pytest.raises(BitstreamError):
                    videostream.parse_header(bytes(bad))
            else:
                assert any(isinstance(item, Damage) for item in read(bytes(bad))), at


def test_a_file_cut_short_is_read_up_to_the_last_whole_frame():
    data = file(RECORDS)
    ends = np.cumsum([START, *map(len, RECORDS)])
    for length in range(START, len(data)):
        found = read(data[:length])
        whole = int((ends[1:] <= length).sum())
        assert found[:-1] == list(range(whole)) and found[-1].number == whole and found[-1].resumes is None


@given(st.binary(max_size=400))
def test_anything_else_is_damage_or_a_bitstream_error(data):
    with contextlib.suppress(BitstreamError):
        videostream.parse_header(data)
    list(videostream.records(data, 0))
    list(videostream.records(VARYING.to_bytes() + data, START))


def test_hostile_intra_heads_take_linear_time():
    """Many sound heads that claim long payloads: each is skipped whole, or this would take hours."""
    data = HEADER.to_bytes() + videostream.record(0, bytes(2**20), True)[:12] * 200_000
    assert isinstance(list(videostream.records(data, START))[-1], Damage)


@pytest.mark.parametrize("max_gap, most", [(None, 1024), (7, 7), (0, 2**27)])
def test_a_frame_too_far_ahead_is_not_gone_on_with(max_gap, most):
    """Each frame that is missing gives a picture: a few bytes would ask for millions."""
    for missing, resumes in ((most + 1, most + 2), (most + 2, None)):  # and as many as there are: one
        data = HEADER.to_bytes() + videostream.record(0, b"x", True) + videostream.record(1 + missing, b"x", True)
        found = videostream.records(data, START, max_gap=max_gap)
        damage = next(item for item in found if isinstance(item, Damage))
        assert (damage.number, damage.resumes) == (1, resumes if max_gap != 0 else missing + 1)


def test_frames_that_are_missing_count_over_the_whole_file():
    far = b"".join(videostream.record(k * 2**9, b"", True) for k in range(5))
    found = [item for item in videostream.records(HEADER.to_bytes() + far, START) if isinstance(item, Damage)]
    assert [damage.resumes for damage in found] == [2**9, 2**10, None]


def test_an_intra_frame_cut_short_ends_reading():
    """Its payload's check is that of what there is of it: found again and again, it would be read for ever."""
    short = b"12345"
    head = videostream.INTRA + bitstream.leb128(1) + bitstream.leb128(100)
    check = bitstream.crc16(bytes(4) + short)
    data = HEADER.to_bytes() + head + bitstream.crc16(head).to_bytes(2, "big") + check.to_bytes(2, "big") + short
    (damage,) = videostream.records(data, START)
    assert (damage.number, damage.resumes) == (0, None) and "cut short" in damage.reason


def test_hostile_p_frames_take_linear_time():
    """Each claims all that is left, with a wrong check; between two stands an intra frame to go on with."""
    pair, count = len(videostream.record(0, b"", True)) + 3 + 2, 40_000
    data = bytearray(HEADER.to_bytes())
    for k in range(count):
        rest = min(pair * (count - k), 2**21) - 200
        p = bitstream.leb128(max(rest, 2**14)) + b"\x55\x55"
        data += videostream.record(k, b"", True) + p
    assert isinstance(list(videostream.records(bytes(data), START))[-1], Damage)


def test_what_no_header_has():
    for change in ({"width": 0}, {"fps": Fraction(2**30)}):
        with pytest.raises(ValueError):
            videostream.VideoHeader(**{**HEADER.__dict__, **change}).to_bytes()
    with pytest.raises(BitstreamError, match="no GLC video"):
        videostream.parse_header(b"\xa7\x01" + bytes(30))
