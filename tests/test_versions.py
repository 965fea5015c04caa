"""Versions of a model: by name, by stream, and on the command line."""

import json
import re
import shutil

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import glc_toolkit as glc
from glc_toolkit import BitstreamError, ModelFileError, bulk, registry, versions, zoo
from glc_toolkit.cli import cli
from glc_toolkit.conformance import tiny
from glc_toolkit.models.image import GLCImage
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Three versions of a tiny model, the first in a folder without a number."""
    place = tmp_path_factory.mktemp("zoo")
    for seed, name in enumerate(("tiny", "tiny@2", "tiny@10")):
        torch.manual_seed(seed)
        zoo.save(GLCImage(tiny.MODEL), place / name, name)
    return place


@pytest.fixture
def known(models, monkeypatch):
    monkeypatch.setenv("GLC_ZOO", str(models))
    return models


def command(*arguments, code=0) -> str:
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize(
    "name, folder", [("tiny", "tiny@10"), ("tiny@1", "tiny"), ("tiny@2", "tiny@2"), ("tiny@10", "tiny@10")]
)
def test_a_name_may_have_a_version_and_is_the_newest_without(name, folder, known):
    assert zoo.locate(name) == known / folder
    assert zoo.load(name).fingerprint() == zoo.load(known / folder).fingerprint()
    assert zoo.info(name)["version"] == versions.split(folder)[1]
    assert bulk.absolute(bulk.Job("encode", "a", "b", name)).model == name


@pytest.mark.parametrize(
    "name", ["tiny@3", "tiny@0", "tiny@01", "tiny@", "@1", "tiny@x", "tiny@1@1", "tiny@" + "9" * 5000]
)
def test_other_versions_are_refused(name, known):
    with pytest.raises(ModelFileError, match=r"no model .* nor one of .*tiny, tiny@1, tiny@2"):
        zoo.load(name)


def test_an_older_version_in_a_folder_of_the_user_does_not_hide_a_newer_one(models, tmp_path, monkeypatch):
    """As it is kept for old streams, where the newer one comes with the package."""
    shutil.copytree(models / "tiny", tmp_path / "tiny")
    monkeypatch.setenv("GLC_ZOO", f"{tmp_path}:{models}")
    with pytest.warns(UserWarning, match="'tiny' in .* hides that in"):
        assert zoo.locate("tiny") == models / "tiny@10"


def test_a_folder_in_this_one_may_be_called_like_a_version(tmp_path, models, monkeypatch):
    shutil.copytree(models / "tiny", tmp_path / "mine@7")
    monkeypatch.chdir(tmp_path)
    assert zoo.load("mine@7").fingerprint() == zoo.load(models / "tiny").fingerprint()


def test_a_stream_finds_its_version_and_asks_for_it_by_name(known, noise, tmp_path, monkeypatch):
    files = {name: glc.encode(noise, name) for name in ("tiny@1", "tiny@2", "tiny")}
    for name, data in files.items():
        assert glc.info(data)["fingerprint"] == zoo.info(name)["fingerprint"][:6]
        assert glc.decode(data).tobytes() == glc.decode(data, name).tobytes()
    with pytest.raises(BitstreamError, match="written with a model of fingerprint"):
        glc.decode(files["tiny@1"], "tiny")

    lines = [f"{zoo.info(name)['fingerprint']}  {name}\n" for name in ("tiny@1", "tiny@2")]
    (tmp_path / zoo.RELEASES).write_text("".join(lines))
    monkeypatch.setattr(zoo, "shipped_zoo", lambda: tmp_path)
    with pytest.raises(BitstreamError, match=r"written with tiny@1 of fingerprint .*, but 'tiny@10' has"):
        glc.decode(files["tiny@1"], "tiny")
    monkeypatch.delenv("GLC_ZOO")
    with pytest.raises(BitstreamError, match=r"this file needs tiny@1, which is not here\. Put its folder"):
        glc.decode(files["tiny@1"])
    with pytest.raises(BitstreamError, match="no known model has the fingerprint"):
        glc.decode(files["tiny"])


def test_commands(known, noise, tmp_path):
    Image.fromarray(noise).save(tmp_path / "noise.png")
    listed = {row["name"]: row["version"] for row in json.loads(command("zoo", "list", "--json"))}
    assert {"tiny": 10, "tiny@1": 1, "tiny@2": 2}.items() <= listed.items()
    assert re.search(r"tiny@2 +│ +2 ", command("zoo", "list"))
    assert "tiny@1: ok" in command("zoo", "verify", "tiny@1")
    assert json.loads(command("zoo", "info", "tiny@10", "--json"))["version"] == 10
    command("encode", tmp_path / "noise.png", tmp_path / "noise.glc", "-m", "tiny@1")
    assert "tiny" in command("info", tmp_path / "noise.glc")
    command("decode", tmp_path / "noise.glc", tmp_path / "out.png")
    row = json.loads(command("eval", tmp_path / "noise.png", "-c", "tiny@2:0", "--metric", "psnr", "--json"))[0]
    assert (row["name"], row["settings"]) == ("tiny@2", ["0"])
    assert "no model 'tiny@4'" in command("zoo", "info", "tiny@4", code=1)


def test_released_weights_stay_what_they_are():
    """A new fingerprint of a shipped model is a new version, in a folder and a line of its own."""
    lines = [line.split("  ") for line in (ROOT / "zoo" / zoo.RELEASES).read_text().splitlines()]
    released = {name: fingerprint for fingerprint, name in lines}
    assert len(released) == len(lines) == len({fingerprint for fingerprint, _ in lines})
    for folder, plugin in registry.named("glc_zoo").values():
        if plugin == registry.BUILTIN:
            name, version = versions.split(folder.name)
            assert released[f"{name}@{version}"] == zoo.info(folder)["fingerprint"]
