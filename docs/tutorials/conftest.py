"""Runs every block of the tutorials, page by page, each page in an empty folder with a photograph and a few more.

``python`` blocks of a page share their names; a block with a title is written to the file of that name; a line of a
``sh`` block is a command, ``glc`` in this process (to start one costs seconds) and ``pip install`` into the page's own
folder of packages.
"""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from click.testing import CliRunner
from PIL import Image
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from glc_toolkit import registry

PHOTO = Path(__file__).parents[1] / "images" / "lake.png"


def begin(namespace: dict) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tutorial"))
    namespace["_page"] = (folder, os.getcwd(), dict(os.environ), list(sys.path), set(sys.modules))
    os.chdir(folder)
    photo = Image.open(PHOTO).convert("RGB")
    photo.crop((100, 150, 356, 342)).save("photo.jpg", quality=95)
    (folder / "photos").mkdir()
    for i in range(3):
        photo.crop((80 * i, 60 * i, 80 * i + 192, 60 * i + 192)).save(f"photos/{i}.png")
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.path[:0] = [str(folder), str(folder / "site")]


def end(namespace: dict) -> None:
    folder, before, environment, path, modules = namespace["_page"]
    os.chdir(before)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    forget_plugins()
    shutil.rmtree(folder)


def forget_plugins() -> None:
    importlib.invalidate_caches()
    registry.manager.cache_clear()
    registry.refresh()


def shell(example) -> None:
    for line in example.parsed.replace("\\\n", " ").splitlines():
        command = shlex.split(line, comments=True)
        match command:
            case []:
                pass
            case ["glc", *arguments]:
                glc(arguments)
            case ["pip", "install", "-e", package]:
                pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
                subprocess.run([*pip, "--target", "site", f"./{package}"], check=True)
                forget_plugins()
            case _:
                subprocess.run(line, shell=True, check=True)


def glc(arguments: list[str]) -> None:
    from glc_toolkit.cli import cli

    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, f"glc {shlex.join(arguments)}: {result.output}"


def write(example) -> None:
    target = Path(example.region.lexemes["title"])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(example.parsed)


class FileParser:
    """Blocks with a title."""

    lexer = RawFencedCodeBlockLexer(re.compile(r'\w+ title="(?P<title>[^"]+)"\n'))

    def __call__(self, document):
        for region in self.lexer(document):
            region.parsed, region.evaluator = region.lexemes["source"], write
            yield region


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("sh", shell), FileParser()],
    pattern="*.md",
    setup=begin,
    teardown=end,
).pytest()
