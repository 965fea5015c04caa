import contextlib
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glc_toolkit import BitstreamError, bitstream, videostream
from glc_toolkit.bitstream import ImageStream, parse
from tests.make_golden import DATA

sides = st.integers(1, 8000)


@given(st.binary(min_size=3, max_size=3), st.integers(0, 255), sides, sides, st.binary(min_size=1, max_size=200))
def test_round_trip(fingerprint, code, width, height, payload):
    stream = ImageStream(fingerprint, code, width, height, payload)
    data = stream.to_bytes()
    assert parse(data) == stream
    assert len(data) == stream.header_bytes + len(payload)
    assert stream.header_bytes <= 12


def test_every_changed_byte_is_detected():
    data = ImageStream(b"abc", 7, 768, 512, bytes(range(256))).to_bytes()
    for i in range(len(data)):
        for flip in (1, 128, 255):
            damaged = data[:i] + bytes([data[i] ^ flip]) + data[i + 1 :]
            with pytest.raises(BitstreamError):
                parse(damaged)


def test_every_truncation_is_detected():
    data = ImageStream(b"abc", 7, 768, 512, bytes(range(1, 200))).to_bytes()
    for end in range(len(data)):
        with pytest.raises(BitstreamError):
            parse(data[:end])


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data):
    for candidate in (data, bytes([bitstream.MAGIC, bitstream.IMAGE_V1]) + data):
        with contextlib.suppress(BitstreamError):
            parse(candidate)


def claim(width: bytes, height: bytes, payload: bytes = b"x") -> bytes:
    """A file with a valid checksum that gives its size so."""
    head = ImageStream(b"abc", 0, 1, 1, b"").to_bytes()[:8]
    body = head[:2] + head[4:] + width + height + payload
    return body[:2] + bitstream.crc16(body).to_bytes(2, "big") + body[2:]


def test_impossible_sizes_are_refused():
    assert parse(claim(bytes([100]), bytes([0x80, 1]))).height == 128
    for width, height in ((b"\0", b"\5"), (b"\5", b"\0")):
        with pytest.raises(BitstreamError, match="empty picture"):
            parse(claim(width, height))
    for side in (bytes([0xE4, 0]), bytes([0x80, 0x80, 0]), bytes([0x80, 0])):
        with pytest.raises(BitstreamError, match="more bytes than it needs"):
            parse(claim(side, bytes([100])))
    with pytest.raises(BitstreamError, match="no end"):
        parse(claim(bytes(4 * [0xFF]), bytes([1])))


def test_a_header_alone_is_no_picture():
    with pytest.raises(BitstreamError, match="holds no picture"):
        parse(claim(b"\5", b"\5", b""))
    assert parse(ImageStream(b"abc", 0, 5, 5, b"").to_bytes()).payload == b"\0"


def test_a_video_that_shrinks_while_it_is_read(tmp_path):
    """A map of it would end the process with SIGBUS."""
    path = tmp_path / "clip.glv"
    path.write_bytes((DATA / "glc-video-0.01@1.glv").read_bytes() + bytes(2**16))
    data = bitstream.read(path)
    with path.open("r+b") as file:
        file.truncate(3)
    _, at = videostream.parse_header(data)
    assert len([item for item in videostream.records(data, at) if isinstance(item, videostream.Frame)]) == 12


def test_pipes_are_read(tmp_path):
    for name in ("glc-video-0.01@1.glv", "glc-image-0.03@1-64x1.glc"):
        pipe, data = tmp_path / name, (DATA / name).read_bytes()
        os.mkfifo(pipe)
        threading.Thread(target=pipe.write_bytes, args=(data,)).start()
        assert bitstream.read(pipe) == data


def test_files_of_any_length_are_not_read_whole(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"abc")
    assert bitstream.read(small) == b"abc"
    with large.open("wb") as file:
        file.truncate(2**40)  # a hole, which takes no room on the disk
    with pytest.raises(BitstreamError, match=f"large is no GLC file: it has more than {2**26} bytes"):
        bitstream.read(large)
