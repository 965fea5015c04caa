"""The file format of videos: a header, then a record for each frame, each with a check of its own.

    byte 0      0xA7
    byte 1      kind and version: 0x02, a video of version 1; 0x03, of version 2, in which the quality may change
    bytes 2-3   CRC-16 (CCITT, initial value 0xFFFF) of every other byte of the header, big-endian
    bytes 4-6   the first bytes of the model's fingerprint
    byte 7      quality, as in a picture; in version 2 that of the first frame
    byte 8      colour matrix of the source by ITU-T H.273: 1 is BT.709, 5 and 6 are BT.601, 2 is unknown
    then        width, height, frames from one intra frame to the next, and the frames in a number of seconds and that
                number of seconds: unsigned LEB128, at most 4 bytes each

A record is one of

    P frame     payload length + 1 (LEB128), CRC-16 of the frame's number (4 bytes, big-endian) and the payload, payload
    I frame     0x00 0x49, the frame's number and the payload length (LEB128), CRC-16 of all these bytes, CRC-16 of the
                number and the payload, payload
    end         0x00 0x45, how many frames there are (LEB128), CRC-16 of all these bytes

so a P frame costs three or four bytes beyond its payload. In version 2 the head of an I frame has one more byte behind
the payload length: the quality of this frame and the next ones. A P frame that changes the quality is

    P frame     0x00 0x51, quality (1 byte), payload length + 1 (LEB128), CRC-16 of the frame's number, the quality and
                the payload, payload

A reader that meets something else goes on at the next I frame that is sound. A file without its end was cut short, and
is good up to there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from glc_toolkit.bitstream import FINGERPRINT_BYTES, MAGIC, VIDEO_V1, VIDEO_V2, crc16, is_video, leb128, read_leb128
from glc_toolkit.defaults import MAX_GAP
from glc_toolkit.types import BitstreamError

INTRA, CHANGED, END = b"\0I", b"\0Q", b"\0E"
GAP = 64  # frames missing in a row that a P frame's check can tell from damage
IN_VAIN = 64  # times its length that a file's bytes are hashed for checks that fail: more would be read for ever


@dataclass(frozen=True)
class VideoHeader:
    """The header: facts about every frame."""

    fingerprint: bytes  #: first bytes of the fingerprint of the model that wrote it
    quality_code: int  #: of every frame; in version 2 of the first
    width: int
    height: int
    intra_period: int
    fps: Fraction
    colour: int = 2  #: matrix of the source by ITU-T H.273
    varies: bool = False  #: version 2: the quality may change from frame to frame

    def to_bytes(self) -> bytes:
        sizes = (self.width, self.height, self.intra_period, self.fps.numerator, self.fps.denominator)
        rest = bytes([self.quality_code, self.colour]) + b"".join(map(leb128, sizes))
        head, rest = bytes([MAGIC, VIDEO_V2 if self.varies else VIDEO_V1]), self.fingerprint[:FINGERPRINT_BYTES] + rest
        return head + crc16(head + rest).to_bytes(2, "big") + rest


@dataclass(frozen=True)
class Frame:
    """The record of a frame."""

    number: int
    intra: bool
    quality_code: int
    payload: bytes
    offset: int  #: of the record in the file
    size: int  #: of the record


class Mismatch(BitstreamError):
    """A failed check, and how many bytes were hashed for it."""

    def __init__(self, reason: str, hashed: int):
        super().__init__(reason)
        self.hashed = hashed


@dataclass(frozen=True)
class Damage:
    """Frames that cannot be read."""

    number: int  #: of the first of them
    resumes: int | None  #: number of the intra frame where reading goes on; None at the end of the file
    offset: int
    reason: str

    def __str__(self) -> str:
        goes_on = "the file ends there" if self.resumes is None else f"it goes on at frame {self.resumes}"
        return f"{self.reason}; {goes_on}"


def record(frame_number: int, payload: bytes, intra: bool, quality_code: int | None = None) -> bytes:
    """The bytes of a frame's record. ``quality_code`` is for version 2: that of an I frame, and that of a P frame where
    it changes."""
    quality = b"" if quality_code is None else bytes([quality_code])
    if intra:
        check = _check(frame_number, payload).to_bytes(2, "big")
        head = INTRA + _number(frame_number) + _number(len(payload)) + quality
        return head + crc16(head).to_bytes(2, "big") + check + payload
    check = _check(frame_number, quality + payload).to_bytes(2, "big")
    return (CHANGED + quality if quality else b"") + leb128(len(payload) + 1) + check + payload


def end(frames: int) -> bytes:
    """The last record of a file, which says how many frames there are."""
    head = END + _number(frames)
    return head + crc16(head).to_bytes(2, "big")


def parse_header(data: bytes) -> tuple[VideoHeader, int]:
    """The header of a file, and its length. Raises :class:`BitstreamError`, which says what is wrong."""
    if len(data) < 14:
        raise BitstreamError(f"this is no GLC video: {len(data)} bytes are fewer than a header has")
    if not is_video(data):
        raise BitstreamError(f"this is no GLC video: it begins with {data[:2].hex(' ')}, not a7 02 or a7 03")
    at, sizes = 9, []
    for _ in range(5):
        value, at = read_leb128(data, at)
        sizes.append(value)
    if crc16(data[:2] + data[4:at]) != int.from_bytes(data[2:4], "big"):
        raise BitstreamError("the header of the video is damaged: its checksum does not match its bytes")
    if 0 in sizes:
        raise BitstreamError(f"the file claims an empty video: {sizes}")
    width, height, intra_period, frames, seconds = sizes
    rate = Fraction(frames, seconds)
    return VideoHeader(data[4:7], data[7], width, height, intra_period, rate, data[8], _varies(data)), at


def records(data: bytes, at: int, number: int = 0, max_gap: int | None = None) -> Iterator[Frame | Damage]:
    """The frames of a file in order, from offset ``at``, where frame ``number``, an I frame, begins.

    What cannot be read is one :class:`Damage` up to the next intra frame; so is the end of a file that was cut short.
    Of all frames no more may be missing than are sound so far, and ``max_gap`` besides, which is :data:`MAX_GAP` where
    ``None``, and no limit where 0.
    """
    limit = MAX_GAP if max_gap is None else max_gap or 2**28
    missing, sound, in_vain = 0, 0, IN_VAIN * len(data) + 2**20
    quality = int.from_bytes(data[7:8], "big")
    while True:
        try:
            frame = _read(data, at, number, quality)
        except BitstreamError as error:
            in_vain -= error.hashed if isinstance(error, Mismatch) else 0
            found = None if in_vain < 0 else _next_intra(data, at, number, number + limit + sound - missing)
            yield Damage(number, None if found is None else found[1], at, str(error))
            if found is None:
                return
            missing += found[1] - number
            at, number = found
            continue
        if frame is None:
            return
        yield frame
        sound += 1
        at, number, quality = frame.offset + frame.size, frame.number + 1, frame.quality_code


def _read(data: bytes, at: int, number: int, quality: int) -> Frame | None:
    """The record at ``at``, which should be that of frame ``number``; ``None`` if it is the end. ``quality`` is the
    byte of the frame before."""
    if at >= len(data):
        raise BitstreamError(f"the file is cut short after frame {number - 1}")
    kind, told = data[at : at + 2], b""  # told: the quality as far as it stands before the payload
    if data[at] == 0 and kind not in (INTRA, END) and not (kind == CHANGED and _varies(data)):
        raise BitstreamError(f"frame {number} is damaged: a record begins with {kind.hex(' ')}")
    if kind == END:
        frames, after = _read_number(data, at + 2)
        if crc16(data[at:after]) != int.from_bytes(data[after : after + 2], "big") or frames != number:
            counts = f"it counts {frames}, and {number} were read"
            raise BitstreamError(f"the end record is damaged, or frames are missing: {counts}")
        return None
    if kind == INTRA:
        own, length, quality, after = _intra_head(data, at)
        if own < number:
            raise BitstreamError(f"frame {number} is missing: frame {own} is in its place")
        if own > number:
            raise BitstreamError(f"frames {number} to {own - 1} are missing")
    else:
        begin = at
        if kind == CHANGED:
            told, begin = data[at + 2 : at + 3], at + 3
        length, after = read_leb128(data, begin)
        length -= 1
    if after + 2 + length > len(data):
        raise BitstreamError(f"the file is cut short in frame {number}")
    check, payload = int.from_bytes(data[after : after + 2], "big"), data[after + 2 : after + 2 + length]
    if _check(number, told + payload) != check:
        later = range(number + 1, number + (1 if kind == INTRA else GAP))
        found = next((own for own in later if _check(own, told + payload) == check), None)
        if found is not None:
            raise Mismatch(f"frames {number} to {found - 1} are missing", GAP * length)
        raise Mismatch(f"frame {number} is damaged: its checksum does not match its bytes", GAP * length)
    return Frame(number, kind == INTRA, told[0] if told else quality, payload, at, after + 2 + length - at)


def _next_intra(data: bytes, at: int, first: int, last: int) -> tuple[int, int] | None:
    """Offset and number of the next sound I frame from ``at`` on, among the frames ``first`` to ``last``."""
    while (at := data.find(INTRA, at)) >= 0:
        try:
            own, length, _, after = _intra_head(data, at)
        except BitstreamError:
            at += 1
            continue
        payload = data[after + 2 : after + 2 + length]
        sound = len(payload) == length and _check(own, payload) == int.from_bytes(data[after : after + 2], "big")
        if sound and first <= own <= last:
            return at, own
        at = after + 2 + length  # a sound head tells the length: look no more inside, or hostile files take for ever
    return None


def _intra_head(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Frame number, payload length, quality, and the offset of the payload's check."""
    number, after = _read_number(data, at + 2)
    length, after = _read_number(data, after)
    quality = int.from_bytes(data[7:8], "big")
    if _varies(data):
        quality, after = int.from_bytes(data[after : after + 1], "big"), after + 1
    if crc16(data[at:after]) != int.from_bytes(data[after : after + 2], "big"):
        raise BitstreamError("the head of an intra frame is damaged")
    return number, length, quality, after + 2


def _varies(data: bytes) -> bool:
    return data[1] == VIDEO_V2


def _check(number: int, payload: bytes) -> int:
    return crc16(number.to_bytes(4, "big") + payload)


def _number(value: int) -> bytes:
    """A frame number as the file has it: counted from one, because the fields of sizes are never zero."""
    return leb128(value + 1)


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    value, at = read_leb128(data, at)
    return value - 1, at
