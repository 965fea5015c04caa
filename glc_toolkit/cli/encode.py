"""``glc encode``."""

import sys
from itertools import islice

import click

from glc_toolkit import defaults
from glc_toolkit.cli.group import Misuse, cli
from glc_toolkit.cli.options import (
    ANY,
    SOURCE,
    as_json,
    completed,
    device_option,
    effort_option,
    max_bytes_option,
    max_pixels_option,
    model_names,
    overwrite_options,
    precision_option,
    quality_option,
    target_bpp_option,
)
from glc_toolkit.cli.output import (
    INTERRUPTED,
    PIPE,
    STDIN,
    check_budget,
    check_quality,
    check_target,
    open_pipe,
    progress_bar,
    show,
    writing,
)


@cli.command()
@click.argument("source", type=SOURCE)
@click.argument("target", type=ANY)
@click.option(
    "-m",
    "--model",
    shell_complete=completed(model_names),
    help=f"Zoo name, folder or hf://owner/name. Default: {defaults.MODEL}, and {defaults.VIDEO_MODEL} for a video.",
)
@quality_option
@target_bpp_option
@max_bytes_option
@effort_option
@click.option("--start", type=click.IntRange(0), default=0, help="Video: the first frame to encode.")
@click.option("--frames", type=click.IntRange(1), help="Video: how many frames to encode.")
@click.option("--intra-period", type=click.IntRange(1), help="Video: frames from one intra frame to the next.")
@click.option(
    "--stream",
    type=click.IntRange(0),
    help="Video: number of the stream to encode, as ffprobe counts. Default: the default stream of the file.",
)
@click.option("--strict", is_flag=True, help="Video: stop at a damaged frame. Default: repeat the frame before it.")
@max_pixels_option
@precision_option
@device_option
@overwrite_options
@as_json
def encode(
    source,
    target,
    model,
    quality,
    target_bpp,
    max_bytes,
    effort,
    start,
    frames,
    intra_period,
    stream,
    strict,
    max_pixels,
    precision,
    device,
    overwrite,
    as_json,
):
    """Compress the picture or video SOURCE to the GLC file TARGET.

    SOURCE may be - for the standard input, and TARGET - for the standard output.
    """
    check_budget(quality, target_bpp, max_bytes)
    check_target(source, target, overwrite)
    from glc_toolkit import api, clips, zoo
    from glc_toolkit.ahead import share_cores

    name = STDIN if str(source) == PIPE else source
    video, source = open_pipe() if name == STDIN else (source.suffix.lower() in clips.SUFFIXES, source)
    if not video and (start or frames or intra_period or stream is not None or strict):
        raise Misuse("--start, --frames, --intra-period, --stream and --strict are for videos, and SOURCE is a picture")
    loaded = zoo.load(model or (defaults.VIDEO_MODEL if video else defaults.MODEL), device, precision)
    check_quality(loaded, quality)
    if video:
        share_cores()
        counted = _count(source, stream, strict) if max_bytes and not frames else 0
        budget = bool(target_bpp or max_bytes)
        opening = clips.opened(source, stream, strict, report=lambda text: click.echo(text, err=True))
        with opening as (clip, decoded), writing(target, overwrite, budget) as file, progress_bar(rate="fps") as bar:
            if clip.audio:
                click.echo(f"{name}: its sound is left out", err=True)
            if clip.aspect != 1:
                click.echo(f"{name}: its pixels are {clip.aspect} times as wide as high; they become square", err=True)
            length = clip.frames or counted
            rest = max(length - start, 1) if length else None
            total = min((count for count in (frames, rest) if count), default=None)
            task = bar.add_task("encode", total=total)
            chosen = islice(decoded, start, None if frames is None else start + frames)
            chunks = api.encode_video(
                chosen,
                loaded,
                clip.fps,
                quality,
                intra_period,
                clip.colour,
                max_pixels,
                effort=effort,
                target_bpp=target_bpp,
                max_bytes=max_bytes,
                count=total,
            )
            done = api.write_video(chunks, file, progress=lambda count: bar.update(task, completed=count))
        if done.interrupted:
            click.echo("interrupted: the file has the frames so far, and lacks its end. It can be decoded", err=True)
        bpp = 8 * done.bytes / (clip.width * clip.height * done.frames)
        facts = {"frames": done.frames, "bytes": done.bytes, "bpp": bpp, "interrupted": done.interrupted}
        text = f"{target}: {done.frames} frames, {done.bytes:,} bytes, {bpp:.4f} bpp"
        show({"file": str(target), **facts}, as_json, text, err=str(target) == PIPE)
        return sys.exit(INTERRUPTED) if done.interrupted else None
    with progress_bar() as bar:
        slow = bool(effort or target_bpp or max_bytes)
        task = bar.add_task("descend" if effort else "search", total=1.0, visible=slow)
        data = api.encode(
            source,
            model=loaded,
            quality=quality,
            target_bpp=target_bpp,
            max_bytes=max_bytes,
            effort=effort,
            max_pixels=max_pixels,
            progress=lambda share: bar.update(task, completed=share),
        )
    with writing(target, overwrite) as file:
        file.write(data)
    facts = api.bitstream.parse(data)
    bpp = 8 * len(data) / (facts.width * facts.height)
    text = f"{target}: {len(data):,} bytes, {bpp:.4f} bpp"
    show({"file": str(target), "bytes": len(data), "bpp": bpp}, as_json, text, err=str(target) == PIPE)


def _count(source, stream, strict) -> int:
    """How many frames a clip has, decoded if its times do not tell."""
    from glc_toolkit import clips

    with clips.opened(source, stream, strict, report=lambda text: None) as (clip, decoded):
        if clip.frames:
            return clip.frames
        with progress_bar(rate="fps") as bar:
            return sum(1 for _ in bar.track(decoded, description="count frames"))
