"""A codec that is a program: an encoder and a decoder by command line, described in a YAML file.

    name: cjxl                          # default: the name of the file
    needs: "Debian: apt install libjxl-tools"
    version: cjxl --version             # the first line of what this says goes into every result
    settings: [1, 10, 30, 60]           # all there are, from the smallest file to the largest
    default: [1, 30]                    # default: all
    codes: [pictures]                   # or clips, or both
    source: .png                        # what the encoder reads
    coded: .jxl                         # what it writes, and the decoder reads
    decoded: .png                       # what the decoder writes
    encode: cjxl {input} {output} -q {quality}
    decode: djxl {input} {output}
    timeout: 600                        # seconds for each command

``source`` and ``decoded`` are the suffix of a format of Pillow for pictures; ``.y4m`` or ``.yuv`` (4:2:0 in BT.709, odd
sides padded by their last line); or ``frames``, a folder of ``00001.png`` and so on. ``pixels`` is FFmpeg's name of the
pixel format in a ``.yuv`` that the decoder writes, ``yuv420p`` by default. ``coded`` is a suffix, or ``folder`` for a
program that writes several files. A command may be a list of commands, and no shell runs it. Each command knows
``{input} {output} {quality} {width} {height} {here}``, and an encoder ``{fps} {frames}``, too. ``{here}`` is the folder
of the YAML file.

Encoder and decoder run in temporary folders of their own. The decoder has nothing but the coded bytes. If ``decode``
names ``{quality}``, these begin with the setting, a byte. If frames are YUV, width and height follow, two bytes each.
Files of a ``folder`` are put together with their names.
"""

import hashlib
import os
import shlex
import signal
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from glc_toolkit import io
from glc_toolkit.evaluation.family import Family

KINDS = ("pictures", "clips")
YUV = (".y4m", ".yuv")
FRAMES, FOLDER = "frames", "folder"


@dataclass
class Description:
    """What the YAML file says."""

    file: Path
    settings: list
    encode: list[str] | str
    decode: list[str] | str
    coded: str
    source: str = ".png"
    decoded: str = ".png"
    pixels: str = "yuv420p"
    codes: list[str] = field(default_factory=lambda: ["pictures"])
    default: list = field(default_factory=list)
    version: str = ""
    needs: str = ""
    timeout: float = 600
    name: str = ""

    def __post_init__(self):
        self.name = self.name or self.file.stem
        self.settings, self.default = ([str(s) for s in some] for some in (self.settings, self.default))
        if not self.settings or set(self.default) - set(self.settings):
            needed = ", ".join(self.default) or "at least one"
            raise ValueError(f"settings has to list every setting that is used: {needed}")
        if not self.codes or set(self.codes) - set(KINDS):
            raise ValueError(f"codes is a list of {' and '.join(KINDS)}")
        if "clips" in self.codes and not {self.source, self.decoded} <= {*YUV, FRAMES}:
            raise ValueError(f"source and decoded of clips are {', '.join(YUV)} or {FRAMES}")

    @property
    def is_yuv(self) -> bool:
        return bool({self.source, self.decoded} & {*YUV})

    @property
    def asks_quality(self) -> bool:
        """Whether the decoder has to be told the setting, which costs a byte."""
        return "{quality}" in str(self.decode)

    def run(self, commands: list[str] | str, fails: bool = False, **words: object) -> str:
        """What the last command prints. Raises ``ValueError`` for a command that is absent, takes too long, or ends
        with an exit code other than 0. With ``fails`` any exit code will do."""
        said = ""
        for command in [commands] if isinstance(commands, str) else commands:
            try:
                line = [word.format(**words, here=self.file.parent.resolve()) for word in shlex.split(command)]
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(f"{self.file}: {command!r} cannot be filled in: {error}") from error
            said = self._call(line, fails)
        return said

    def _call(self, line: list[str], fails: bool) -> str:
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen(
                    line, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
            except OSError as error:
                raise ValueError(f"{self.name}: {line[0]} cannot be run ({error.strerror}). {self.needs}") from error
            try:
                code = process.wait(self.timeout)
            except BaseException as error:  # Ctrl-C, too: the processes that it started end with it
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise ValueError(f"{self.name}: {shlex.join(line)} took more than {self.timeout:g} s") from None
                raise
            output.seek(0)
            said = output.read().decode(errors="replace")
        if code and not fails:
            last = " / ".join(said.strip().splitlines()[-3:])
            raise ValueError(f"{self.name}: {shlex.join(line)} ended with exit code {code}: {last}")
        return said


@dataclass
class Program:
    """A program at one setting, for clips."""

    description: Description
    quality: str

    def encode(self, frames: Sequence[np.ndarray], fps: Fraction = Fraction(1)) -> bytes:
        told = self.description
        height, width, _ = frames[0].shape
        head = bytes([told.settings.index(self.quality)]) if told.asks_quality else b""
        if told.is_yuv:
            head += struct.pack(">2H", width, height)
            frames = [np.pad(f, ((0, height % 2), (0, width % 2), (0, 0)), "edge") for f in frames]
            height, width, _ = frames[0].shape
        with tempfile.TemporaryDirectory() as place:
            source = Path(place, f"source{told.source}" if told.source != FRAMES else FRAMES)
            coded = Path(place, f"coded{told.coded}" if told.coded != FOLDER else FOLDER)
            write(frames, source, fps)
            if told.coded == FOLDER:
                coded.mkdir()
            words = {"fps": float(fps), "frames": len(frames), "width": width, "height": height}
            told.run(told.encode, input=source, output=coded, quality=self.quality, **words)
            if not coded.exists():
                raise ValueError(f"{told.name}: its encoder wrote no {coded.name}")
            return head + (pack(coded) if told.coded == FOLDER else coded.read_bytes())

    def decode(self, data: bytes) -> list[np.ndarray]:
        told = self.description
        quality = size = None
        if told.asks_quality:
            quality, data = told.settings[data[0]], data[1:]
        if told.is_yuv:
            size, data = struct.unpack_from(">2H", data), data[4:]
        width, height = (side + side % 2 for side in size or (0, 0))
        with tempfile.TemporaryDirectory() as place:
            coded = Path(place, f"coded{told.coded}" if told.coded != FOLDER else FOLDER)
            decoded = Path(place, f"decoded{told.decoded}" if told.decoded != FRAMES else FRAMES)
            if told.coded == FOLDER:
                unpack(data, coded)
            else:
                coded.write_bytes(data)
            if told.decoded == FRAMES:
                decoded.mkdir()
            told.run(told.decode, input=coded, output=decoded, quality=quality, width=width, height=height)
            if not decoded.exists():
                raise ValueError(f"{told.name}: its decoder wrote no {decoded.name}")
            frames = read(decoded, told.pixels, (width, height))
        if not frames:
            raise ValueError(f"{told.name}: its decoder wrote no frame")
        return [frame[: size[1], : size[0]] for frame in frames] if size else frames


class OfPictures(Program):
    """A program at one setting, for pictures."""

    def encode(self, picture: Image.Image) -> bytes:
        return super().encode([np.asarray(picture)])

    def decode(self, data: bytes) -> Image.Image:
        return Image.fromarray(np.ascontiguousarray(super().decode(data)[0]))


def write(frames: Sequence[np.ndarray], target: Path, fps: Fraction) -> None:
    """Write frames (H, W, 3) uint8 for an encoder. A format of pictures takes the first frame alone."""
    if target.suffix in YUV:
        import av

        y4m = target.suffix == ".y4m"
        height, width, _ = frames[0].shape
        with target.open("wb") as file:
            if y4m:
                rate = f"{fps.numerator}:{fps.denominator}"
                file.write(f"YUV4MPEG2 W{width} H{height} F{rate} Ip A1:1 C420jpeg\n".encode())
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                planes = picture.reformat(format="yuv420p", dst_colorspace="ITU709").to_ndarray()
                file.write((b"FRAME\n" if y4m else b"") + planes.tobytes())
    elif target.suffix:
        Image.fromarray(np.ascontiguousarray(frames[0])).save(target)
    else:
        target.mkdir()
        for number, frame in enumerate(frames, 1):
            Image.fromarray(frame).save(target / f"{number:05}.png")


def read(source: Path, pixels: str, size: tuple[int, int]) -> list[np.ndarray]:
    """The frames that a decoder wrote."""
    if source.suffix in YUV:
        import av

        raw = {"video_size": f"{size[0]}x{size[1]}", "pixel_format": pixels}
        form = ("rawvideo", raw) if source.suffix == ".yuv" else (None, {})
        with av.open(str(source), format=form[0], options=form[1]) as container:
            decoded = container.decode(video=0)
            return [frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray() for frame in decoded]
    pictures = [source] if source.suffix else sorted(p for p in source.iterdir() if not io.hidden(p))
    frames = []
    for picture in pictures:
        with Image.open(picture) as image:
            frames.append(np.asarray(image.convert("RGB")))
    return frames


def pack(folder: Path) -> bytes:
    """The files of a folder as bytes. Each file is the length of its name in one byte, the name, the length of the
    content in four bytes, and the content."""
    parts = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, data = file.relative_to(folder).as_posix().encode(), file.read_bytes()
        parts += [bytes([len(name)]), name, struct.pack(">I", len(data)), data]
    return b"".join(parts)


def unpack(data: bytes, folder: Path) -> None:
    """What :func:`pack` made, as files."""
    folder.mkdir()
    at = 0
    while at < len(data):
        name = data[at + 1 : at + 1 + data[at]].decode()
        at += 1 + data[at]
        (size,) = struct.unpack_from(">I", data, at)
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{name!r} is outside its folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data[at + 4 : at + 4 + size])
        at += 4 + size


def family(argument: str) -> Family:
    """Any program, ``program:FILE.yaml``: encoder and decoder by command line, for pictures, clips or both."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise ValueError("program: needs pyyaml: pip install 'glc-toolkit[eval]'") from None
    file = Path(argument)
    try:
        text = file.read_text("utf-8")
        told = Description(file=file, **yaml.safe_load(text))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise ValueError(f"{file} describes no program: {' '.join(str(error).split())}") from error
    said = told.run(told.version, fails=True).strip().splitlines() if told.version else []
    version = (said or ["no version"])[0]
    return Family(
        told.name,
        f"{version}; {file.name} {hashlib.sha256(text.encode()).hexdigest()[:16]}",
        told.settings,
        told.default or told.settings,
        (lambda quality: OfPictures(told, str(quality))) if "pictures" in told.codes else None,
        clips=(lambda quality: Program(told, str(quality))) if "clips" in told.codes else None,
    )
