import json
import os
import re
import subprocess
import sys
import threading
import time
import types
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import click
import pytest
import torch
from click.shell_completion import BashComplete
from click.testing import CliRunner
from PIL import Image

from glc_toolkit import __version__, api, clips, hookimpl, io, registry, zoo
from glc_toolkit.bitstream import ImageStream
from glc_toolkit.cli import cli, main
from glc_toolkit.cli.options import NO
from glc_toolkit.cli.output import may_replace, progress_bar
from tests.conftest import ROOT
from tests.test_clips import frames
from tests.test_footage import damaged

GLC = Path(sys.executable).with_name("glc")


def glc(*arguments, code=0) -> str:
    """Run a command in this process; its output."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def picture(tmp_path, noise) -> Path:
    Image.fromarray(noise).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def test_help_answers_within_a_second():
    best = 10.0
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([GLC, "--help"], capture_output=True, text=True)
        best = min(best, time.perf_counter() - started)
    assert done.returncode == 0 and "encode" in done.stdout
    assert best < 1


def test_encode_info_decode(picture, tmp_path, model):
    file, out = tmp_path / "noise.glc", tmp_path / "out.webp"
    facts = json.loads(glc("encode", picture, file, "--json"))
    assert facts["bytes"] == file.stat().st_size
    described = json.loads(glc("info", file, "--json"))
    assert sum(described["sections"].values()) == facts["bytes"]
    assert "y pass 3" in glc("info", file)
    glc("decode", file, out)
    assert Image.open(out).size == (56, 40)
    glc("decode", file, out, "--preview", "-y")
    assert "bpp" in glc("encode", picture, file, "--max-bytes", 5000, "-y")


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["encode", "{broken}", "{out}"], 1, "cannot be read as a picture"),
        (["decode", "{broken}", "{out}.png"], 1, "this is no GLC file"),
        (["info", "{broken}"], 1, "this is no GLC file"),
        (["encode", "{picture}", "{out}", "-m", "nowhere"], 1, "no model 'nowhere'"),
        (["encode", "{picture}", "{out}", "-q", "99"], 2, "quality has to be between"),
        (["encode", "{picture}", "{out}", "-q", "nan"], 2, "quality has to be between"),
        (["encode", "{picture}", "{out}", "-q", "1", "--max-bytes", "9"], 2, "not several"),
        (["encode", "{picture}", "{out}", "--target-bpp", "1", "--max-bytes", "9"], 2, "not several"),
        (["encode", "{picture}", "{out}", "--max-bytes", "9"], 1, "over the budget"),
        (["encode", "{picture}", "{out}", "--max-pixels", "100"], 1, "noise.png: 56 x 40 pixels, 4096 with padding"),
        (["encode", "{picture}", "{picture}/in/x.glc"], 1, "noise.png/in/x.glc: {picture} is a file"),
        (["encode", "{picture}", "{line}"], 1, "line exists; -y replaces it"),
        (["encode", "{picture}", "{line}", "-n"], 1, "line exists; -y replaces it"),
        (["compare", "{picture}", "{broken}"], 1, "cannot be read as a picture"),
        (["compare", "{picture}", "{larger}"], 1, "larger.png has 57 x 40 pixels, {picture} 56 x 40"),
        (["compare", "{picture}", "{picture}", "--metric", "beauty"], 2, "no metric beauty"),
        (["encode", "{picture}", "{picture}"], 2, "noise.png is the file to read"),
        (["encode", "{picture}", "{link}"], 2, "link is the file to read"),
        (["decode", "{broken}", "{broken}"], 2, "broken.glc is the file to read"),
        (["decode", "{line}", "{out}.png"], 1, "67108864 x 1 pixels have a side above the limit of 65536"),
        (["info", "{line}"], 1, "67108864 x 1 pixels have a side above the limit of 65536"),
        (["decode", "{hole}", "{out}.png"], 1, "hole is no GLC file: it has more than"),
        (["info", "{hole}"], 1, "hole is no GLC file: it has more than"),
        (["encode", "missing.png", "{out}"], 2, "does not exist"),
        (["encode", "{picture}"], 2, "Missing argument"),
        (["encode", "{picture}", "{out}", "--max-bytes", "0"], 2, "x>=1"),
        (["encode", "{picture}", "{out}", "--target-bpp", "0"], 2, "x>0"),
        (["encode", "{picture}", "{out}", "--target-bpp", "-1"], 2, "x>0"),
        (["encode", "{picture}", "{out}", "--target-bpp", "inf"], 2, "inf is not a finite number"),
        (["encode", "{picture}", "{out}", "--target-bpp", "nan"], 2, "nan is not a finite number"),
        (["nonsense"], 2, "No such command"),
        (["plugins", "check", "nowhere"], 1, "no plugin 'nowhere'"),
        (["eval", "{empty}"], 1, "no pictures in"),
        (["eval", "{picture}", "-q", "99"], 2, "quality has to be between"),
        (["eval", "{picture}", "--metric", "beauty"], 2, "no metric beauty; there are: dists"),
        (["eval", "{picture}", "-c", "jpeg:0"], 2, "jpeg: quality has to be between 1 and 95, not 0"),
        (["eval", "{picture}", "-c", "jpeg:5.5"], 2, "jpeg: quality has to be a whole number"),
        (["eval", "{picture}", "-c", "jpeg:x"], 2, "settings of jpeg are numbers"),
        (["eval", "{picture}", "-c", "nowhere:1"], 1, "no model 'nowhere'"),
        (["eval", "{picture}", "-c", "compressai:nowhere:1"], 2, "CompressAI has no model 'nowhere'"),
        (["eval", "{picture}", "-c", "jpeg", "-c", "jpeg:5"], 1, "jpeg is given twice"),
        (["eval", "{picture}", "--match-bpp", "0"], 2, "sizes above 0"),
        (["eval", "{picture}", "--max-pixels", "9"], 1, "above the limit of 9"),
        (["demo", "{picture}", "--max-pixels", "9"], 1, "above the limit of 9"),
        (["report", "{picture}", "--max-pixels", "9"], 1, "above the limit of 9"),
        (["bench", "glc-image-0.03", "--device", "gpu"], 2, "'gpu' cannot be used here"),
        (["bulk", "{empty}", "{empty}", "--device", "gpu"], 2, "'gpu' cannot be used here"),
        (["eval", "{picture}", "-c", "jpeg", "--protocol", "glc-kodak-v1"], 1, "these are not the pictures of"),
        (["bd", "{picture}", "{picture}"], 1, "noise.png is no JSON"),
        (["zoo", "info", "nowhere"], 1, "no model"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(arguments, code, message, picture, tmp_path, model):
    before = picture.read_bytes()
    (tmp_path / "broken.glc").write_bytes(b"no picture, no stream")
    (tmp_path / "line").write_bytes(ImageStream(model.fingerprint(), 0, 2**26, 1, b"x").to_bytes())
    (tmp_path / "link").symlink_to(picture)
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (57, 40)).save(tmp_path / "larger.png")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(2**40)
    names = {path.stem: path for path in tmp_path.iterdir()} | {"picture": picture, "out": tmp_path / "out"}
    output = glc(*(a.format(**names) for a in arguments), code=code)
    assert message.format(**names) in output
    assert "Traceback" not in output
    assert not list(tmp_path.glob("out*")) and picture.read_bytes() == before
    if code == 1 or not output.startswith("Usage:"):
        assert len(output.strip().splitlines()) == 1


def test_folders_are_made_and_outputs_are_replaced_if_told(picture, tmp_path, tiny_folder, monkeypatch):
    file, model = tmp_path / "new" / "folder" / "noise.glc", ("-m", tiny_folder)
    glc("encode", picture, file, *model)
    before = file.read_bytes()
    assert "exists; -y replaces it" in glc("encode", picture, file, *model, "-q", 0, code=1)
    assert file.read_bytes() == before
    glc("encode", picture, file, *model, "-q", 0, "-y")
    assert (after := file.read_bytes()) != before
    answers = iter([False, True])
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(click, "confirm", lambda question, err: next(answers))
    with pytest.raises(click.ClickException, match="is left as it was"):
        may_replace(file, None)
    may_replace(file, None)
    with pytest.raises(click.ClickException, match="-y replaces it"):
        may_replace(file, NO)
    assert file.read_bytes() == after


def test_errors_in_json(picture, tmp_path):
    for arguments, code in ((("-m", "nowhere"), 1), (("-q", 1, "--max-bytes", 9), 2), (("--nonsense",), 2)):
        said = json.loads(glc("encode", picture, tmp_path / "out.glc", *arguments, "--json", code=code))
        assert said["exit_code"] == code and said["error"]


def test_what_was_decoded_says_so(picture, tmp_path, tiny_folder):
    file, model = tmp_path / "noise.glc", ("-m", tiny_folder)
    glc("encode", picture, file, *model)
    facts = json.loads(glc("decode", file, tmp_path / "out.png", *model, "--json"))
    assert (facts["width"], facts["height"], facts["model"], facts["problems"]) == (56, 40, "tiny", [])
    for name in ("out.png", "out.jpg", "out.webp", "out.avif", "out.bmp"):
        glc("decode", file, tmp_path / name, *model, "-y")
        with Image.open(tmp_path / name) as image:
            assert name == "out.bmp" or "compositeWithTrained" in str(image.info.get("xmp"))
    with Image.open(tmp_path / "out.png") as image:
        assert f"glc-toolkit {__version__} with the generative codec tiny" in image.text["Description"]
    glc("decode", file, tmp_path / "plain.png", *model, "--no-mark")
    with Image.open(tmp_path / "plain.png") as plain, Image.open(tmp_path / "out.png") as marked:
        assert not plain.text and "xmp" not in plain.info
        assert plain.tobytes() == marked.tobytes()


def test_a_file_of_an_unknown_model_is_described(picture, clip, tmp_path, tiny_folder, tiny_video_folder):
    for source, folder in ((picture, tiny_folder), (clip, tiny_video_folder)):
        file = tmp_path / f"{folder.name}.glc"
        glc("encode", source, file, "-m", folder)
        facts = json.loads(glc("info", file, "--json").partition("\n")[2])  # a line on the standard error first
        assert facts["model"] is None and facts["width"] and len(facts["fingerprint"]) == 6
        assert "-m FOLDER" in glc("info", file) and "unknown here" in glc("info", file)
        said = glc("doctor", file)
        assert "sound, as far as can be told without its model" in said and "-m FOLDER" in said
        file.write_bytes(file.read_bytes()[:-4])
        said = glc("doctor", file, code=1)
        assert "damaged or foreign" in said and "-m FOLDER" in said


def test_a_preview_of_what_is_left(tmp_path, photo, model):
    photo.save(tmp_path / "photo.png")
    glc("encode", tmp_path / "photo.png", tmp_path / "photo.glc")
    data = (tmp_path / "photo.glc").read_bytes()
    (tmp_path / "cut.glc").write_bytes(data[: len(data) // 2])
    assert "its checksum does not match" in glc("decode", tmp_path / "cut.glc", tmp_path / "cut.png", code=1)
    said = glc("decode", tmp_path / "cut.glc", tmp_path / "cut.png", "--preview")
    assert "cut short" in said and Image.open(tmp_path / "cut.png").size == photo.size
    (tmp_path / "cut.glc").write_bytes(data[:14])
    assert "does not match" in glc("decode", tmp_path / "cut.glc", tmp_path / "none.png", "--preview", code=1)


def test_two_pictures_that_exist_are_compared(picture, tmp_path, noise):
    Image.fromarray(noise // 2).save(tmp_path / "dark.png")
    rows = json.loads(glc("compare", picture, tmp_path / "dark.png", picture, "--metric", "psnr", "--json"))
    assert [row["picture"] for row in rows] == [str(tmp_path / "dark.png"), str(picture)]
    x, x_hat = (io.to_tensor(path) for path in (picture, tmp_path / "dark.png"))
    assert rows[0]["psnr"] == pytest.approx(float(-10 * torch.log10((x - x_hat).square().mean())), abs=1e-4)
    assert "dB" in glc("compare", picture, tmp_path / "dark.png", "--metric", "psnr")


def test_names_are_completed():
    def offered(*typed):
        words = " ".join(["glc", *typed])
        variables = {"COMP_WORDS": words, "COMP_CWORD": str(len(typed))}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            shell = BashComplete(cli, {}, "glc", "_GLC_COMPLETE")
            return [line.partition(",")[2] for line in shell.complete().splitlines()]

    assert offered("encode", "a", "b", "-m", "glc-im") == [n for n in zoo.list_models() if n.startswith("glc-im")]
    assert "lpips-alex" in offered("eval", "x", "--metric", "lp")
    assert {"avif", "avif-half"} <= set(offered("eval", "x", "-c", "av"))


@pytest.mark.parametrize(
    "recipe, message",
    [
        ("name: [", "recipe.yaml is not YAML: .*line 1"),
        ("\x00", "recipe.yaml is not YAML: "),
        ("[" * 5000, "recipe.yaml is not YAML: "),
        ("", "recipe.yaml: the whole: Input should be"),
        (
            "name: x\nmodel: {}\nstages: []\ndata: {sources: [], holdout: -1}",
            "recipe.yaml: data.holdout: .* equal to 0",
        ),
        ("name: x\nmodel: {}\nstages: []", "recipe.yaml: data: Field required"),
        (
            "name: x\nmodel: {}\nstages: []\ndata: {sources: [DATA]}",
            "noise.png is no whole tar file",
        ),
    ],
)
def test_mistakes_in_a_recipe_name_file_and_field(recipe, message, picture, tmp_path):
    (tmp_path / "recipe.yaml").write_text(recipe.replace("DATA", str(picture)))
    output = glc("train", tmp_path / "recipe.yaml", "-o", tmp_path / "run", code=1)
    assert re.search(message, output) and len(output.strip().splitlines()) == 1


def test_pipes(picture, tmp_path):
    """As a shell gives them: glc decode <(cat file) out.png."""

    def pipe(content: bytes) -> Path:
        path = tmp_path / f"pipe{len(list(tmp_path.iterdir()))}"
        os.mkfifo(path)
        threading.Thread(target=path.write_bytes, args=(content,), daemon=True).start()
        return path

    glc("encode", pipe(picture.read_bytes()), tmp_path / "out.glc")
    glc("encode", picture, tmp_path / "expected.glc")
    data = (tmp_path / "out.glc").read_bytes()
    assert data == (tmp_path / "expected.glc").read_bytes()
    glc("decode", pipe(data), tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").size == (56, 40)
    assert "sound" in glc("doctor", pipe(data))
    refused = glc("encode", pipe(b"\0\0\0\x18ftypmp42"), tmp_path / "clip.glc", code=1)
    assert "is no picture; give a video as a file" in refused and len(refused.splitlines()) == 1


OUT_OF_MEMORY = [
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."),
]


@pytest.mark.parametrize("error", [*OUT_OF_MEMORY, RuntimeError("a fault of ours")], ids=repr)
def test_want_of_memory_is_one_line_and_a_fault_is_none(error, picture, tmp_path, monkeypatch, model):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(api, "encode", fail)
    result = CliRunner().invoke(cli, ["encode", str(picture), str(tmp_path / "out")])
    if error in OUT_OF_MEMORY:
        assert result.output == "Error: there is not enough memory for a picture or batch of this size\n"
    else:
        assert result.exception is error


def test_a_plugin_that_cannot_add_its_commands_stops_no_other(monkeypatch, capsys):
    plugin = types.SimpleNamespace(glc_commands=hookimpl(lambda cli: 1 / 0))
    registry.register(plugin, "broken commands")
    try:
        monkeypatch.setattr("sys.argv", ["glc", "plugins", "list"])
        with (
            pytest.warns(UserWarning, match="'broken commands' is left out: ZeroDivisionError"),
            pytest.raises(SystemExit),
        ):
            main()
        assert "vqgan" in capsys.readouterr().out
        monkeypatch.setenv(registry.STRICT, "1")
        with pytest.raises(SystemExit, match=r"^Error: plugin 'broken commands' is left out: .*$"):
            main()
    finally:
        registry.unregister("broken commands")


def test_a_bar_is_for_terminals(monkeypatch, picture, tmp_path, model):
    result = CliRunner().invoke(cli, ["encode", str(picture), str(tmp_path / "out"), "--max-bytes", "500"])
    assert result.exit_code == 0 and len(result.output.splitlines()) == 1
    ours, theirs = os.openpty()
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress_bar() as bar:
            bar.add_task("search", total=1.0)
    assert b"search" in os.read(ours, 10000)
    os.close(ours)


def test_lists(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")  # names of columns in one line
    assert "vqgan" in glc("plugins", "list")
    assert json.loads(glc("plugins", "list", "--json"))["hyper"]["factorized"] == "glc_toolkit.components"
    listed = {row["name"]: row for row in json.loads(glc("zoo", "list", "--json"))}
    facts = listed[api.DEFAULT_MODEL]
    assert facts["codes"] == "pictures" and facts["bytes"] > 10**6
    assert facts["bpp"] == pytest.approx(0.03, rel=0.2)  # as its name promises
    assert facts["licence"].startswith("Apache-2.0") and listed["glc-video-0.01"]["codes"] == "videos"
    assert "lpips-alex" in glc("zoo", "list")
    assert "fingerprint" in glc("zoo", "info", api.DEFAULT_MODEL)
    assert f"{api.DEFAULT_MODEL}: ok" in glc("zoo", "verify", api.DEFAULT_MODEL)


def test_help_tells_the_limit():
    for command in ("encode", "decode", "info"):
        assert f"Default: {io.MAX_PIXELS}" in " ".join(glc(command, "-h").split())


def test_pictures_too_small_for_a_metric(tmp_path, model):
    Image.linear_gradient("L").resize((30, 20)).save(tmp_path / "small.png")
    row = json.loads(glc("eval", tmp_path, "--json"))[0]
    assert row["results"]["ms-ssim-rgb"] == [None] * 4 and row["images"][0]["lpips-alex"] is None
    assert row["results"]["dists"][0] > 0
    for output in (glc("eval", tmp_path), glc("demo", tmp_path / "small.png", "-o", tmp_path)):
        assert " - " in output and "no value" in output and "bits/pixel" in output and " dB " in output
    assert json.loads(glc("demo", tmp_path / "small.png", "-o", tmp_path, "-y", "--json"))[0]["lpips-alex"] is None


def test_eval(picture, tmp_path, model):
    out = tmp_path / "results"
    command = ("eval", picture, "-c", "jpeg:1,5,10,20", "-c", "glc-image-0.03:0,1.5", "--metric", "psnr", "-o", out)
    jpeg, glc_image = json.loads(glc(*command, "--json"))
    assert glc_image["settings"] == ["0", "1.5"] and glc_image["images"][0]["image"] == "noise.png"
    assert jpeg == json.loads((out / "jpeg.json").read_text())
    assert "noise.png" in (out / "jpeg.csv").read_text()
    assert "jpeg" in glc(*command)
    assert json.loads(glc("bd", out / "jpeg.json", out / "jpeg.json", "--json"))[0]["psnr-rgb"] == pytest.approx(0)
    glc("plot", out / "jpeg.json", "--metric", "psnr-rgb", "--published", "Kodak", "-o", out / "rd.svg")
    assert (out / "rd.svg").read_text().startswith("<?xml")


def test_demo_writes_what_it_says(tmp_path, model, photo):
    photo.crop((100, 150, 292, 342)).save(tmp_path / "lake.png")
    rows = json.loads(glc("demo", tmp_path / "lake.png", "-o", tmp_path, "--json"))
    assert [r["codec"].split()[0] for r in rows] == ["GLC", "quarter", "AVIF", "JPEG"]
    assert rows[0]["bytes"] == (tmp_path / "lake.glc").stat().st_size
    assert rows[0]["lpips-alex"] < rows[2]["lpips-alex"] and rows[0]["lpips-vgg"] < rows[3]["lpips-vgg"]
    sheet = Image.open(tmp_path / "lake-comparison.png")
    assert sheet.width == 3 * 192 and sheet.height > 384


@pytest.mark.slow
def test_an_installed_plugin_is_found_and_checked(tmp_path):
    """The example plugin, installed from its own folder. ``make plugins`` runs the tests of all."""
    target, source = tmp_path / "site", ROOT / "plugins" / "glc-example"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", target, source], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(target), "GLC_STRICT_PLUGINS": "1"}

    def run(*arguments):
        return subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True)

    assert "focal_frequency        glc_example" in run(GLC, "plugins", "list").stdout
    checked = run(GLC, "plugins", "check", "glc_example")
    assert checked.returncode == 0 and "\n3 passed" in checked.stdout, checked.stdout


# -- videos -------------------------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path) -> Path:
    pytest.importorskip("av")
    clips.save(frames(7, 70, 52), tmp_path / "clip.mp4", Fraction(25))
    return tmp_path / "clip.mp4"


def test_a_video_there_and_back(clip, tmp_path, tiny_video_folder):
    file, model = tmp_path / "clip.glv", ("-m", tiny_video_folder)
    facts = json.loads(glc("encode", clip, file, *model, "--json"))
    assert (facts["frames"], facts["bytes"]) == (7, file.stat().st_size)
    described = json.loads(glc("info", file, *model, "--json"))
    assert [record["type"] for record in described["records"]] == list("IPPPIPP")
    assert sum(described["sections"].values()) == facts["bytes"] and described["damages"] == []
    assert "I frame      4" in glc("info", file, *model)

    facts = json.loads(glc("decode", file, tmp_path / "out.mkv", *model, "--json"))
    assert (facts["frames"], facts["width"], facts["damages"], facts["interrupted"]) == (7, 70, [], False)
    with clips.opened(tmp_path / "out.mkv") as (out, decoded):
        assert (out.width, out.height, out.fps, len(list(decoded))) == (70, 52, 25, 7)
    for name, more in (("marked.mp4", ()), ("plain.mp4", ("--no-mark",))):
        glc("decode", file, tmp_path / name, *model, "--frames", 1, *more)
        with pytest.importorskip("av").open(str(tmp_path / name)) as container:
            assert ("generative codec tiny-video" in container.metadata.get("comment", "")) == (more == ())
    glc("decode", file, tmp_path / "png", *model)
    glc("decode", file, tmp_path / "some", *model, "--start", 5, "--frames", 1)
    whole, some = (sorted((tmp_path / name).iterdir()) for name in ("png", "some"))
    assert len(whole) == 7 and [p.read_bytes() for p in some] == [whole[5].read_bytes()]

    glc("encode", clip, file, *model, "--start", 2, "--frames", 3, "--intra-period", 2, "-q", 0, "-y")
    assert [r["type"] for r in json.loads(glc("info", file, *model, "--json"))["records"]] == list("IPI")


def test_a_file_is_piped(picture, clip, tmp_path, tiny_folder, tiny_video_folder):
    video = ("-m", tiny_video_folder, "--frames", "2")
    for source, target, more in (
        (picture, "-", ("-m", tiny_folder)),
        (clip, "-", video),
        (clip, "/dev/stdout", video),
    ):
        glc("encode", source, tmp_path / "file", *more, "-y")
        piped = subprocess.run([GLC, "encode", source, target, *more], capture_output=True, check=True)
        data = (tmp_path / "file").read_bytes()
        assert piped.stdout[: len(data)] == data
        assert (piped.stdout == data and b" bpp" in piped.stderr) or target != "-"


def test_a_target_that_cannot_be_is_refused_before_the_work(picture, tmp_path):
    (tmp_path / "file.glc").write_bytes(b"mine")
    for target in (picture / "file.glc", tmp_path / "file.glc"):
        assert "file.glc" in glc("encode", picture, target, "--effort", 10**6, code=1)
    assert (tmp_path / "file.glc").read_bytes() == b"mine"


def test_a_video_is_piped(clip, tmp_path, tiny_video_folder):
    glc("encode", clip, tmp_path / "clip.glv", "-m", tiny_video_folder, "--frames", 2)
    command = [GLC, "decode", tmp_path / "clip.glv", "-", "-m", tiny_video_folder]
    assert len(subprocess.run(command, capture_output=True, check=True).stdout) == 2 * 70 * 52 * 3


def test_a_damaged_video_is_decoded_around_the_damage(clip, tmp_path, tiny_video_folder):
    file, model = tmp_path / "clip.glv", ("-m", tiny_video_folder)
    glc("encode", clip, file, *model)
    data = bytearray(file.read_bytes())
    records = list(api.videostream.records(bytes(data), api.videostream.parse_header(bytes(data))[1]))
    data[records[2].offset + 3] ^= 1
    file.write_bytes(data)
    said = glc("decode", file, tmp_path / "png", *model)
    assert "frame 2 is damaged" in said and "goes on at frame 4" in said
    whole = sorted((tmp_path / "png").iterdir())
    assert len(whole) == 7  # the lost ones repeat the one before
    glc("decode", file, tmp_path / "some", *model, "--start", 3, "--frames", 2)
    assert [p.read_bytes() for p in sorted((tmp_path / "some").iterdir())] == [p.read_bytes() for p in whole[3:5]]
    said = glc("decode", file, tmp_path / "none", *model, "--start", 7, code=1)
    assert "no frames to write" in said
    assert "is damaged" in glc("decode", file, tmp_path / "strict", *model, "--strict", code=1)
    file.write_bytes(data[:-40])
    assert "cut short" in glc("decode", file, tmp_path / "short", *model)


@pytest.mark.parametrize("budget", [(), ("--max-bytes", 1200)])
@pytest.mark.parametrize("after", [0, 3])
def test_an_interrupted_encoder_keeps_what_is_worth_keeping(
    clip, tmp_path, tiny_video_folder, monkeypatch, after, budget
):
    file, model = tmp_path / "clip.glv", ("-m", tiny_video_folder)
    glc("encode", clip, file, *model)
    before = file.read_bytes()

    @contextmanager
    def stopped(path, *more, opened=clips.opened, **options):
        def some(decoded):
            yield from islice(decoded, after)
            raise KeyboardInterrupt

        with opened(path, *more, **options) as (facts, decoded):
            yield facts, some(decoded)

    with monkeypatch.context() as patch:
        patch.setattr(clips, "opened", stopped)
        glc("encode", clip, file, *model, *budget, "-y", code=130 if after else 1)
    if after:
        described = json.loads(glc("info", file, *model, "--json"))
        assert described["frames"] == after and "cut short" in described["damages"][0]
    else:
        assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.glv", "clip.mp4"]


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--max-bytes", 100], "the budget of 100 bytes for 7 frames is too small"),
        (["--target-bpp", 0.01], "for 7 frames is too small"),
        (["--max-bytes", 100, "-q", 1], "not several"),
        (["-m", "glc-image-0.03"], "codes pictures, not videos"),
        (["-q", 9], "quality has to be between"),
    ],
)
def test_mistakes_with_videos(clip, tmp_path, tiny_video_folder, arguments, says):
    model = () if "-m" in arguments else ("-m", tiny_video_folder)
    code = 1 if "too small" in says or "-m" in arguments else 2
    assert says in glc("encode", clip, tmp_path / "out.glv", *model, *arguments, code=code)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_video_within_a_budget(clip, tmp_path, tiny_video_folder, monkeypatch):
    file, model = tmp_path / "clip.glv", ("-m", tiny_video_folder)
    facts = json.loads(glc("encode", clip, file, *model, "--max-bytes", 1200, "--json"))
    assert (facts["frames"], facts["bytes"]) == (7, file.stat().st_size) and facts["bytes"] <= 1200
    glc("decode", file, tmp_path / "out.mkv", *model, "--strict")
    glc("encode", clip, file, *model, "--target-bpp", 2.5, "-y")
    assert 8 * file.stat().st_size <= 2.5 * 7 * 70 * 52
    before = file.read_bytes()
    assert "is too small" in glc("encode", clip, file, *model, "--max-bytes", 500, "-y", code=1)
    assert file.read_bytes() == before  # nor is anything else left:
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.glv", "clip.mp4", "out.mkv"]

    @contextmanager
    def untimed(path, *more, opened=clips.opened, **options):
        with opened(path, *more, **options) as (facts, decoded):
            yield replace(facts, frames=0), decoded

    monkeypatch.setattr(clips, "opened", untimed)  # frames are counted before
    glc("encode", clip, tmp_path / "counted.glv", *model, "--max-bytes", 1200)
    glc("encode", clip, file, *model, "--max-bytes", 1200, "-y")
    assert (tmp_path / "counted.glv").read_bytes() == file.read_bytes()


def test_a_refusal_writes_nothing_to_a_pipe(clip, tiny_video_folder):
    """A budget goes to the standard output at once, when it is known to be kept."""
    command = [GLC, "encode", clip, "-", "-m", tiny_video_folder, "--max-bytes", "700"]
    refused = subprocess.run(command, capture_output=True)
    assert (refused.returncode, refused.stdout) == (1, b"") and b"is too small" in refused.stderr


# -- pipes and files ----------------------------------------------------------------------------------------------


def piped(data: bytes, *arguments, code=0) -> bytes:
    """Run a command with a standard input; its standard output."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments], input=data)
    assert result.exit_code == code, result.output
    return result.stdout_bytes


def test_the_standard_input_and_output(picture, tmp_path, model):
    stream = piped(picture.read_bytes(), "encode", "-", "-")
    glc("encode", picture, tmp_path / "file.glc")
    assert stream == (tmp_path / "file.glc").read_bytes()
    image = piped(stream, "decode", "-", "-", "--format", "png")
    glc("decode", tmp_path / "file.glc", tmp_path / "out", "--format", "png")
    assert image == (tmp_path / "out").read_bytes() and image.startswith(b"\x89PNG")
    assert json.loads(piped(stream, "info", "-", "--json"))["width"] == 56
    assert b"the standard input: " in piped(stream, "doctor", "-")
    preview = piped(stream, "doctor", "-", "--preview", "-", "--format", "webp")
    assert preview.startswith(b"RIFF")
    piped(stream, "decode", "-", "-", code=2)
    piped(b"", "encode", "-", "-", code=1)


def test_a_video_on_the_standard_input(clip, tiny_video_folder, tmp_path):
    glc("encode", clip, tmp_path / "clip.glv", "-m", tiny_video_folder)
    stream = piped(clip.read_bytes(), "encode", "-", "-", "-m", tiny_video_folder)
    assert stream == (tmp_path / "clip.glv").read_bytes()
    assert json.loads(piped(stream, "info", "-", "-m", tiny_video_folder, "--json"))["frames"] == 7
    piped(stream, "decode", "-", "-", "-m", tiny_video_folder, "--format", "png", code=2)


def test_whoever_reads_no_further_is_told_nothing_more_and_a_warning_is_one_line(picture, tmp_path, model):
    Image.open(picture).save(tmp_path / "broken.png", icc_profile=b"no profile")
    glc("encode", picture, tmp_path / "file.glc")
    command = f"{GLC} info {tmp_path}/file.glc | true; {GLC} encode {tmp_path}/broken.png - | true"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True).stderr
    assert said == f"Warning: {tmp_path}/broken.png: its colour profile cannot be read; without it\n"


def test_the_mode_of_a_file_is_kept_and_a_read_only_one_takes_force(picture, tmp_path, model):
    file, out = tmp_path / "file.glc", tmp_path / "out.png"
    glc("encode", picture, file)
    file.chmod(0o640)
    glc("encode", picture, file, "-y")
    assert file.stat().st_mode & 0o777 == 0o640
    out.write_bytes(b"old")
    for target, command in ((file, ("encode", picture)), (out, ("decode", file))):
        target.chmod(0o440)
        before = target.read_bytes()
        for asked in ((), ("-y",)):
            assert "it is read-only; make it writable, or give --force" in glc(*command, target, *asked, code=1)
        assert target.read_bytes() == before
        glc(*command, target, "--force")
        assert target.stat().st_mode & 0o777 == 0o440
    assert out.read_bytes() != b"old"


def test_a_name_may_be_as_long_as_the_system_lets_it(picture, tmp_path, model):
    for name in ("a." + "b" * 250, "c" * 251 + ".glc"):
        glc("encode", picture, tmp_path / name)
        assert (tmp_path / name).exists()


def test_icons_are_refused(picture, tmp_path, model):
    glc("encode", picture, tmp_path / "file.glc")
    for name in ("a.ico", "a.icns", "a.ICO"):
        assert "is for icons" in glc("decode", tmp_path / "file.glc", tmp_path / name, code=1)
    assert not list(tmp_path.glob("a.*"))


def test_a_stream_is_chosen_and_damage_costs_a_frame(clip, tmp_path, tiny_video_folder):
    out, model = tmp_path / "out.glv", ("-m", tiny_video_folder)
    assert "has no pictures in its stream 3" in glc("encode", clip, out, *model, "--stream", 3, code=1)
    glc("encode", clip, out, *model, "--stream", 0)
    damaged(clip, 3)
    said = glc("encode", clip, out, *model, "-y")
    assert "could not be read; in the place of each the one before is repeated" in said
    assert json.loads(glc("info", out, *model, "--json"))["frames"] == 7
    before = out.read_bytes()
    assert "cannot be decoded behind" in glc("encode", clip, out, *model, "--strict", "-y", code=1)
    assert out.read_bytes() == before


def test_options_of_videos_are_not_for_pictures(picture, tmp_path):
    for option in (("--stream", 0), ("--strict",)):
        assert "are for videos" in glc("encode", picture, tmp_path / "x.glc", *option, code=2)
