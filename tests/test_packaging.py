"""What a release says about itself agrees."""

import sys
from pathlib import Path

import pytest

import glc_toolkit
from tests.conftest import ROOT

if sys.version_info < (3, 11):
    pytest.skip("tomllib came with Python 3.11", allow_module_level=True)
import tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version():
    assert PROJECT["version"] == glc_toolkit.__version__
    assert f"\nversion: {glc_toolkit.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_all_is_every_extra_of_users():
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras.pop("all")
    assert everything == f"glc-toolkit[{','.join(sorted(extras.keys() - {'test'}))}]"


def test_types_are_shipped():
    assert (Path(glc_toolkit.__file__).parent / "py.typed").is_file()


def test_the_image_has_what_the_build_reads():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {"glc_toolkit", "zoo", "pyproject.toml", PROJECT["readme"], "LICENSE"} <= kept
