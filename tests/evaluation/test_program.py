import json
import shlex
import shutil
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from glc_toolkit import clips
from glc_toolkit.cli import cli
from glc_toolkit.evaluation import program
from glc_toolkit.evaluation.codecs import named
from tests.conftest import ROOT

# Any file, packed.
SCRIPT = """
import sys, zlib
command, source, target, *rest = sys.argv[1:]
data = open(source, "rb").read()
open(target, "wb").write(zlib.compress(data, int(rest[0])) if command == "encode" else zlib.decompress(data))
"""


@pytest.fixture
def described(tmp_path):
    """Writes a YAML file and gives its codec's name."""
    (tmp_path / "zip.py").write_text(SCRIPT)

    def write(**changes) -> str:
        facts = {
            "version": f"{sys.executable} --version",
            "settings": [9, 1],
            "source": ".ppm",
            "coded": ".z",
            "decoded": ".ppm",
            "encode": sys.executable + " {here}/zip.py encode {input} {output} {quality}",
            "decode": sys.executable + " {here}/zip.py decode {input} {output}",
            **changes,
        }
        (tmp_path / "zip.yaml").write_text(json.dumps({k: v for k, v in facts.items() if v is not None}))
        return f"program:{tmp_path / 'zip.yaml'}"

    return write


def frames(count: int, width: int = 61, height: int = 43) -> list[np.ndarray]:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return [np.stack([x * 2 + k, y * 3, x + y], 2).astype(np.uint8) for k in range(count)]


def test_a_program_codes_pictures(described, noise):
    family, settings = named(described())
    assert (family.name, settings) == ("zip", ["9", "1"]) and family.version.startswith("Python 3.")
    picture = Image.fromarray(noise)
    data = family.codec("9").encode(picture)
    assert family.codec("1").decode(data).tobytes() == picture.tobytes()
    assert named(described(), "1")[1] == ["1"] and named(described() + ":1")[1] == ["1"]
    with pytest.raises(ValueError, match="zip has no setting 5; it has 9, 1"):
        named(described() + ":5")
    with pytest.raises(ValueError, match="zip codes pictures, not clips"):
        family.clip_codec("9")


@pytest.mark.parametrize("form", [".y4m", ".yuv", "frames"])
def test_a_program_codes_clips_and_pictures(described, form):
    original = frames(3)
    changes = {"source": form, "decoded": form, "codes": ["clips"]}
    if form == "frames":  # a folder to a folder
        copy = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)"
        line = f'{sys.executable} -c "{copy}" {{input}} {{output}}'
        changes |= {"encode": line, "decode": line, "coded": "folder"}
    else:
        changes["codes"] = ["clips", "pictures"]
    family, _ = named(described(**changes))
    codec = family.clip_codec("9")
    data = codec.encode(original, Fraction(30000, 1001))
    decoded = codec.decode(data)
    assert [f.shape for f in decoded] == [f.shape for f in original]
    errors = np.abs(np.subtract(decoded, original, dtype=float))
    assert errors.max() == 0 if form == "frames" else errors.mean() < 4  # 4:2:0
    if form != "frames":
        assert data[:4] == bytes([0, 61, 0, 43])
        picture = family.codec("9").decode(family.codec("9").encode(Image.fromarray(original[0])))
        assert np.array_equal(np.asarray(picture), decoded[0])


def test_a_decoder_that_asks_for_the_setting_takes_a_byte(described, noise):
    plain, telling = (
        named(described(decode=sys.executable + " {here}/zip.py decode {input} {output}" + more))[0]
        for more in ("", " {quality}")
    )
    picture = Image.fromarray(noise)
    data = telling.codec("1").encode(picture)
    assert data == b"\1" + plain.codec("1").encode(picture)
    assert telling.codec("9").decode(data).tobytes() == picture.tobytes()


FAIL = "import sys; print('first'); sys.exit('no good')"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"encode": f'{sys.executable} -c "{FAIL}"'}, "ended with exit code 1: first / no good"),
        ({"encode": f'{sys.executable} -c "1"'}, "its encoder wrote no coded.z"),
        ({"decode": f'{sys.executable} -c "1"'}, "its decoder wrote no decoded.ppm"),
        ({"encode": "nowhere {input}", "needs": "Debian: apt install it"}, "nowhere cannot be run .*apt install it"),
        ({"encode": "true {colour}"}, "cannot be filled in: 'colour'"),
    ],
)
def test_what_goes_wrong_is_one_line(changes, message, described, noise):
    codec = named(described(**changes))[0].codec("9")
    with pytest.raises(ValueError, match=message) as error:
        codec.decode(codec.encode(Image.fromarray(noise)))
    assert "\n" not in str(error.value)


def test_a_program_that_hangs_is_ended_with_all_that_it_started(described, noise, tmp_path):
    mark = tmp_path / "alive"
    child = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    script = tmp_path / "hang.py"
    script.write_text(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    codec = named(described(encode=f"{sys.executable} {script}", timeout=1))[0].codec("9")
    with pytest.raises(ValueError, match="took more than 1 s"):
        codec.encode(Image.fromarray(noise))
    time.sleep(3)
    assert not mark.exists()


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "describes no program"),
        ("[1]", "describes no program"),
        ("{settings: [1], encode: a, decode: b, coded: .c, colour: red}", "unexpected keyword argument 'colour'"),
        ("{settings: [1], encode: a, coded: .c}", "missing .*'decode'"),
        ("{settings: [], encode: a, decode: b, coded: .c}", "settings has to list every setting"),
        ("{settings: [1], default: [2], encode: a, decode: b, coded: .c}", "settings has to list .*: 2"),
        ("{settings: [1], encode: a, decode: b, coded: .c, codes: [songs]}", "codes is a list of"),
        ("{settings: [1], encode: a, decode: b, coded: .c, codes: [clips]}", "source and decoded of clips"),
    ],
)
def test_descriptions_that_are_none(text, message, tmp_path):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        named(f"program:{tmp_path / 'x.yaml'}")
    with pytest.raises(ValueError, match=r"missing\.yaml cannot be read"):
        named("program:missing.yaml")


def test_packed_files_stay_in_their_folder(tmp_path):
    with pytest.raises(ValueError, match="is outside its folder"):
        program.unpack(bytes([4]) + b"../x" + bytes(4), tmp_path / "folder")


def test_eval_of_a_folder_of_clips(described, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    clips.save((Image.fromarray(f) for f in frames(4, 62, 44)), folder / "a.mkv", Fraction(25), 1)
    name = described(source=".y4m", decoded=".y4m", codes=["clips"])
    command = ["eval", str(folder), "-c", f"{name}:9", "-c", "x265:51", "--metric", "psnr", "--frames", "3", "--json"]
    for _ in range(2):  # the second time from the rows that are there
        result = CliRunner().invoke(cli, [*command, "-o", str(tmp_path / "out")])
        assert result.exit_code == 0, result.output
        ours, x265 = json.loads(result.stdout)
        assert ours["results"]["psnr-rgb"][0] > x265["results"]["psnr-rgb"][0] > 10
        (row,) = ours["images"]
        assert (row["image"], row["frames"]) == ("a.mkv", 3) and row["bpp"] == 8 * row["bytes"] / (62 * 44 * 3)
        assert x265["results"]["flicker"][0] >= 0
    assert len((tmp_path / "out" / "rows.jsonl").read_text().splitlines()) == 2
    for codec, says in (("jpeg", "jpeg codes pictures, not clips"), ("glc-image-0.03", "codes pictures, not clips")):
        result = CliRunner().invoke(cli, ["eval", str(folder), "-c", codec, "--metric", "psnr"])
        assert result.exit_code == 1 and says in result.output


def missing(told: program.Description) -> str:
    """What a ready file needs and this machine lacks: programs, and what is beside the file."""
    lines = [shlex.split(line) for of in (told.encode, told.decode) for line in ([of] if isinstance(of, str) else of)]
    words = [word for line in lines for word in line if word == line[0] or word.startswith("{here}")]
    words = [word.format(here=told.file.parent, quality=told.settings[0]) for word in words]
    return ", ".join(word for word in dict.fromkeys(words) if not shutil.which(word) and not Path(word).exists())


@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "compare").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_ready_files_describe_programs_which_work_where_they_are(file, photo):
    told = program.Description(file=file, **yaml.safe_load(file.read_text()))
    words = {"input": "a", "output": "b", "quality": told.settings[0], "width": 8, "height": 8}
    assert told.needs and told.version
    for commands, more in ((told.encode, {"fps": 25.0, "frames": 1}), (told.decode, {})):
        for command in [commands] if isinstance(commands, str) else commands:
            assert "{" not in command.format(**words, **more, here=file.parent)
    if lacks := missing(told):
        pytest.skip(f"needs {lacks}")
    if file.stem in ("cool-chic", "cod-lite"):
        pytest.skip("takes hours, or a GPU")
    family, _ = named(f"program:{file}")
    original = [np.asarray(photo.crop((100 + k, 150, 261 + k, 269))) for k in range(3)]
    for of in told.codes:
        sizes = []
        for setting in (told.settings[0], told.settings[len(told.settings) // 2]):
            if of == "pictures":
                data = family.codec(setting).encode(Image.fromarray(original[0]))
                decoded = [np.asarray(family.codec(setting).decode(data))]
            else:
                data = family.clip_codec(setting).encode(original, Fraction(25))
                decoded = family.clip_codec(setting).decode(data)
            sizes.append(len(data))
            assert [f.shape for f in decoded] == [f.shape for f in original][: 1 if of == "pictures" else 3]
            assert np.abs(np.subtract(decoded, original[: len(decoded)], dtype=float)).mean() < 25
        assert sizes[0] < sizes[1]
