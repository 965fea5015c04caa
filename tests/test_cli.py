import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from glc_toolkit.cli import cli
from tests.conftest import ROOT

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
    glc("decode", file, out, "--preview")
    assert "bpp" in glc("encode", picture, file, "--max-bytes", 5000)


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["encode", "{broken}", "{out}"], 1, "cannot be read as a picture"),
        (["decode", "{broken}", "{out}.png"], 1, "this is no GLC file"),
        (["info", "{broken}"], 1, "this is no GLC file"),
        (["encode", "{picture}", "{out}", "-m", "nowhere"], 1, "no model 'nowhere'"),
        (["encode", "{picture}", "{out}", "-q", "99"], 1, "quality has to be between"),
        (["encode", "{picture}", "{out}", "-q", "1", "--max-bytes", "9"], 1, "not several"),
        (["encode", "{picture}", "{out}", "--max-bytes", "9"], 1, "over the budget"),
        (["encode", "{picture}", "/nonexistent/x.glc"], 1, "No such file"),
        (["encode", "missing.png", "{out}"], 2, "does not exist"),
        (["encode", "{picture}"], 2, "Missing argument"),
        (["encode", "{picture}", "{out}", "--max-bytes", "0"], 2, "x>=1"),
        (["nonsense"], 2, "No such command"),
        (["plugins", "check", "nowhere"], 1, "no plugin 'nowhere'"),
        (["eval", "{empty}"], 1, "no pictures in"),
        (["zoo", "info", "nowhere"], 1, "no model"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(arguments, code, message, picture, tmp_path, model):
    (tmp_path / "broken.glc").write_bytes(b"no picture, no stream")
    (tmp_path / "empty").mkdir()
    places = {
        "picture": picture,
        "broken": tmp_path / "broken.glc",
        "out": tmp_path / "out",
        "empty": tmp_path / "empty",
    }
    output = glc(*(a.format(**places) for a in arguments), code=code)
    assert message in output
    assert "Traceback" not in output
    assert not (tmp_path / "out").exists()
    if code == 1:
        assert len(output.strip().splitlines()) == 1


def test_lists():
    assert "vqgan" in glc("plugins", "list")
    assert json.loads(glc("plugins", "list", "--json"))["hyper"]["factorized"] == "glc_toolkit.components"
    assert "glc-image-0.03" in json.loads(glc("zoo", "list", "--json"))
    assert "fingerprint" in glc("zoo", "info", "glc-image-0.03")
    assert "glc-image-0.03: ok" in glc("zoo", "verify", "glc-image-0.03")


def test_eval(picture, model):
    results = json.loads(glc("eval", picture.parent, "-q", "0", "-q", "1", "--metric", "psnr", "--json"))
    assert [r["quality"] for r in results] == [0, 1]
    assert results[0]["mean"]["bytes"] > 0 and results[0]["images"][0]["image"] == "noise.png"


def test_demo_writes_what_it_says(tmp_path, model):
    rows = json.loads(glc("demo", ROOT / "docs" / "images" / "lake.png", "-o", tmp_path, "--json"))
    assert [r["codec"].split()[0] for r in rows] == ["GLC", "AVIF", "JPEG"]
    assert rows[0]["bytes"] == (tmp_path / "lake.glc").stat().st_size
    assert rows[0]["lpips-alex"] < rows[1]["lpips-alex"]
    sheet = Image.open(tmp_path / "lake-comparison.png")
    assert sheet.width == 1000 and sheet.height > 1000


@pytest.mark.slow
def test_an_installed_plugin_is_found_checked_and_tested(tmp_path):
    """The example plugin, installed from its own folder."""
    target, source = tmp_path / "site", ROOT / "plugins" / "glc-example"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", target, source], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(target), "GLC_STRICT_PLUGINS": "1"}

    def run(*arguments):
        return subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True)

    assert "focal_frequency        glc_example" in run(GLC, "plugins", "list").stdout
    checked = run(GLC, "plugins", "check", "glc_example")
    assert checked.returncode == 0 and "3 passed" in checked.stdout, checked.stdout
    tested = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", source)
    assert tested.returncode == 0, tested.stdout
