"""The site builds without a warning, and names everything that there is."""

import html
import os
import re
import subprocess
import sys

import click
import pytest

from glc_toolkit import hookspecs, registry, zoo
from glc_toolkit.cli import cli
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The text of each page of the reference, by name, from a strict build."""
    site = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "-q", "-d", site]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.parent.name: page.read_text() for page in (site / "reference").glob("*/index.html")}
    return {name: html.unescape(re.sub("<[^>]*>", "", page)) for name, page in pages.items()}


def commands(group: click.Group, start: str):
    for name, command in group.commands.items():
        yield f"{start} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{start} {name}")


def test_every_hook_is_documented(reference):
    hooks = [name for name in vars(hookspecs) if name.startswith("glc_")]
    assert set(registry.HOOKS.values()) < set(hooks)
    for name in hooks:
        assert f"{name}(" in reference["hooks"], name
        assert getattr(hookspecs, name).__doc__, name


def test_every_component_is_documented(reference):
    for kind in registry.KINDS:
        for name, (factory, plugin) in registry.components(kind).items():
            if plugin in registry.BUILTINS:
                assert factory.__doc__, f"{kind} {name}"
                assert re.search(rf"^{re.escape(name)}$", reference["components"], re.MULTILINE), f"{kind} {name}"


def test_every_command_is_documented(reference):
    for name, command in commands(cli, "glc"):
        assert command.help, name
        assert re.search(rf"^{name}\b", reference["commands"], re.MULTILINE), name


def test_every_zoo_model_is_documented(reference):
    for name, (folder, plugin) in registry.named("glc_zoo").items():
        if plugin == registry.BUILTIN:
            assert zoo.info(folder)["fingerprint"][:16] in reference["zoo"], name


def test_pages_have_the_numbers_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import make_tables

    pages = make_tables.pages()
    marked = {place[1] for page in pages for place in make_tables.PLACE.findall(page.read_text())}
    assert marked == set(make_tables.TABLES)
    for page in pages:
        assert page.read_text() == make_tables.filled(page), f"{page}: run python docs/make_tables.py"
