"""The file format: header, payload, check.

    byte 0      0xA7
    byte 1      kind and version: 0x01, an image of version 1
    bytes 2-3   CRC-16 (CCITT, initial value 0xFFFF) of every other byte of the file, big-endian
    bytes 4-6   the first bytes of the model's fingerprint
    byte 7      quality: level * floor(255 / (levels - 1))
    then        width, height: unsigned LEB128, at most 4 bytes each
    then        the coder's stream: z, then the passes of y

12 bytes stand before the payload of an image with sides from 128 to 16,383 pixels, 10 of a smaller one.
"""

import binascii
import os
from dataclasses import dataclass
from typing import BinaryIO

from glc_toolkit.types import BitstreamError

MAGIC = 0xA7
IMAGE_V1, VIDEO_V1, VIDEO_V2 = 0x01, 0x02, 0x03  # of videos see glc_toolkit.videostream
FINGERPRINT_BYTES = 3
MAX_BYTES = 2**26  # of a picture's file: two for each pixel of the largest, hundreds of times what a model writes
MAX_VIDEO_BYTES = 2**31  # of a video's, hours of which are read at once: a map of a file that shrinks would kill


@dataclass(frozen=True)
class ImageStream:
    """A parsed file."""

    fingerprint: bytes  #: first bytes of the fingerprint of the model that wrote it
    quality_code: int
    width: int
    height: int
    payload: bytes

    @property
    def header_bytes(self) -> int:
        return len(_head(self))

    def to_bytes(self) -> bytes:
        head = _head(self)
        payload = self.payload or b"\0"  # zeros are left out at its end, but a header alone is no picture
        check = crc16(head[:2] + head[4:] + payload).to_bytes(2, "big")
        return head[:2] + check + head[4:] + payload


def read(path: str | os.PathLike) -> bytes:
    """The bytes of a file, or of a pipe.

    Raises :class:`BitstreamError`, without reading on, for more than a stream of its kind can have.
    """
    with open(path, "rb") as file:
        return read_pipe(file, str(path))


def read_pipe(file: BinaryIO, name: str) -> bytes:
    """The same of an open file, ``name`` in errors."""
    head = file.read(2)
    most = MAX_VIDEO_BYTES if is_video(head) else MAX_BYTES
    data = head + file.read(most + 1 - len(head))
    if len(data) > most:
        raise BitstreamError(f"{name} is no GLC file: it has more than {most} bytes")
    return data


def of(data: bytes | str | os.PathLike) -> bytes:
    """The bytes of a file, given them or its path."""
    return read(data) if isinstance(data, (str, os.PathLike)) else data


def is_video(data: bytes) -> bool:
    """Whether these are the bytes of a video."""
    return data[:2] in (bytes([MAGIC, VIDEO_V1]), bytes([MAGIC, VIDEO_V2]))


def parse(data: bytes) -> ImageStream:
    """Check a file and take it apart. Raises :class:`BitstreamError` that says what is wrong.

    Width and height are as the file claims them, from 1 to 2**28 - 1: bound them before making room for the picture.
    """
    if len(data) < 10:
        raise BitstreamError(f"this is no GLC file: {len(data)} bytes are fewer than a header has")
    if data[0] != MAGIC:
        raise BitstreamError(f"this is no GLC file: it begins with 0x{data[0]:02x}, not 0x{MAGIC:02x}")
    if data[1] != IMAGE_V1:
        raise BitstreamError(f"kind and version 0x{data[1]:02x} are unknown here; a newer glc-toolkit may read it")
    if crc16(data[:2] + data[4:]) != int.from_bytes(data[2:4], "big"):
        raise BitstreamError("the file is damaged or cut short: its checksum does not match its bytes")
    width, at = read_leb128(data, 8)
    height, at = read_leb128(data, at)
    if width == 0 or height == 0:
        raise BitstreamError(f"the file claims an empty picture, {width} x {height}")
    if at == len(data):
        raise BitstreamError("the file ends after its header and holds no picture")
    return ImageStream(data[4:7], data[7], width, height, data[at:])


def _head(s: ImageStream) -> bytes:
    fixed = bytes([MAGIC, IMAGE_V1, 0, 0]) + s.fingerprint[:FINGERPRINT_BYTES] + bytes([s.quality_code])
    return fixed + leb128(s.width) + leb128(s.height)


def crc16(data: bytes) -> int:
    """CRC-16 of CCITT, initial value 0xFFFF."""
    return binascii.crc_hqx(data, 0xFFFF)


def leb128(value: int) -> bytes:
    """Seven bits a byte, low ones first, the high bit set in all but the last. Raises ``ValueError`` beyond four."""
    if not 0 < value < 2**28:
        raise ValueError(f"{value} cannot be written: sides and other numbers are from 1 to 2**28 - 1")
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def read_leb128(data: bytes, at: int) -> tuple[int, int]:
    """The number at an offset, and the offset behind it."""
    value = 0
    for i in range(4):
        if at + i >= len(data):
            break
        value |= (data[at + i] & 127) << 7 * i
        if data[at + i] < 128:
            if i > 0 and data[at + i] == 0:
                raise BitstreamError("the file is damaged: a number in it has more bytes than it needs")
            return value, at + i + 1
    raise BitstreamError("the file is damaged: a number in it has no end")
