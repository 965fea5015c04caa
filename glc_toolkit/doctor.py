"""What is wrong with a GLC file, where it begins, and what can still be shown.

One checksum covers a whole picture: it says that something is wrong, but not where. The entropy decoder says more. It
may meet what no encoder writes. It may read symbols that are worth more bytes than there are, because the file was cut,
or fewer bytes. In a video each frame has a checksum, so sound frames are known without decoding.
"""

from dataclasses import asdict, dataclass, field

import numpy as np

from glc_toolkit import bitstream, io, videostream, zoo
from glc_toolkit.api import CODES, Model, resolve
from glc_toolkit.coder import SLACK, Decoder
from glc_toolkit.models import GLCImage, GLCModel, GLCVideo
from glc_toolkit.types import BitstreamError, ModelFileError, UnknownModelError

HEADER, BEHIND = "header", "behind the last pass"


@dataclass
class Diagnosis:
    """All that could be found out."""

    bytes: int
    header: dict = field(default_factory=dict)  #: the fields that could be read, right or wrong
    sections: dict[str, float] = field(default_factory=dict)  #: how many bytes the symbols of each section are worth
    problems: list[str] = field(default_factory=list)
    unknown: str = ""  #: why its model is not known here; then only the header was looked at
    first_bad: str | None = None  #: section where the first problem shows; the damage is there or before it
    shows: str = "nothing"  #: "the picture", "a preview", which frames, "nothing", or "nothing without its model"

    def add(self, problem: str, where: str | None = None) -> None:
        self.problems.append(problem)
        self.first_bad = self.first_bad or where

    def to_dict(self) -> dict:
        return {"sound": not self.problems, **asdict(self)}


def diagnose(
    data: bytes, model: str | GLCModel | None = None, max_pixels: int | None = None, device: str = "cpu"
) -> tuple[Diagnosis, io.Image.Image | None]:
    """What is wrong with a file, and the preview that z gives, or ``None`` if it cannot be shown.

    Args:
        data: the file, or as much of it as there is.
        model: the model to read it with, whatever the file names. ``None`` finds it by the fingerprint in the file.
        max_pixels: as in :func:`glc_toolkit.api.decode`.
        device: as in :func:`glc_toolkit.api.decode`.

    Raises :class:`ModelFileError` if ``model`` is bad; a bad file is a result.
    """
    found = Diagnosis(len(data))
    given = zoo.load(model, device) if isinstance(model, str) else model
    if bitstream.is_video(data):
        read_video(data, given, found, device)
        return found, None
    stream = read_header(data, found)
    if stream is None:
        return found, None
    codec = reader(stream, given, GLCImage, found, device)
    if codec is None:
        return found, None
    if reason := io.too_large(stream.width, stream.height, codec.downsampling_factor, max_pixels):
        found.add(f"it claims too large a picture: {reason}", HEADER)
        return found, None
    try:
        found.header["quality"] = round(codec.quality_of(stream.quality_code), 4)
    except BitstreamError as error:
        found.add(str(error), HEADER)
        return found, None
    return found, read_payload(stream, codec, found)


def read_header(data: bytes, found: Diagnosis) -> bitstream.ImageStream | None:
    """The parsed file, whether its checksum is right or not; ``None`` if its payload cannot be read."""
    if len(data) < 10:
        found.add(f"{len(data)} bytes are fewer than a header has", HEADER)
        return None
    if data[0] != bitstream.MAGIC:
        found.add(f"it begins with 0x{data[0]:02x}, as no GLC file does (0x{bitstream.MAGIC:02x})", HEADER)
    if data[1] != bitstream.IMAGE_V1:
        kind = "unknown here; a newer glc-toolkit may read it"
        found.add(f"its kind and version, 0x{data[1]:02x}, are {kind}", HEADER)
    stored, computed = int.from_bytes(data[2:4], "big"), bitstream.crc16(data[:2] + data[4:])
    found.header = {
        "kind": data[1],
        "checksum": f"{stored:04x}",
        "computed": f"{computed:04x}",
        "fingerprint": data[4:7].hex(),
        "quality_code": data[7],
    }
    if stored != computed:
        found.add(f"its checksum is {stored:04x}, but its bytes have {computed:04x}: it is damaged or cut short")
    try:
        width, at = bitstream.read_leb128(data, 8)
        height, at = bitstream.read_leb128(data, at)
    except BitstreamError as error:
        found.add(str(error), HEADER)
        return None
    found.header |= {"width": width, "height": height, "bytes": at}
    if 0 in (width, height):
        found.add(f"it claims an empty picture, {width} x {height}", HEADER)
    if at == len(data):
        found.add("it has a header alone, and no picture", HEADER)
    known = data[:2] == bytes([bitstream.MAGIC, bitstream.IMAGE_V1]) or stored != computed
    readable = known and width and height and at < len(data)
    return bitstream.ImageStream(data[4:7], data[7], width, height, data[at:]) if readable else None


def read_video(data: bytes, model: GLCModel | None, found: Diagnosis, device: str) -> None:
    """Read the header of a video, find the sound frames, and say what is wrong with the others."""
    try:
        header, at = videostream.parse_header(data)
    except BitstreamError as error:
        return found.add(str(error), HEADER)
    found.header = {
        "fingerprint": header.fingerprint.hex(),
        "quality_code": header.quality_code,
        "width": header.width,
        "height": header.height,
        "intra_period": header.intra_period,
        "fps": float(header.fps),
        "bytes": at,
    }
    found.sections = {"I frames": 0, "P frames": 0}
    runs: list[list[int]] = []
    for item in videostream.records(data, at):
        if isinstance(item, videostream.Damage):
            found.add(f"{item} (byte {item.offset})", f"frame {item.number}")
            continue
        found.sections["I frames" if item.intra else "P frames"] += item.size
        if runs and runs[-1][1] == item.number - 1:
            runs[-1][1] = item.number
        else:
            runs.append([item.number, item.number])
    found.shows = ", ".join(f"frames {first} to {last}" for first, last in runs) or "nothing"
    reader(header, model, GLCVideo, found, device)


def reader(
    stream: bitstream.ImageStream | videostream.VideoHeader,
    model: GLCModel | None,
    kind: type[Model],
    found: Diagnosis,
    device: str,
) -> Model | None:
    """The model that reads the file; ``None`` if it is unknown or codes the other kind of file."""
    try:
        model, mismatch = resolve(stream, model, device=device)
    except UnknownModelError as error:
        found.unknown = str(error)
        found.shows = "nothing without its model" if found.shows == "nothing" else f"{found.shows}, with its model"
        return None
    except (BitstreamError, ModelFileError) as error:
        found.add(str(error), HEADER)
        return None
    if mismatch:
        found.add(mismatch, HEADER)
    found.header["model"] = model.config.get("name", "unnamed")
    if not isinstance(model, kind):
        found.add(f"it is no file of {found.header['model']!r}, which codes {CODES[type(model)]}", HEADER)
        return None
    return model


def read_payload(stream: bitstream.ImageStream, model: GLCImage, found: Diagnosis) -> io.Image.Image | None:
    """Find how many bytes each section is worth. The result is the preview, if z can be read."""
    shape, size = (stream.height, stream.width), len(stream.payload)
    decoder = Decoder(stream.payload)
    broken = None
    try:
        model.decode_latent(decoder, shape)
    except BitstreamError as error:
        broken = str(error)
    names = ["z", *(f"y pass {k}" for k in range(len(decoder.worth)))]
    found.sections = dict(zip(names, (round(worth, 1) for worth in decoder.worth), strict=False))
    ends = np.cumsum([0.0, *decoder.worth])
    slack = SLACK + 0.01 * size
    short = next((i for i, end in enumerate(ends[1:]) if end > size + slack), None)
    if short is not None:
        found.add(
            f"it is cut short or damaged: up to {names[short]} its symbols are worth {ends[short + 1]:.0f} bytes, "
            f"of which there are {size}",
            names[short],
        )
    elif broken:
        found.add(f"{broken} (in {names[len(decoder.worth)]})", names[len(decoder.worth)])
    elif ends[-1] < size - slack:
        found.add(f"its symbols are worth {ends[-1]:.0f} bytes, but there are {size}", BEHIND)
    if not found.problems:
        found.shows = "the picture"
    elif found.first_bad in (HEADER, "z") or not decoder.worth:
        return None
    else:
        found.shows = "a preview"
    return io.to_pillow(model.decode_payload(stream.payload, stream.quality_code, shape, preview=True))
