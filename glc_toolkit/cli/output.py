"""What commands read and write: pipes, files that are not to be lost, tables, bars and JSON."""

from __future__ import annotations

import json
import math
import shutil
import sys
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import click

from glc_toolkit import registry
from glc_toolkit.cli.group import Misuse, one_line
from glc_toolkit.cli.options import FORCE, YES
from glc_toolkit.facts import plain

if TYPE_CHECKING:
    from PIL import Image

    from glc_toolkit.models import GLCModel

PIPE, STDIN = "-", "the standard input"  # PIPE as a target is the standard output
INTERRUPTED = 130  # exit code: the user stopped the command, and what was done is kept
UNITS = {"bytes": "", "bpp": "bits/pixel", "encoding_time": "s", "decoding_time": "s", "memory": "MB"}
UNITS |= {"encode_seconds": "s", "decode_seconds": "s", "seconds": "s", "psnr": "dB", "psnr-rgb": "dB"}


def refuse_same(source: Path, target: Path) -> None:
    if target.exists() and source.exists() and target.samefile(source):
        raise Misuse(f"{target} is the file to read; give another name for the output")


def check_target(source: Path, target: Path, overwrite: str | None) -> None:
    """Refuse a ``target`` that cannot or may not be written, before any work is done."""
    if str(target) == PIPE:
        return
    refuse_same(source, target)
    if target.suffix or target.is_file():  # another name may be that of a folder to be made
        from glc_toolkit import io

        io.check_writable(target, overwrite == FORCE)
    may_replace(target, overwrite)


def may_replace(target: Path, overwrite: str | None) -> None:
    """Before a file is lost, ask on a terminal and refuse elsewhere. A device or pipe has nothing to lose."""
    if overwrite in (YES, FORCE) or not target.is_file():
        return
    if overwrite is None and sys.stdin.isatty() and sys.stderr.isatty():
        if click.confirm(f"{target} exists; replace it?", err=True):
            return
        raise click.ClickException(f"{target} is left as it was")
    raise click.ClickException(f"{target} exists; -y replaces it")


def check_budget(*ways: float | None) -> None:
    if sum(way is not None for way in ways) > 1:
        raise Misuse("give one of --quality, --target-bpp and --max-bytes, not several")


def check_format(target: Path, format: str | None) -> None:
    from glc_toolkit import io

    if str(target) == PIPE and not format:
        raise Misuse("a picture on the standard output needs a --format, such as png")
    io.format_of(f".{format}" if format else target.suffix)


def save_picture(picture: Image.Image, target: Path, format: str | None, text: str, overwrite: str | None) -> None:
    """Write a picture with the mark ``text`` to a file or to the standard output."""
    from glc_toolkit import io, mark

    if str(target) != PIPE:
        return io.save(picture, target, format or "", text, overwrite == FORCE)
    whole = BytesIO()  # some of Pillow's writers seek
    picture.save(whole, io.format_of(f".{format}"), **mark.options(f".{format}", text))
    sys.stdout.buffer.write(whole.getvalue())
    sys.stdout.buffer.flush()


def mark_text(wanted: bool, model: str) -> str:
    """The sentence that a decoded picture or video carries, or nothing."""
    from glc_toolkit import mark

    return mark.sentence(model) if wanted else ""


def read_stream(source: Path) -> tuple[bytes, str]:
    """The bytes of a GLC file, and its name for messages."""
    from glc_toolkit import bitstream

    if str(source) != PIPE:
        return bitstream.read(source), str(source)
    return bitstream.read_pipe(sys.stdin.buffer, STDIN), STDIN


def open_pipe() -> tuple[bool, Any]:
    """Whether the standard input is a video; its file if it is one, else the opened picture."""
    from PIL import Image

    from glc_toolkit import io

    # on disk: a video may be larger than memory, and its reader seeks
    file = click.get_current_context().with_resource(TemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(sys.stdin.buffer, file)
    if not file.tell():
        raise click.ClickException(f"{STDIN} is empty")
    file.seek(0)
    try:
        picture = Image.open(file)
    except Exception:  # each of Pillow's plugins has its own
        return True, file
    return (True, file) if picture.format in io.NO_PICTURES else (False, picture)


@contextmanager
def writing(target: Path, overwrite: str | None, at_once: bool = False):
    """A binary file: the standard output, or one that takes the name of ``target`` once it is whole. ``at_once`` keeps
    what goes to the standard output until it is whole, too."""
    from glc_toolkit import io

    if str(target) == PIPE and at_once:
        with TemporaryFile() as whole:
            yield whole
            whole.seek(0)
            shutil.copyfileobj(whole, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        return
    if str(target) == PIPE:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with io.replacing(target, overwrite == FORCE) as partial, open(partial, "wb") as file:
        yield file


def check_quality(model: GLCModel, *levels: float | None) -> None:
    for level in levels:
        try:
            model.quality_code(level)
        except ValueError as error:
            raise Misuse(one_line(error)) from None


def check_metrics(metrics: tuple[str, ...]) -> None:
    if unknown := set(metrics) - set(registry.names("metric")):
        raise Misuse(f"no metric {', '.join(sorted(unknown))}; there are: {', '.join(registry.names('metric'))}")


def show(value, as_json: bool, text: str, err: bool = False) -> None:
    """Print a result as text or JSON; ``err`` is for the standard error."""
    if as_json or text:
        click.echo(json.dumps(plain(value), indent=2, allow_nan=False) if as_json else text, err=err)


@contextmanager
def progress_bar(rate: str | None = None):
    """A bar on the standard error that shows how far the work is; ``rate`` is the unit of its speed, if shown."""
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    from glc_toolkit.progress import shown

    class Speed(ProgressColumn):
        def render(self, task):
            return Text(f"{task.finished_speed or task.speed or 0:.1f} {rate}")

    columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    if rate:
        columns.append(Speed())
    with shown(*columns, rate=rate) as bar:
        yield bar


def print_table(title: str, rows: list[dict], measured: list[dict]) -> None:
    """Print ``rows`` as a table, with a note if a metric in ``measured`` has no value."""
    from rich.console import Console
    from rich.table import Table

    from glc_toolkit.evaluation.evaluate import no_value

    def cell(value) -> str:
        if isinstance(value, float):
            return "-" if math.isnan(value) else f"{value:.4f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    table = Table(title=title, caption=no_value(measured))
    for key in (keys := list(dict.fromkeys(key for row in rows for key in row))):
        texts = any(isinstance(row.get(key), str) for row in rows)
        unit = f"\n{UNITS[key]}" if UNITS.get(key) else ""
        table.add_column(key.replace("_", " ") + unit, justify="left" if texts else "right")
    for row in rows:
        table.add_row(*(cell(row.get(key, math.nan)) for key in keys))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
