"""``glc decode``."""

from __future__ import annotations

import itertools
import math
import sys
from typing import TYPE_CHECKING

import click

from glc_toolkit import defaults
from glc_toolkit.cli.group import Misuse, cli
from glc_toolkit.cli.options import (
    ANY,
    FORCE,
    SOURCE,
    artist_option,
    as_json,
    device_option,
    format_option,
    mark_option,
    max_pixels_option,
    overwrite_options,
    precision_option,
    reader_option,
)
from glc_toolkit.cli.output import (
    INTERRUPTED,
    PIPE,
    check_format,
    check_target,
    mark_text,
    progress_bar,
    read_stream,
    save_picture,
    show,
)

if TYPE_CHECKING:
    from PIL import Image

    from glc_toolkit.models import GLCModel


@cli.command()
@click.argument("source", type=SOURCE)
@click.argument("target", type=ANY)
@reader_option
@artist_option
@click.option("--preview", is_flag=True, help="Pictures: decode the side information alone, fast and blurred.")
@click.option("--start", type=click.IntRange(0), default=0, help="Video: the first frame to decode.")
@click.option("--frames", type=click.IntRange(1), help="Video: how many frames to decode.")
@click.option("--strict", is_flag=True, help="Video: stop at a damaged frame. Default: go on at the next intra frame.")
@click.option(
    "--max-gap",
    type=click.IntRange(0),
    help=f"Video: how many more frames may be missing than are there. 0 means no limit. Default: {defaults.MAX_GAP}.",
)
@format_option
@mark_option
@max_pixels_option
@precision_option
@device_option
@overwrite_options
@as_json
def decode(
    source,
    target,
    model,
    artist,
    preview,
    start,
    frames,
    strict,
    max_gap,
    format,
    mark,
    max_pixels,
    precision,
    device,
    overwrite,
    as_json,
):
    """Decompress the GLC file SOURCE to TARGET.

    SOURCE may be - for the standard input, and TARGET - for the standard output. The name of TARGET decides the format
    of a picture; on the standard output, --format does. A video becomes a video file if TARGET is named like one, and
    otherwise a folder of PNG files. On the standard output it becomes raw RGB frames.
    """
    check_target(source, target, overwrite)
    from glc_toolkit import api, bitstream
    from glc_toolkit.ahead import share_cores

    data, name = read_stream(source)
    if bitstream.is_video(data):
        share_cores()
        if preview or format:
            raise Misuse("--preview and --format are for pictures, and SOURCE is a video")
        header, at, loaded = api.open_video(data, model, max_pixels, precision, device)
        model = loaded.config.get("name", "unnamed")
        total = min(frames or math.inf, sum(1 for _ in api.videostream.records(data, at, max_gap=max_gap)) - start)
        damages = []
        decoded = api.decode_video(
            data, loaded, start, frames, strict, max_pixels, precision, damages.append, max_gap, device, artist
        )
        try:
            facts = _decode_video(decoded, total, header, target, mark_text(mark, model), overwrite)
        finally:
            for damage in damages:
                click.echo(f"{name}: {damage}", err=True)
        facts = {"file": str(target), "model": model, **facts, "damages": [str(damage) for damage in damages]}
        show(facts, as_json, "", err=str(target) == PIPE)
        return sys.exit(INTERRUPTED) if facts["interrupted"] else None
    if start or frames or strict:
        raise Misuse("--start, --frames and --strict are for videos, and SOURCE is a picture")
    check_format(target, format)
    picture, loaded, problems = _decode_picture(data, model, artist, preview, max_pixels, precision, device)
    model = loaded.config.get("name", "unnamed")
    for problem in problems:
        click.echo(f"{name}: {problem}", err=True)
    save_picture(picture, target, format, mark_text(mark, model), overwrite)
    size = {"width": picture.width, "height": picture.height}
    facts = {"file": str(target), "model": model, **size, "preview": preview, "problems": problems}
    show(facts, as_json, "", err=str(target) == PIPE)


def _decode_picture(
    data, model, artist, preview, max_pixels, precision, device
) -> tuple[Image.Image, GLCModel, list[str]]:
    """The picture, the model that decoded it, and what is wrong with the file. If anything is, the picture is a
    preview."""
    from glc_toolkit import api
    from glc_toolkit.doctor import diagnose

    try:
        _, loaded = api.open_stream(data, model, max_pixels, precision, device)
        return api.decode_picture(data, loaded, preview, max_pixels, precision, device, artist), loaded, []
    except api.BitstreamError:
        found, picture = diagnose(data, model, max_pixels, device) if preview else (None, None)
        if not found or not picture:
            raise
    loaded = api.zoo.load(model, device) if model else api.zoo.by_fingerprint(data[4:7], device=device)
    return picture, loaded, found.problems


def _decode_video(decoded, total, header, target, mark, overwrite) -> dict:
    """Write frame by frame to ``target``. If the user interrupts, the frames so far are kept."""
    from glc_toolkit import clips

    numbers, interrupted = itertools.count(), False
    try:
        with progress_bar(rate="fps") as bar:
            counted = (frame for frame, _ in zip(decoded, numbers, strict=False))
            shown = bar.track(counted, total=total, description="decode")
            clips.save(shown, target, header.fps, header.colour, mark, overwrite == FORCE)
    except KeyboardInterrupt:
        interrupted = True
        click.echo("interrupted: the frames decoded so far are kept", err=True)
    size = {"width": header.width, "height": header.height}
    return {"frames": next(numbers), **size, "interrupted": interrupted}
