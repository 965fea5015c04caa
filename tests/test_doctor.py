"""What the doctor finds in files that were damaged in known ways."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from click.testing import CliRunner
from PIL import Image

from glc_toolkit import BitstreamError, api, bitstream, videostream, zoo
from glc_toolkit.cli import cli
from glc_toolkit.doctor import diagnose
from tests.make_golden import DATA, model_of

GOLDEN = sorted(DATA.glob("*.glc"))


@pytest.fixture(scope="module")
def data(model, photo) -> bytes:
    return api.encode(photo.crop((100, 100, 420, 356)), model)


def forged(data: bytes) -> bytes:
    """With the checksum that its bytes have."""
    return data[:2] + bitstream.crc16(data[:2] + data[4:]).to_bytes(2, "big") + data[4:]


def changed(data: bytes, at: int, *values: int) -> bytes:
    return data[:at] + bytes(values) + data[at + len(values) :]


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.name)
def test_sound_files_are_sound(file):
    found, preview = diagnose(file.read_bytes(), zoo.load(model_of(file.name)))
    assert found.problems == [] and found.first_bad is None and found.shows == "the picture"
    assert preview.size == (found.header["width"], found.header["height"])
    assert abs(found.header["bytes"] + sum(found.sections.values()) - found.bytes) <= 8


FAULTS = {
    "nothing": (lambda d: b"", "0 bytes are fewer", "header", "nothing"),
    "another file": (lambda d: b"\x89PNG\r\n\x1a\n" + bytes(50), "begins with 0x89", "header", "nothing"),
    "another version": (lambda d: forged(changed(d, 1, 9)), "0x09, are unknown here", "header", "nothing"),
    "a video": (lambda d: d[:1] + b"\x02" + bytes(60), "the header of the video is damaged", "header", "nothing"),
    "another model": (lambda d: forged(changed(d, 4, d[4] ^ 1)), "was written with a model of", "header", "nothing"),
    "an endless size": (lambda d: forged(d[:8] + b"\xff" * 9), "no end", "header", "nothing"),
    "no size": (lambda d: forged(changed(d, 8, 0, 5)), "empty picture", "header", "nothing"),
    "a huge size": (lambda d: forged(changed(d, 8, 255, 255, 255, 127)), "too large a picture", "header", "nothing"),
    "a quality there is not": (lambda d: forged(changed(d, 7, 255)), None, None, "the picture"),
    "cut in z": (lambda d: d[:14], "cut short or damaged", "z", "nothing"),
    "cut in y": (lambda d: d[: len(d) // 2], "cut short or damaged", "y pass", "a preview"),
    "cut, with a checksum": (lambda d: forged(d[: len(d) // 2]), "cut short or damaged", "y pass", "a preview"),
    "more behind it": (lambda d: forged(d + b"x" * 100), "but there are", "behind", "a preview"),
    "a bit of y": (lambda d: changed(d, len(d) - 3, d[-3] ^ 1), "its checksum is", None, "a preview"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_and_placed(model, data, fault):
    damage, message, first_bad, shows = FAULTS[fault]
    found, preview = diagnose(damage(data), model)
    assert found.shows == shows and (preview is None) == (shows == "nothing")
    if message is None:
        return
    assert any(message in problem for problem in found.problems), found.problems
    assert found.first_bad is None if first_bad is None else found.first_bad.startswith(first_bad)


def test_header_fields_are_read_though_the_checksum_fails(model, data):
    found, _ = diagnose(changed(data, len(data) - 1, data[-1] ^ 255), model)
    stream = bitstream.parse(data)
    assert (found.header["width"], found.header["height"]) == (stream.width, stream.height)
    assert found.header["fingerprint"] == stream.fingerprint.hex() and found.header["model"] == model.config["name"]


def test_any_bytes_have_a_diagnosis(tiny_model, noise):
    """Every single-byte change of a small file, and every shorter one."""
    data = api.encode(noise, tiny_model)
    for at in range(len(data)):
        for damaged in (changed(data, at, data[at] ^ 0x55), forged(changed(data, at, data[at] ^ 0xFF)), data[:at]):
            found, _ = diagnose(damaged, tiny_model, max_pixels=2**14)
            assert bool(found.problems) or damaged[2:4] == forged(damaged)[2:4]
            json.dumps(found.to_dict())


def test_the_command(tmp_path, data, model):
    run = CliRunner().invoke
    whole, cut, out = tmp_path / "whole.glc", tmp_path / "cut.glc", tmp_path / "preview.png"
    whole.write_bytes(data)
    cut.write_bytes(data[: len(data) // 2])
    result = run(cli, ["doctor", str(whole)])
    assert result.exit_code == 0 and "sound" in result.output and "can be shown: the picture" in result.output
    result = run(cli, ["doctor", str(cut), "--preview", str(out), "--json"])
    facts = json.loads(result.output)
    assert result.exit_code == 1 and not facts["sound"] and facts["first_bad"].startswith("y pass")
    assert Image.open(out).size == (facts["header"]["width"], facts["header"]["height"])
    assert "first bad section: y pass" in run(cli, ["doctor", str(cut)]).output
    assert run(cli, ["doctor", str(cut), "--preview", str(cut)]).exit_code == 2


def test_frames_of_a_video(tiny_video_folder, noise, tmp_path, monkeypatch):
    monkeypatch.setenv("GLC_ZOO", str(tiny_video_folder.parent))
    data = b"".join(api.encode_video([noise] * 10, model="tiny-video"))
    sound, _ = diagnose(data)
    assert sound.problems == [] and sound.shows == "frames 0 to 9"
    bad = bytearray(data)
    record = list(videostream.records(data, videostream.parse_header(data)[1]))[2]
    bad[record.offset + 5] ^= 1
    found, _ = diagnose(bytes(bad[:-3]))
    assert found.first_bad == "frame 2" and found.shows == "frames 0 to 1, frames 4 to 9"
    assert "frame 2 is damaged" in found.problems[0] and "goes on at frame 4" in found.problems[0]
    assert len(found.problems) == 2  # and the end is not whole
    assert api.info(data)["frames"] == 10
    monkeypatch.delenv("GLC_ZOO")
    unknown, _ = diagnose(data)
    assert unknown.problems == [] and "no known model" in unknown.unknown
    assert unknown.shows == "frames 0 to 9, with its model"
    assert diagnose(data, str(tiny_video_folder))[0].problems == []
    foreign = videostream.VideoHeader(b"???", 0, 8, 8, 4, Fraction(25)).to_bytes() + videostream.end(0)
    assert "no known model" in diagnose(foreign)[0].unknown


def test_a_file_that_names_a_model_of_the_other_kind(tiny_video_folder, model, data, noise, tmp_path, monkeypatch):
    monkeypatch.setenv("GLC_ZOO", str(tiny_video_folder.parent))
    video = zoo.load(tiny_video_folder)
    stream = bitstream.parse(data)
    foreign = replace(stream, fingerprint=video.fingerprint()[:3]).to_bytes()
    with pytest.raises(BitstreamError, match="'tiny-video' as its model, which codes videos"):
        api.decode(foreign)
    for file, given in ((foreign, None), (data, str(tiny_video_folder))):
        assert any("'tiny-video', which codes videos" in problem for problem in diagnose(file, given)[0].problems)
    clip = b"".join(api.encode_video([noise], model=video))
    assert any("codes pictures" in problem for problem in diagnose(clip, "glc-image-0.03")[0].problems)
    (tmp_path / "clip.glv").write_bytes(clip)
    arguments = ["doctor", str(tmp_path / "clip.glv"), "--preview", str(tmp_path / "p.png")]
    assert CliRunner().invoke(cli, arguments).exit_code == 2
