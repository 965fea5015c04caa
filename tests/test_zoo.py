import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from glc_toolkit import ModelFileError, zoo
from glc_toolkit.conformance import tiny
from glc_toolkit.models.image import ENCODER_ONLY, GLCImage
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
    before = dict(model.named_parameters())
    for name, value in loaded.named_parameters():
        if name.startswith(ENCODER_ONLY):
            assert (value - before[name]).abs().max() <= before[name].abs().max() / 253
        else:
            assert torch.equal(value.float(), before[name].half().float())
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


def rewrite(folder: Path, change_tensors=None, change_facts=None) -> None:
    """Change a weights file and make its checksums fit again."""
    path = folder / zoo.WEIGHTS
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()[zoo.FACTS])
    tensors = load_file(path)
    if change_tensors:
        change_tensors(tensors)
    if change_facts:
        change_facts(facts)
    save_file(tensors, path, {zoo.FACTS: json.dumps(facts)})
    zoo.write_sums(folder)


def corrupt(folder):
    data = bytearray((folder / zoo.WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / zoo.WEIGHTS).write_bytes(data)


def truncate(folder):
    path = folder / zoo.WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])
    zoo.write_sums(folder)


def foreign(folder):
    save_file({"weight": torch.ones(2)}, folder / zoo.WEIGHTS)
    zoo.write_sums(folder)


def escape(folder):
    (folder / zoo.SUMS).write_text((folder / zoo.SUMS).read_text() + f"{'0' * 64}  ../outside\n")


def nan(tensors):
    tensors["transform.q_enc.weight"][0] = float("nan")


def odd_shape(tensors):
    tensors["transform.q_enc.weight"] = torch.ones(1, 1)


def alien_config(facts):
    facts["config"] = {**tiny.MODEL, "context": {"name": "nowhere"}}


BREAKAGES = {
    "sha256 is not that": corrupt,
    "lacks README.md": lambda f: (f / "README.md").unlink(),
    "has no SHA256SUMS": lambda f: (f / zoo.SUMS).unlink(),
    "outside its folder": escape,
    "cannot be read": truncate,
    "not finite: transform.q_enc.weight": partial(rewrite, change_tensors=nan),
    "does not fit its config.*q_enc": partial(rewrite, change_tensors=odd_shape),
    "Missing key.*q_enc": partial(rewrite, change_tensors=lambda t: t.pop("transform.q_enc.weight")),
    "Unexpected key.*extra": partial(rewrite, change_tensors=lambda t: t.update(extra=torch.ones(1))),
    "has format 'other'": partial(rewrite, change_facts=lambda m: m.update(format="other")),
    "no context named 'nowhere'": partial(rewrite, change_facts=alien_config),
    "plugins that are not installed: absent": partial(rewrite, change_facts=lambda m: m.update(requires=["absent"])),
    "lacks fingerprint": partial(rewrite, change_facts=lambda m: m.update(fingerprint=7)),
    "holds no glc-toolkit model": foreign,
    "lacks config": partial(rewrite, change_facts=lambda m: m.pop("config")),
}


@pytest.mark.parametrize("message", BREAKAGES)
def test_a_bad_model_folder_is_refused_with_what_and_where(folder, message):
    BREAKAGES[message](folder)
    with pytest.raises(ModelFileError, match=message) as error:
        zoo.load(folder)
    assert "\n" not in str(error.value)


def test_unknown_models_are_refused():
    for name in ("no-such-model", "../../etc", "/"):
        with pytest.raises(ModelFileError, match="no model"):
            zoo.load(name)


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's HTTP API that a snapshot download uses, serving one folder as owner/tiny."""

    commit = "a" * 40

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        path = self.path.split("?")[0]
        files = {p.name: p for p in self.server.folder.iterdir()}
        if path.startswith("/api/models/owner/tiny/tree/"):
            listing = [{"type": "file", "path": n, "size": p.stat().st_size, "oid": "0" * 40} for n, p in files.items()]
            return self.answer(json.dumps(listing).encode(), body, "application/json")
        if path.startswith("/api/models/owner/tiny"):
            facts = {"id": "owner/tiny", "sha": self.commit, "siblings": [{"rfilename": n} for n in files]}
            return self.answer(json.dumps(facts).encode(), body, "application/json")
        name = path.rsplit("/", 1)[-1]
        if path.startswith("/owner/tiny/resolve/") and name in files:
            self.server.served.append(name)
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
import sys, warnings; warnings.simplefilter("ignore")
from glc_toolkit import zoo, ModelFileError
try:
    print(zoo.load(sys.argv[1]).fingerprint().hex())
except ModelFileError as error:
    print("refused:", error)
"""


def test_a_model_from_the_hub_is_cached_and_then_needs_no_network(tiny_folder, tiny_model, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.served = tiny_folder, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }

    def load(repository):
        return subprocess.run(
            [sys.executable, "-c", HUB_CODE, repository], env=environment, capture_output=True, text=True, timeout=120
        ).stdout

    expected = tiny_model.fingerprint().hex()
    assert load("hf://owner/tiny").strip() == expected
    assert zoo.WEIGHTS in server.served
    assert load("hf://owner/other").startswith("refused: the hub has no repository 'owner/other'")
    server.shutdown()
    server.server_close()
    assert load("hf://owner/tiny").strip() == expected
    assert load("hf://owner/third").startswith("refused: hf://owner/third is not cached")


@pytest.mark.slow
def test_the_wheel_brings_the_model(tmp_path, photo):
    """Built, installed into a clean environment and used away from the checkout."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    wheel = next(tmp_path.glob("*.whl"))
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
