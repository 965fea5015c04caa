import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glc_toolkit import BitstreamError, bitstream
from glc_toolkit.bitstream import ImageStream, parse

sides = st.integers(1, 8000)


@given(st.binary(min_size=3, max_size=3), st.integers(0, 255), sides, sides, st.binary(max_size=200))
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


def claim(width: int, height: int) -> bytes:
    """A file with a valid checksum that claims a size."""
    head = ImageStream(b"abc", 0, 1, 1, b"").to_bytes()[:8]
    sizes = b"".join(bitstream._leb128(v) if v else b"\0" for v in (width, height))
    body = head[:2] + head[4:] + sizes
    return body[:2] + bitstream._crc(body).to_bytes(2, "big") + body[2:]


def test_absurd_sizes_are_refused():
    with pytest.raises(BitstreamError, match="100000 x 100000 pixels"):
        parse(claim(100_000, 100_000))
    with pytest.raises(BitstreamError, match="empty picture"):
        parse(claim(0, 5))
    assert parse(claim(100, 100)).width == 100
    with pytest.raises(BitstreamError, match="limit of 50"):
        parse(claim(100, 100), max_pixels=50)
