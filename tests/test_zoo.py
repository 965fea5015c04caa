import base64
import copy
import hashlib
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
from urllib.parse import unquote

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import save_file

from glc_toolkit import ModelFileError, api, versions, zoo
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
        if name.startswith((*model.encoder_only, *model.pixels_only)):
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
        next(first.backbone.parameters()).zero_()
    assert next(second.backbone.parameters()).abs().sum() > 0


def test_shipped_folders_are_whole():
    for sums in ROOT.glob("zoo/*/SHA256SUMS"):
        zoo.verify(sums.parent)
    assert api.DEFAULT_MODEL in zoo.list_models()
    facts = zoo.info(api.DEFAULT_MODEL)
    assert facts["bytes"] <= 30e6 and facts["requires"] == []


def test_every_shipped_folder_has_its_licence():
    text = (ROOT / "zoo" / "LICENSES.md").read_text()
    assert {versions.split(sums.parent.name)[0] for sums in ROOT.glob("zoo/*/SHA256SUMS")} <= set(
        re.findall(r"[\w.-]+", text)
    )
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


def test_checksums_are_read_in_either_form(folder):
    """As ``sha256sum --binary`` marks files."""
    sums = folder / zoo.SUMS
    sums.write_text(sums.read_text().replace("  ", " *"))
    zoo.load(folder)
    corrupt(folder)
    with pytest.raises(ModelFileError, match="sha256 is not that"):
        zoo.load(folder)


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
    shipped = zoo.locate(api.DEFAULT_MODEL)
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        shutil.copytree(folder, place / shipped.name)
    monkeypatch.setenv("GLC_ZOO", os.pathsep.join(map(str, places)))
    with pytest.warns(UserWarning, match="first.* hides that in .*(second|zoo)") as caught:
        assert zoo.locate(api.DEFAULT_MODEL) == places[0] / shipped.name
        assert len(caught) == 2
        fingerprint = zoo.info(shipped)["fingerprint"]  # hidden by name, not from its streams
        assert zoo.by_fingerprint(bytes.fromhex(fingerprint[:6])).fingerprint().hex() == fingerprint


def test_unknown_models_are_refused():
    for name in ("no-such-model", "../../etc", "/", "", "\0", "x" * 5000):
        with pytest.raises(ModelFileError, match="no model"):
            zoo.load(name)


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's HTTP API that snapshots and pushes use. Repositories are the server's ``repositories``:
    ``{"owner/name": {"private": bool, "commits": [{file: bytes}, ...]}}``; the last commit is main."""

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        path = unquote(self.path.split("?")[0])
        self.server.asked.append(path.rsplit("/", 1)[-1])
        found = re.match(r"(?:/api/models)?/(\w+/\w+)(?:/(?:revision|tree|resolve)/(\w+))?(?:/([\w.-]+))?$", path)
        repository = self.server.repositories.get(found and found[1])
        if repository is None or (repository["private"] and not self.may("read")):
            return self.refuse(404, "RepoNotFound")
        commits = {self.commit(i): files for i, files in enumerate(repository["commits"])}
        sha = self.commit(len(commits) - 1) if found[2] in (None, "main") else found[2]
        if sha not in commits and found[2] is not None:
            return self.refuse(404, "RevisionNotFound")
        files = commits.get(sha, {})
        if "/tree/" in path:
            listing = [{"type": "file", "path": n, "size": len(data), "oid": "0" * 40} for n, data in files.items()]
            return self.answer(listing, body)
        if path.startswith("/api/"):
            siblings = [{"rfilename": name} for name in files]
            return self.answer(
                {"id": found[1], "sha": sha, "siblings": siblings, "private": repository["private"]}, body
            )
        if found[3] in files:
            return self.file(found[3], files[found[3]], body, {"X-Repo-Commit": sha, "ETag": f'"{sha}-{found[3]}"'})
        self.refuse(404, "EntryNotFound")

    def file(self, name, data, body, headers):
        """From the byte on that is asked for; ``cuts`` has the byte at which the line breaks, once."""
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if asked:
            self.server.asked.append(self.headers["Range"])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        end = self.server.cuts.pop(name, len(data)) if body else len(data)
        self.answer(data[start:], body and end == len(data), headers, 206 if asked else 200)
        if end < len(data):
            self.wfile.write(data[start:end])

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(self.path)
        if not self.may("write"):
            return self.refuse(401 if "Authorization" not in self.headers else 403)
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            wanted = json.loads(data)
            name = f"{wanted.get('organization', 'owner')}/{wanted['name']}"
            private = wanted.get("private", wanted.get("visibility") == "private")  # as the library's version has it
            known = self.server.repositories.setdefault(name, {"private": private, "commits": []})
            return self.answer({"url": f"{self.root()}/{name}"}, status=409 if known["commits"] else 200)
        if "/preupload/" in self.path:
            kinds = {True: "lfs", False: "regular"}
            files = [f["path"] for f in json.loads(data)["files"]]
            modes = [{"path": f, "uploadMode": kinds[f == zoo.WEIGHTS], "shouldIgnore": False} for f in files]
            return self.answer({"files": modes})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(data)["objects"]
            for one in objects:
                one["actions"] = {"upload": {"href": f"{self.root()}/lfs/{one['oid']}"}}
            return self.answer({"objects": objects, "transfer": "basic"})
        name = re.match(r"/api/models/(\w+/\w+)/commit/main", self.path)[1]
        files = {}
        for line in map(json.loads, data.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        commits = self.server.repositories[name]["commits"]
        commits.append({**(commits[-1] if commits else {}), **files})
        sha = self.commit(len(commits) - 1)
        self.answer({"commitUrl": f"{self.root()}/{name}/commit/{sha}", "commitOid": sha})

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(data).hexdigest() == self.path.rsplit("/", 1)[-1]
        self.server.objects[self.path.rsplit("/", 1)[-1]] = data
        self.answer({})

    def may(self, what):
        return what in self.headers.get("Authorization", "")  # a token says what it may

    def root(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    @staticmethod
    def commit(number):
        return hashlib.sha1(str(number).encode()).hexdigest()

    def answer(self, value, body=True, headers=None, status=200):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if value is data else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def refuse(self, status, code=""):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


HUB_CODE = """
import json, os, sys
from click.testing import CliRunner
from glc_toolkit import zoo, ModelFileError
from glc_toolkit.cli import cli
for line in sys.stdin:
    token, *words = json.loads(line)
    os.environ["HF_TOKEN"] = token
    try:
        if words[0] == "load":
            print(zoo.load(words[1]).fingerprint().hex())
        elif words[0] == "loaded":
            print(zoo.push(zoo.load(words[1]), words[2], license="mit"))
        else:
            result = CliRunner().invoke(cli, ["zoo", *words])
            print(result.exit_code, result.stdout.strip(), result.stderr.strip().replace(chr(10), "//"))
    except ModelFileError as error:
        print("refused:", error)
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A stand-in of the hub, and a function that has another process, in which the hub's library knows it from the
    start, do something: ``load``, push a ``loaded`` model, or a command of ``glc zoo``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repositories, server.objects, server.asked, server.cuts = {}, {}, [], {}
    server.home = tmp_path_factory.mktemp("hub")  # where the other process keeps what it fetched
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(server.home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-u", "-c", HUB_CODE], env=environment, bufsize=1, **pipes) as other:

        def ask(*words, token=""):
            other.stdin.write(json.dumps([token, *map(str, words)]) + "\n")
            return other.stdout.readline().strip()

        yield server, ask
        other.stdin.close()
    server.shutdown()
    server.server_close()


def test_a_pushed_model_has_a_card_and_is_loaded_by_its_revision(hub, folder, tiny_model):
    server, ask = hub
    card = "---\nlicense: cc-by-4.0\nlanguage: en\n---\n# Mine\n\n| bpp | psnr | dists |\n"
    (folder / zoo.CARD).write_text(card)
    zoo.write_sums(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    said = ask("push", folder, "owner/mine", "--dataset", "owner/photos", token="read write")
    first = re.search(r"hf://owner/mine@\w{40}", said)
    assert said.startswith("0 ") and first, said

    (files,) = server.repositories["owner/mine"]["commits"]
    assert set(files) == set(zoo.FILES) and files[zoo.WEIGHTS] == before[zoo.WEIGHTS]
    data = ModelCard(files[zoo.CARD].decode()).data
    assert (data.license, data.language, data.datasets) == ("cc-by-4.0", "en", ["owner/photos"])
    assert (data.library_name, data.pipeline_tag, data.metrics) == ("glc-toolkit", "image-to-image", ["dists", "psnr"])
    assert "image-compression" in data.tags and files[zoo.CARD].decode().endswith("# Mine\n\n| bpp | psnr | dists |\n")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    said = ask("push", folder, "owner/mine", "--license", "mit", token="read write")
    assert said.startswith("0 hf://owner/mine@"), said
    second = said.split()[1]
    assert ModelCard(server.repositories["owner/mine"]["commits"][1][zoo.CARD].decode()).data.license == "mit"
    assert second != first[0]
    third = ask("loaded", folder, "owner/loaded", token="read write")
    for pinned in (first[0], second, third):
        assert ask("load", pinned) == tiny_model.fingerprint().hex()
    licences = {
        ModelCard(path.read_text()).data.license for path in server.home.glob(f"hub/*mine/snapshots/*/{zoo.CARD}")
    }
    assert licences == {"cc-by-4.0", "mit"} and len(server.repositories["owner/mine"]["commits"]) == 2


def test_what_cannot_be_pushed_is_one_line_and_nothing_is_sent(hub, folder):
    server, ask = hub
    server.repositories["owner/public"] = {"private": False, "commits": []}
    before = set(server.repositories)
    no_token = "the hub does not let you write to owner/refused: log in with `hf auth login`"
    for words, token, message in [
        (["owner/refused", "--license", "mit"], "", no_token),
        (["owner/refused", "--license", "mit"], "read", no_token),
        (["owner/refused"], "read write", "without a licence"),
        (["owner/public", "--license", "mit", "--private"], "read write", "owner/public is there already, and public"),
        (["a/b/c", "--license", "mit"], "read write", "a/b/c"),
    ]:
        said = ask("push", folder, *words, token=token)
        assert said.startswith("1 ") and message in said and "//" not in said.replace("://", ""), said
    private = ["owner/hidden", "--license", "mit", "--private"]
    assert ask("push", folder, *private, token="read write").startswith("0 hf://owner/hidden@")
    assert server.repositories["owner/hidden"]["private"]
    assert ask("load", "hf://owner/hidden").startswith("refused: the hub has no repository 'owner/hidden', or")
    corrupt(folder)
    server.asked.clear()
    said = ask("push", folder, "owner/broken", "--license", "mit", token="read write")
    assert said.startswith("1 ") and "sha256 is not that" in said and not server.asked
    assert set(server.repositories) == before | {"owner/hidden"}


def test_a_download_that_breaks_off_goes_on_where_it_was(hub, model):
    server, ask = hub
    files = {p.name: p.read_bytes() for p in zoo.locate(api.DEFAULT_MODEL).iterdir()}
    server.repositories["owner/large"] = {"private": False, "commits": [files]}
    server.cuts[zoo.WEIGHTS] = cut = len(files[zoo.WEIGHTS]) - 2**20  # it is written in pieces of 10 MB
    assert ask("load", "hf://owner/large") == model.fingerprint().hex()
    (begun,) = (int(asked[6:-1]) for asked in server.asked if asked.startswith("bytes="))
    assert 0 < begun <= cut


def test_a_model_from_the_hub_is_cached_and_then_needs_no_network(hub, tiny_folder, tiny_model):
    """The last test with this hub: it ends without one."""
    server, ask = hub
    server.repositories["owner/tiny"] = {
        "private": False,
        "commits": [{p.name: p.read_bytes() for p in tiny_folder.iterdir()}],
    }

    def load(repository):
        return ask("load", f"hf://{repository}")

    expected = tiny_model.fingerprint().hex()
    assert load("owner/tiny") == expected and zoo.WEIGHTS in server.asked
    assert load("owner/other").startswith("refused: the hub has no repository 'owner/other'")
    assert load("owner/tiny@v9").startswith("refused: 'owner/tiny' on the hub has no revision 'v9'")
    assert load("../../x").startswith("refused: hf://../../x ")

    server.asked.clear()
    assert load("owner/tiny") == expected and not server.asked
    (cached,) = server.home.glob(f"hub/*tiny/snapshots/*/{zoo.SUMS}")
    cached.unlink()  # as a download that was cut off leaves it
    assert load("owner/tiny") == expected and cached.exists()

    weights = cached.with_name(zoo.WEIGHTS).resolve()
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")  # damaged on the disk: fetched again
    assert load("owner/tiny") == expected
    for revision in ("../main", "a/../../b", "/etc"):
        assert "is no name of a revision" in load(f"owner/tiny@{revision}")
    commit, Hub.commit = Hub.commit, staticmethod(lambda number: "../../../outside")
    server.repositories["owner/hostile"] = server.repositories["owner/tiny"]
    assert "'../../../outside' as the commit, which is no commit id" in load("owner/hostile")
    Hub.commit = staticmethod(commit)
    assert not list(server.home.rglob("outside"))

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
    assert wheel.stat().st_size < 100e6
    shipped = {path.relative_to(ROOT / "zoo") for path in ROOT.glob("zoo/**/*") if path.is_file()}
    absent = {path for path in shipped if f"glc_toolkit/zoo_models/{path.as_posix()}" not in inside}
    newest = versions.named(versions.found())
    left_out = set(re.findall(r'"zoo/([\w.@-]+)"', (ROOT / "pyproject.toml").read_text()))
    assert {path.parts[0] for path in absent} - left_out <= {name for name in newest if "@" in name}
    assert not any(name.endswith("training-log.md") for name in inside)
    assert not left_out & {zoo.locate(name).name for name in ("glc-image-0.03", "glc-video-0.01")}
    assert any(name.endswith("dist-info/licenses/zoo/licenses/torchvision.txt") for name in inside)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", wheel], check=True)
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


def test_compressai_knows_all_models_but_broken_ones(tiny_folder, tmp_path, monkeypatch):
    from compressai.zoo import image_models

    (tmp_path / "half").mkdir()
    (tmp_path / "half" / zoo.CONFIG).write_text("{}")
    (tmp_path / "whole").symlink_to(tiny_folder)
    monkeypatch.setenv("GLC_ZOO", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("compressai.zoo.image_models", known := dict(image_models))
        with pytest.warns(UserWarning, match="'half' is left out"):
            zoo.register_with_compressai()
    assert "half" not in known and known["whole"](3).default_quality == 2
    with pytest.raises(ValueError, match="quality of 'whole' has to be between 1 and 3, not 4"):
        known["whole"](4)


ELSEWHERE = """
import sys, torch
from glc_toolkit import zoo
strings = torch.load(sys.argv[2], weights_only=True)
torch.save(zoo.load(sys.argv[1]).decompress([[bytes(s.numpy()) for s in strings]], (64, 96))["x_hat"], sys.argv[3])
"""


def test_a_tuned_model_and_its_file_are_the_same(tiny_folder, tmp_path):
    """Strings that a model wrote before it was saved are decoded by what was saved, in another process."""
    torch.manual_seed(0)
    model, x = zoo.load(tiny_folder), torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 1e-3 * torch.randn_like(parameter))
    with pytest.raises(RuntimeError, match=r"call update\(\) before coding: the coding tables are not of"):
        model.compress(x)
    weights = {name: parameter.clone() for name, parameter in model.train().named_parameters()}
    assert model.eval().update() and not model.update()
    assert all(torch.equal(p, weights[name].to(p.dtype)) for name, p in model.named_parameters())
    strings = model.compress(x)["strings"][0]
    with pytest.warns(UserWarning, match="stored in float32, since the model has tables"):
        folder = zoo.save(model, tmp_path / "tuned", "tuned")
    assert zoo.load(folder).fingerprint() == model.fingerprint()
    torch.save([torch.frombuffer(bytearray(s), dtype=torch.uint8) for s in strings], tmp_path / "strings.pt")
    command = [sys.executable, "-W", "ignore", "-c", ELSEWHERE, folder, tmp_path / "strings.pt", tmp_path / "x_hat.pt"]
    subprocess.run(command, check=True)
    x_hat = torch.load(tmp_path / "x_hat.pt", weights_only=True)
    torch.testing.assert_close(x_hat, model.decompress([strings], (64, 96))["x_hat"], rtol=0, atol=1e-5)
    small = zoo.save(model, tmp_path / "small", "small", exact=False)
    assert (small / zoo.WEIGHTS).stat().st_size < 0.6 * (folder / zoo.WEIGHTS).stat().st_size
    assert zoo.load(small).fingerprint() != model.fingerprint()


@pytest.mark.parametrize("name", ["glc-image-0.03", "glc-video-0.01"])
def test_a_loaded_model_is_saved_as_it_was(name, tmp_path):
    model = zoo.load(name)
    saved = zoo.save(model, tmp_path / "again", name)
    assert zoo.load(saved).fingerprint() == model.fingerprint()
    assert (saved / zoo.WEIGHTS).stat().st_size == pytest.approx(zoo.info(name)["bytes"], rel=0.01)


def test_evaluation_edits_no_weight():
    model = GLCImage(tiny.MODEL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    assert all(torch.equal(value, before[name].to(value.dtype)) for name, value in model.state_dict().items())
