"""Kinds of video files, each made here, against what a player would show."""

import io as bytes_io
import struct
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from glc_toolkit import clips
from glc_toolkit.types import PictureError

av = pytest.importorskip("av")
from av.video.frame import VideoFrame  # noqa: E402

PATCHES = np.array([(235, 235, 235), (200, 40, 40), (40, 180, 60), (50, 70, 200), (150, 150, 150), (90, 60, 30)])
PICTURE = np.kron(PATCHES.reshape(2, 3, 3), np.ones((32, 32, 1))).astype(np.uint8)  # 64 x 96
BRIGHTNESS = 20  # by which picture n is told from the others


def read(file, says: str = "", **options) -> tuple[clips.Clip, list[np.ndarray]]:
    """A clip and its frames; it says so and nothing else."""
    told = []
    with clips.opened(file, report=told.append, **options) as (clip, frames):
        found = list(frames)
    assert len(told) == bool(says) and says in "".join(told), told
    return clip, found


def write(
    path, frames, codec="ffv1", format="bgr0", times=None, unit=Fraction(1, 30), options=None, tags=None, like=None
):
    """Frames (PyAV's, or arrays of RGB or RGBA) to a file; ``times`` are in ``unit``."""
    with av.open(str(path), "w", **(like or {})) as container:
        stream = None
        for number, frame in enumerate(frames):
            if isinstance(frame, np.ndarray):
                frame = VideoFrame.from_ndarray(frame, format="rgba" if frame.shape[2] == 4 else "rgb24")
                frame = frame.reformat(format=format, dst_colorspace=5 if format.startswith("yuv") else None)
            if stream is None:
                stream = container.add_stream(codec, rate=1 / unit, options=options or {})
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                stream.codec_context.time_base = unit
                if "vpx" in codec and "a" in format:
                    stream.metadata["alpha_mode"] = "1"
                for name, value in (tags or {}).items():
                    setattr(stream.codec_context, name, value)
            frame.pts, frame.time_base = times[number] if times else number, unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbered(count: int) -> list[np.ndarray]:
    """Pictures that can be told from each other."""
    return [np.full((64, 96, 3), BRIGHTNESS * (1 + n % 11), np.uint8) for n in range(count)]


def numbers(frames: list[np.ndarray]) -> list[int]:
    return [round(float(frame.mean()) / BRIGHTNESS) - 1 for frame in frames]


def close(frame: np.ndarray, wanted: np.ndarray, within: float = 3) -> bool:
    """Within the patches; their borders blur where colours are halved."""
    inner = np.s_[4:-4, 4:-4]
    apart = np.abs(frame.astype(float) - wanted)
    return all(apart[r : r + 32, c : c + 32][inner].max() <= within for r in (0, 32) for c in (0, 32, 64))


# -- times --------------------------------------------------------------------------------------------------------

UNEVEN = [0, 1, 2, 3, 4, 8, 12, 13, 20, 21]  # thirtieths of a second


@pytest.mark.parametrize(
    "suffix, codec, options",
    [
        ("mkv", "libx264", {"bf": "3"}),
        ("mp4", "libx264", {"bf": "3"}),
        ("mov", "libx264", {}),
        ("ts", "libx264", {"bf": "3"}),
        ("flv", "libx264", {}),
        ("webm", "libvpx-vp9", {"cpu-used": "8"}),
        ("avi", "mpeg4", {}),
    ],
)
def test_pictures_last_until_the_next(tmp_path, suffix, codec, options):
    file = write(tmp_path / f"a.{suffix}", numbered(10), codec, "yuv420p", UNEVEN, options=options)
    clip, frames = read(file)
    assert clip.fps == 30 and clip.frames == len(frames)
    wanted = [
        n for n, (begin, end) in enumerate(zip(UNEVEN, [*UNEVEN[1:], 22], strict=True)) for _ in range(end - begin)
    ]
    assert numbers(frames)[: len(wanted)] == wanted and len(wanted) <= len(frames) <= len(wanted) + 1


def test_a_screen_recording_lasts_as_long_as_it_did(tmp_path):
    file = write(tmp_path / "a.avi", numbered(6), "mpeg4", "yuv420p", [0, 30, 60, 61, 90, 150])
    clip, frames = read(file)
    assert float(len(frames) / clip.fps) == pytest.approx(151 / 30, abs=0.04)


def test_a_gap_in_a_transport_stream_is_shown_and_a_splice_is_not(tmp_path):
    gap = write(
        tmp_path / "gap.ts", numbered(10), "libx264", "yuv420p", [*range(5), *range(95, 100)], options={"bf": "0"}
    )
    assert len(read(gap)[1]) == 100
    parts = [
        write(
            tmp_path / f"{n}.ts", numbered(5), "libx264", "yuv420p", [begin + i for i in range(5)], options={"bf": "0"}
        )
        for n, begin in enumerate((3000, 0, 90000))
    ]
    (tmp_path / "spliced.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    _, frames = read(tmp_path / "spliced.ts")
    assert numbers(frames) == [*range(5)] * 3


def test_an_edit_list_is_no_damage(tmp_path):
    file = write(tmp_path / "a.mp4", numbered(10), "libx264", "yuv420p", options={"bf": "0", "g": "20"})
    data = bytearray(file.read_bytes())
    at = data.index(b"elst") + 8  # one edit: how long, from where in the pictures
    begin = int.from_bytes(data[data.index(b"stts") + 16 :][:4], "big")  # how long one picture lasts
    assert int.from_bytes(data[at : at + 4], "big") == 1
    whole = int.from_bytes(data[at + 4 : at + 8], "big")
    data[at + 4 : at + 12] = struct.pack(">II", whole * 7 // 10, 3 * begin)
    file.write_bytes(data)
    assert numbers(read(file)[1]) == [*range(3, 10)]


# -- geometry -----------------------------------------------------------------------------------------------------

TURNED = {  # by the display matrix: columns of what is shown, from the stored
    (1, 0, 0, 1): lambda a: a,
    (-1, 0, 0, 1): lambda a: a[:, ::-1],
    (1, 0, 0, -1): lambda a: a[::-1],
    (-1, 0, 0, -1): lambda a: a[::-1, ::-1],
    (0, 1, -1, 0): lambda a: np.rot90(a, -1),
    (0, -1, 1, 0): lambda a: np.rot90(a),
    (0, 1, 1, 0): lambda a: np.swapaxes(a, 0, 1),
    (0, -1, -1, 0): lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
}


def with_matrix(file, a, b, c, d):
    """Writes a display matrix into an MP4 file."""
    data = bytearray(file.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", *(round(65536 * v) for v in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("matrix", TURNED)
def test_turned_and_mirrored(tmp_path, matrix):
    plain = write(tmp_path / "a.mp4", [PICTURE] * 2, "libx264", "yuv444p", options={"crf": "4"})
    clip, frames = read(with_matrix(plain, *matrix))
    wanted = TURNED[matrix](PICTURE)
    assert frames[0].shape == wanted.shape == (clip.height, clip.width, 3)
    assert np.abs(frames[0].astype(int) - wanted).mean() < 3


def test_an_angle_in_between_is_rounded_and_that_is_said(tmp_path):
    plain = write(tmp_path / "a.mp4", [PICTURE] * 2, "libx264", "yuv444p", options={"crf": "4"})
    cos, sin = np.cos(np.radians(100)), np.sin(np.radians(100))
    _, frames = read(with_matrix(plain, cos, sin, -sin, cos), "it is turned by 90 degrees")
    assert np.abs(frames[0].astype(int) - np.rot90(PICTURE, -1)).mean() < 3


# -- colours ------------------------------------------------------------------------------------------------------

WEIGHTS = {
    1: (0.2126, 0.0722),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    4: (0.3, 0.11),
}


def yuv(rgb: np.ndarray, matrix: int, full: bool, bits: int = 8) -> VideoFrame:
    """RGB in [0, 1] -> a frame of 4:4:4, by ITU-T H.273."""
    red, blue = WEIGHTS[matrix]
    y = rgb @ [red, 1 - red - blue, blue]
    planes = [y, (rgb[..., 2] - y) / (2 * (1 - blue)), (rgb[..., 0] - y) / (2 * (1 - red))]
    scale = 2 ** (bits - 8)
    if full:
        planes = [planes[0] * (2**bits - 1), *(p * (2**bits - 1) + 128 * scale for p in planes[1:])]
    else:
        planes = [(planes[0] * 219 + 16) * scale, *((p * 224 + 128) * scale for p in planes[1:])]
    frame = VideoFrame(rgb.shape[1], rgb.shape[0], "yuv444p" if bits == 8 else f"yuv444p{bits}le")
    for plane, values in zip(frame.planes, planes, strict=True):
        padded = np.zeros((plane.height, plane.line_size), np.uint8)
        row = values.round().clip(0, 2**bits - 1).astype(np.uint8 if bits == 8 else "<u2").view(np.uint8)
        padded[:, : row.shape[1]] = row
        plane.update(padded.tobytes())
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return frame


def tags(matrix: int, full: bool, primaries: int = 1, curve: int = 1) -> dict:
    both = {"color_primaries": primaries, "color_trc": curve}
    return {"colorspace": matrix, "color_range": 2 if full else 1, **both}


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("suffix, codec, bits", [("mkv", "ffv1", 8), ("mkv", "ffv1", 10), ("mp4", "libx264", 8)])
def test_matrix_and_range_are_those_of_the_tags(tmp_path, matrix, full, suffix, codec, bits):
    frame = yuv(PICTURE / 255, matrix, full, bits)
    file = write(
        tmp_path / f"a.{suffix}",
        [frame],
        codec,
        options={"crf": "0"} if codec == "libx264" else {},
        tags=tags(matrix, full),
    )
    assert close(read(file)[1][0], PICTURE)


def test_a_matrix_that_is_not_known_is_refused(tmp_path):
    frame = yuv(PICTURE / 255, 1, False)
    file = write(tmp_path / "a.mkv", [frame], tags=tags(8, False))
    with pytest.raises(PictureError, match=r"a.mkv has a colour matrix, 8 of ITU-T H.273"):
        read(file)


def test_narrow_grey(tmp_path):
    grey = np.linspace(0, 1, 64 * 96).reshape(64, 96)
    frame = VideoFrame.from_ndarray((grey * 219 + 16).round().astype(np.uint8), format="gray")
    file = write(tmp_path / "a.mkv", [frame], tags={"color_range": 1})
    assert np.abs(read(file)[1][0] - 255 * grey[..., None]).max() < 2


BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # of BT.709 (BT.2087)


def pq(light):
    y = (np.maximum(light, 0) * 203 / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg(light):
    """Of neutral light alone: what a display of 1000 cd/m2 makes of it is undone."""
    scene = (light * 0.203) ** (1 / 1.2)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


@pytest.mark.parametrize("curve, name", [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_mapped_to_that_of_srgb(tmp_path, curve, name):
    picture = PICTURE if curve == 16 else PICTURE[..., :1].repeat(3, 2)
    v = picture / 255
    light = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    coded = pq(light @ BT2020.T) if curve == 16 else hlg(light)
    file = write(tmp_path / "a.mkv", [yuv(coded, 9, False, 10)], tags=tags(9, False, 9, curve))
    found = read(file, f"({name}) is mapped to that of sRGB")[1][0]
    dark = light.max(-1) < 0.75  # above that it rolls off
    assert np.abs(found.astype(int) - picture)[dark].max() <= 3
    assert (found[~dark] <= picture[~dark] + 3).all() and np.abs(found.astype(int) - picture)[~dark].max() < 20


def test_primaries_that_are_passed_over_are_named(tmp_path):
    file = write(tmp_path / "a.mkv", [yuv(PICTURE / 255, 9, False, 10)], tags=tags(9, False, 9, 14))
    assert close(read(file, "its primaries, BT.2020, are taken for those of BT.709")[1][0], PICTURE)


# -- transparency -------------------------------------------------------------------------------------------------

ALPHA = np.kron([[0, 255, 255], [128, 0, 255]], np.ones((32, 32))).astype(np.uint8)
OVER_WHITE = PICTURE * (ALPHA[..., None] / 255) + 255 - ALPHA[..., None]


@pytest.mark.parametrize(
    "suffix, codec, format",
    [
        ("mov", "qtrle", "argb"),
        ("mov", "png", "rgba"),
        ("mov", "prores_ks", "yuva444p10le"),
        ("mkv", "ffv1", "bgra"),
        ("mkv", "ffv1", "yuva420p"),
        ("mkv", "ffv1", "gbrap16le"),
        ("avi", "utvideo", "gbrap"),
        ("webm", "libvpx", "yuva420p"),
        ("webm", "libvpx-vp9", "yuva420p"),
        ("mkv", "libvpx-vp9", "yuva420p"),
    ],
)
def test_clips_lie_over_white(tmp_path, suffix, codec, format):
    options = {"crf": "4", "b": "5000000", "auto-alt-ref": "0", "cpu-used": "4"} if codec.startswith("libvpx") else {}
    file = write(tmp_path / f"a.{suffix}", [np.dstack([PICTURE, ALPHA])] * 2, codec, format, options=options)
    assert close(read(file)[1][1], OVER_WHITE, 6)


# -- streams ------------------------------------------------------------------------------------------------------


def several(path, *streams, default=None):
    """Streams of a single colour each; of those named ``cover`` an attached picture."""
    with av.open(str(path), "w") as container:
        made = []
        for kind, level in streams:
            stream = container.add_stream({"cover": "mjpeg"}.get(kind, "libx264"), rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if kind == "cover" else "yuv420p"
            stream.disposition = 0x400 if kind == "cover" else int(len(made) == default)
            made.append((stream, kind, level))
        for stream, kind, level in made:
            for number in range(1 if kind == "cover" else 4):
                frame = VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
                frame = frame.reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


def test_the_default_stream_is_taken_or_one_that_is_chosen(tmp_path):
    file = several(tmp_path / "a.mkv", ("video", 50), ("video", 200), default=1)
    assert abs(int(read(file)[1][0].mean()) - 200) < 4
    assert abs(int(read(file, stream=0)[1][0].mean()) - 50) < 4
    with pytest.raises(PictureError, match=r"a.mkv has no pictures in its stream 5; it has in: stream 0, 1"):
        read(file, stream=5)


def test_a_cover_is_no_clip(tmp_path):
    file = several(tmp_path / "a.mp4", ("cover", 50), ("video", 200))
    frames = read(file)[1]
    assert abs(int(frames[0].mean()) - 200) < 4 and len(frames) == 4
    with av.open(str(file)) as container:
        cover = next(stream.index for stream in container.streams.video if stream.disposition & 0x400)
    assert abs(int(read(file, stream=cover)[1][0].mean()) - 50) < 4


# -- damage -------------------------------------------------------------------------------------------------------


def damaged(file, number: int, unit: bytes | None = None):
    """Zeros in the place of a packet."""
    with av.open(str(file)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = file.read_bytes()
    assert data.count(packets[number]) == 1
    file.write_bytes(data.replace(packets[number], bytes(len(packets[number]))))
    return file


@pytest.mark.parametrize(
    "suffix, codec, format",
    [
        ("mkv", "libx264", "yuv420p"),
        ("mp4", "libx264", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("mov", "png", "rgb24"),
    ],
)
def test_a_bad_packet_costs_its_picture(tmp_path, suffix, codec, format):
    noise = np.random.default_rng(0).integers(0, 40, (64, 96, 3))
    frames = [(frame + noise).clip(0, 255).astype(np.uint8) for frame in numbered(10)]
    options = {"bf": "0", "g": "1"} if codec != "png" else {}
    file = damaged(write(tmp_path / f"a.{suffix}", frames, codec, format, options=options), 4)
    whole = numbers([frame - noise for frame in frames])
    clip, found = read(file, "1 picture could not be read; in the place of each the one before is repeated")
    assert clip.frames == len(found) == 10
    assert np.array_equal(found[4], found[3])
    assert numbers([frame - noise for frame in found]) == [*whole[:4], whole[3], *whole[5:]]
    with pytest.raises(PictureError, match=r"cannot be decoded behind 0.1"):
        read(file, strict=True)


def test_a_file_that_is_cut_short_says_so(tmp_path):
    file = write(tmp_path / "a.mkv", numbered(90), options={"g": "1"})
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    told = []
    with clips.opened(file, report=told.append) as (_, frames):
        assert 20 < len(list(frames)) < 60
    assert "it claims to last 3.00 s, and ends after" in told[0]


def test_a_change_of_size_is_scaled_to_the_first(tmp_path):
    parts = []
    for size in (64, 32):
        picture = np.asarray(Image.fromarray(PICTURE).resize((size * 3 // 2, size), Image.Resampling.NEAREST))
        parts.append(
            write(tmp_path / f"{size}.ts", [picture] * 5, "libx264", "yuv444p", options={"crf": "4", "bf": "0"})
        )
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    clip, frames = read(tmp_path / "a.ts", "its size changes to 48 x 32; scaled to 96 x 64")
    assert (clip.width, clip.height, len(frames)) == (96, 64, 10)
    assert all(close(frame, PICTURE, 12) for frame in frames)


def test_a_file_that_is_open_already(tmp_path):
    file = write(tmp_path / "a.mkv", numbered(3))
    assert numbers(read(bytes_io.BytesIO(file.read_bytes()))[1]) == [0, 1, 2]


def test_titles_in_any_encoding_and_a_codec_that_nobody_knows(tmp_path):
    file = write(tmp_path / "a.avi", numbered(3), "mpeg4", "yuv420p")
    data = file.read_bytes()
    file.write_bytes(data.replace(b"Lavf", b"\xfcber"))  # in the name of the writer
    assert b"\xfcber" in file.read_bytes() and len(read(file)[1]) == 3
    file.write_bytes(data.replace(b"FMP4", b"????"))
    with pytest.raises(PictureError, match=r"a.avi has pictures of a codec that FFmpeg does not know"):
        read(file)
