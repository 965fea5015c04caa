"""Packages that ``glc plugins new`` writes are installed and pass their tests."""

import os
import subprocess
import sys

import pytest

from glc_toolkit import registry
from tests.conftest import ROOT
from tests.test_cli import glc


def process(*arguments, **environment) -> str:
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A package for each kind and one for all, in one folder."""
    folder = tmp_path_factory.mktemp("packages")
    for kind in registry.KINDS:
        glc("plugins", "new", f"made-{kind.replace('_', '-')}", "--kind", kind, "-o", folder)
    every = [word for kind in registry.KINDS for word in ("--kind", kind)]
    glc("plugins", "new", "glc-made", *every, "--licence", "Apache-2.0", "-o", folder)
    return folder


@pytest.mark.slow
def test_packages_install_and_pass_their_tests(packages, tmp_path):
    """One of every kind, and one of a single kind."""
    folders, site = [packages / "glc-made", packages / "made-loss"], tmp_path / "site"
    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site)
    process(*install, *folders, **os.environ)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}", "GLC_STRICT_PLUGINS": "1"}
    process("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", packages, *folders, **environment)


def test_a_package_says_what_was_chosen(packages):
    facts = (packages / "glc-made" / "pyproject.toml").read_text()
    assert 'license = "Apache-2.0"' in facts and '[project.entry-points.glc_toolkit]\nglc_made = "glc_made"' in facts
    assert "Apache License" in (packages / "glc-made" / "LICENSE").read_text()
    assert "the authors of made-loss" in (packages / "made-loss" / "LICENSE").read_text()
    assert "losses: {made: {weight: 1.0}}" in (packages / "glc-made" / "README.md").read_text()


def test_packages_are_tidy(packages):
    ruff = ("-m", "ruff", "--config", ROOT / "pyproject.toml")
    process(*ruff[:2], "check", *ruff[2:], packages, **os.environ)
    process(*ruff[:2], "format", "--check", *ruff[2:], packages, **os.environ)


@pytest.mark.parametrize(
    "name, message",
    [
        ("Bad Name", "is no name for a package"),
        ("class", "is no name for a package"),
        ("torch", "there is a package 'torch' already"),
        ("glc-fsq", "there is a quantizer 'fsq' already"),
        ("taken", "exists already"),
    ],
)
def test_names_that_cannot_be(name, message, tmp_path):
    (tmp_path / "taken").mkdir()
    assert message in glc("plugins", "new", name, "-o", tmp_path, code=1)
    assert [p.name for p in tmp_path.rglob("*")] == ["taken"]
