import copy
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from glc_toolkit import ModelFileError, zoo
from glc_toolkit.conformance import tiny
from glc_toolkit.models.image import GLCImage
from tests.conftest import ROOT


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    """A copy of the tiny model that a test may break."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def test_a_saved_model_is_the_loaded_model(tmp_path):
    torch.manual_seed(1)
    model = GLCImage(tiny.MODEL)
    loaded = zoo.load(zoo.save(model, tmp_path / "m", "m"))
    assert not loaded.training
    before = dict(copy.deepcopy(model).eval().named_parameters())
    for name, value in loaded.named_parameters():
        if name.startswith(model.encoder_only):
            assert (value - before[name]).abs().max() <= before[name].abs().max() / 253
        else:
            assert torch.equal(value, before[name].half().to(value.dtype))
    metadata_fingerprint = zoo.info(tmp_path / "m")["fingerprint"]
    assert loaded.fingerprint().hex() == metadata_fingerprint
    assert loaded.config["name"] == "m"


def test_saving_twice_gives_identical_bytes(tiny_model, tmp_path):
    files = [zoo.save(tiny_model, tmp_path / n, "same") / zoo.WEIGHTS for n in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_loaded_models_are_independent(tiny_folder):
    first, second = zoo.load(tiny_folder), zoo.load(tiny_folder)
    with torch.no_grad():
        next(first.parameters()).zero_()
    assert next(second.parameters()).abs().sum() > 0


def test_shipped_folders_are_whole():
    for sums in ROOT.glob("zoo/*/SHA256SUMS"):
        zoo.verify(sums.parent)
    assert "glc-image-0.03" in zoo.list_models()
    facts = zoo.info("glc-image-0.03")
    assert facts["bytes"] <= 30e6 and facts["requires"] == []


def test_every_shipped_folder_has_its_licence():
    text = (ROOT / "zoo" / "LICENSES.md").read_text()
    assert {sums.parent.name for sums in ROOT.glob("zoo/*/SHA256SUMS")} <= set(re.findall(r"[\w.-]+", text))
    texts = {path.relative_to(ROOT / "zoo").as_posix() for path in ROOT.glob("zoo/licenses/*.txt")}
    assert texts == set(re.findall(r"\]\((.+?)\)", text))


def corrupt(folder):
    data = bytearray((folder / zoo.WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / zoo.WEIGHTS).write_bytes(data)


def foreign(folder):
    save_file({"weight": torch.ones(2)}, folder / zoo.WEIGHTS)
    zoo.write_sums(folder)


def list_also(name):
    def change(folder):
        with (folder / zoo.SUMS).open("ab") as sums:
            sums.write(b"0" * 64 + b"  " + name + b"\n")

    return change


BREAKAGES = {
    "sha256 is not that": corrupt,
    "lacks 'README.md'": lambda f: (f / zoo.CARD).unlink(),
    "lacks 'model.safetensors'": lambda f: (f / zoo.WEIGHTS).unlink() or (f / zoo.WEIGHTS).mkdir(),
    "has no SHA256SUMS": lambda f: (f / zoo.SUMS).unlink(),
    "does not list model.safetensors": lambda f: (f / zoo.SUMS).write_text("nonsense"),
    "outside its folder": list_also(b"../outside"),
    "lacks '\\.\\.'": list_also(b".."),
    "lacks '\\\\x00'": list_also(b"\0"),
    "lacks '\ufffd'": list_also(b"\xff"),
    "holds no glc-toolkit model": foreign,
}


@pytest.mark.parametrize("message", BREAKAGES)
def test_a_bad_model_folder_is_refused_with_what_and_where(folder, message):
    BREAKAGES[message](folder)
    with pytest.raises(ModelFileError, match=message) as error:
        zoo.load(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_changed_is_checked_again(folder):
    zoo.load(folder)
    corrupt(folder)
    with pytest.raises(ModelFileError, match="sha256 is not that"):
        zoo.load(folder)


def test_new_checksums_are_checked_even_in_the_same_instant(folder, monkeypatch):
    monkeypatch.setattr(zoo, "_stamp", lambda folder: ())  # as if no time had passed
    zoo.load(folder)
    (folder / zoo.CARD).write_text("another card")
    zoo.write_sums(folder)
    corrupt(folder)
    with pytest.raises(ModelFileError, match="sha256 is not that"):
        zoo.load(folder)


def test_a_model_of_glc_zoo_hides_those_behind_it_with_a_warning(folder, tiny_model, tmp_path, monkeypatch):
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        shutil.copytree(folder, place / "glc-image-0.03")
    monkeypatch.setenv("GLC_ZOO", os.pathsep.join(map(str, places)))
    with pytest.warns(UserWarning, match="first.* hides that in .*(second|zoo)") as caught:
        assert zoo.locate("glc-image-0.03") == places[0] / "glc-image-0.03"
        assert len(caught) == 2
        shipped = zoo.info(ROOT / "zoo" / "glc-image-0.03")["fingerprint"]  # hidden by name, not from its streams
        assert zoo.by_fingerprint(bytes.fromhex(shipped[:6])).fingerprint().hex() == shipped


def test_unknown_models_are_refused():
    for name in ("no-such-model", "../../etc", "/", "", "\0", "x" * 5000):
        with pytest.raises(ModelFileError, match="no model"):
            zoo.load(name)


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's HTTP API that a snapshot download uses, serving one folder as owner/tiny."""

    commit = "a" * 40

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        path = self.path.split("?")[0]
        self.server.asked.append(path.rsplit("/", 1)[-1])
        files = {p.name: p for p in self.server.folder.iterdir()}
        if path.startswith("/api/models/owner/tiny/tree/"):
            listing = [{"type": "file", "path": n, "size": p.stat().st_size, "oid": "0" * 40} for n, p in files.items()]
            return self.answer(json.dumps(listing).encode(), body, "application/json")
        if path.startswith("/api/models/owner/tiny"):
            facts = {"id": "owner/tiny", "sha": self.commit, "siblings": [{"rfilename": n} for n in files]}
            return self.answer(json.dumps(facts).encode(), body, "application/json")
        name = path.rsplit("/", 1)[-1]
        if path.startswith("/owner/tiny/resolve/") and name in files:
            return self.answer(files[name].read_bytes(), body, "application/octet-stream", name)
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, data, body, kind, name=None):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", self.commit)
        if name:
            self.send_header("ETag", f'"{name}"')
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args):
        pass


HUB_CODE = """
import sys
from glc_toolkit import zoo, ModelFileError
for line in sys.stdin:
    try:
        print(zoo.load(line.strip()).fingerprint().hex())
    except ModelFileError as error:
        print("refused:", error)
"""


def test_a_model_from_the_hub_is_cached_and_then_needs_no_network(tiny_folder, tiny_model, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.asked = tiny_folder, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {  # which the hub's library reads as it is imported: hence another process
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-u", "-c", HUB_CODE], env=environment, bufsize=1, **pipes) as other:

        def load(repository):
            other.stdin.write(f"hf://{repository}\n")
            return other.stdout.readline().strip()

        expected = tiny_model.fingerprint().hex()
        assert load("owner/tiny") == expected and zoo.WEIGHTS in server.asked
        assert load("owner/other").startswith("refused: the hub has no repository 'owner/other'")
        assert load("../../x").startswith("refused: hf://../../x ")

        server.asked.clear()
        assert load("owner/tiny") == expected and not server.asked
        (cached,) = tmp_path.glob(f"hub/*/snapshots/*/{zoo.SUMS}")
        cached.unlink()  # as a download that was cut off leaves it
        assert load("owner/tiny") == expected and cached.exists()

        server.shutdown()
        server.server_close()
        assert load("owner/tiny") == expected
        assert load("owner/third").startswith("refused: hf://owner/third is not cached")
        cached.unlink()
        assert load("owner/tiny").startswith("refused: ")


@pytest.mark.slow
def test_the_wheel_brings_the_model(tmp_path, photo):
    """Built, installed into a clean environment and used away from the checkout."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    wheel = next(tmp_path.glob("*.whl"))
    inside = set(zipfile.ZipFile(wheel).namelist())
    shipped = [p.relative_to(ROOT / "zoo") for p in ROOT.glob("zoo/**/*") if p.is_file()]
    assert {f"glc_toolkit/zoo_models/{path.as_posix()}" for path in shipped} <= inside
    assert any(name.endswith("dist-info/licenses/zoo/licenses/torchvision.txt") for name in inside)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    site = next(p for p in map(Path, sys.path) if (p / "torch").is_dir())  # the dependencies, without this checkout
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in site.iterdir():
        if "glc" not in entry.name and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    photo.crop((0, 0, 128, 64)).save(tmp_path / "photo.png")
    code = (
        "import glc_toolkit as glc; from pathlib import Path;"
        "data = glc.encode('photo.png'); assert glc.decode(data).size == (128, 64);"
        "assert 'env' in Path(glc.__file__).parts; print('glc', len(data))"
    )
    environment = {"PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [python, "-W", "ignore", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.startswith("glc "), done.stderr
