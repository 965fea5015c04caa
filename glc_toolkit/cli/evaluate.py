"""``glc eval``, ``compare``, ``bd``, ``plot`` and ``bench``: measurements of codecs and pictures."""

import math
import shlex
import sys
from pathlib import Path

import click

from glc_toolkit import defaults, registry
from glc_toolkit.cli.group import Misuse, cli, one_line
from glc_toolkit.cli.options import (
    ANY,
    FILE,
    FORCE,
    as_json,
    codec_names,
    completed,
    device_option,
    max_pixels_option,
    metric_names,
    metric_option,
    model_names,
    overwrite_options,
    parse_size,
    precision_option,
)
from glc_toolkit.cli.output import check_metrics, may_replace, print_table, progress_bar, show


@cli.command("eval")
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-c",
    "--codec",
    "-m",
    "--model",
    "codecs",
    multiple=True,
    default=(defaults.MODEL,),
    show_default=True,
    shell_complete=completed(model_names, codec_names),
    help="A codec as NAME[:SETTING,SETTING...]; repeat for several. NAME is a zoo name, a folder, hf://owner/name, "
    "compressai:NAME, program:FILE.yaml, jpeg, webp, avif, avif-half, avif-quarter, jxl, x264, x265, or a codec that "
    "a plugin brings.",
)
@click.option(
    "-q",
    "--quality",
    type=float,
    multiple=True,
    help="A setting of the codecs that are named without one; repeat for several.",
)
@click.option(
    "--match-bpp",
    help="Sizes in bits a pixel, separated by commas. Each codec takes its settings that come nearest to these sizes.",
)
@metric_option
@click.option("--effort", type=click.IntRange(0), default=0, help="Steps for GLC models, as in encode.")
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=defaults.EVAL_FRAMES,
    show_default=True,
    help="Clips: how many frames to measure.",
)
@click.option("--protocol", help="Measure only if the pictures are those of this protocol, such as glc-kodak-v1.")
@click.option("-o", "--out", type=ANY, help="Folder of the results. The same command continues a run that was stopped.")
@max_pixels_option
@device_option
@as_json
def eval_(folder, codecs, quality, match_bpp, metrics, effort, frames, protocol, out, max_pixels, device, as_json):
    """Measure codecs on a folder of pictures or clips: the bytes of real files, and the quality."""
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
        raise Misuse(one_line(error)) from None
    pictures = e.find(folder, clips.SUFFIXES)
    total = sum(len(targets or settings) for _, settings in chosen) * len(pictures)
    command = "glc " + shlex.join(sys.argv[1:])
    with progress_bar() as bar:
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
        return show(results, True, "")
    table = [
        {"codec": r["name"], "setting": setting, **{key: values[i] for key, values in r["results"].items()}}
        for r in results
        for i, setting in enumerate(r["settings"])
    ]
    what = "clips" if any(path.suffix.lower() in clips.SUFFIXES for path in pictures) else "pictures"
    print_table(f"{len(pictures)} {what}, mean", table, [row for r in results for row in r["images"]])


@cli.command()
@click.argument("original", type=FILE)
@click.argument("others", nargs=-1, required=True, type=FILE)
@metric_option
@max_pixels_option
@device_option
@as_json
def compare(original, others, metrics, max_pixels, device, as_json):
    """Measure how far the pictures OTHERS are from the picture ORIGINAL."""
    check_metrics(metrics)
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
        return show(rows, True, "")
    print_table(f"against {original}", rows, rows)


@cli.command()
@click.argument("anchor", type=FILE)
@click.argument("results", nargs=-1, required=True, type=FILE)
@as_json
def bd(anchor, results, as_json):
    """Show the BD-rate of RESULTS for each metric.

    It says how many per cent larger RESULTS are than ANCHOR at equal quality. ANCHOR and RESULTS are files that ``glc
    eval -o`` wrote.
    """
    from glc_toolkit.evaluation import curves

    rows = curves.bd_rates(curves.read(anchor), [curve for file in results for curve in curves.read(file)])
    if as_json:
        return show(rows, True, "")
    print_table(f"BD-rate against {anchor.stem}, per cent", rows, [])


@cli.command()
@click.argument("results", nargs=-1, type=FILE)
@click.option(
    "-o", "--out", type=ANY, default=Path("rd.svg"), show_default=True, help="The drawing. Its name decides the format."
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    shell_complete=completed(metric_names),
    help="A metric to draw; repeat for several. Default: every metric that two curves share.",
)
@overwrite_options
@click.option(
    "--published",
    help="Also draw the published curves on this set: Kodak, CLIC2020, DIV2K, HEVC-B, MCL-JCV or UVG.",
)
def plot(results, out, metrics, overwrite, published):
    """Draw the rate-distortion curves of RESULTS, files that ``glc eval -o`` wrote."""
    from glc_toolkit.evaluation import curves

    chosen = [curve for file in results for curve in curves.read(file)]
    if published:
        chosen += curves.published(published)
    may_replace(out, overwrite)
    curves.plot(chosen, out, metrics, overwrite == FORCE)
    click.echo(out)


@cli.command()
@click.argument("model", shell_complete=completed(model_names))
@click.option("--size", default="768x512", show_default=True, help="Size of the picture, WIDTHxHEIGHT.")
@device_option
@precision_option
@click.option(
    "--repeats", type=click.IntRange(1), default=3, show_default=True, help="How many runs to time. The median counts."
)
@click.option("--plain/--no-plain", default=True, help="Also measure the same networks in plain float32.")
@as_json
def bench(model, size, device, precision, repeats, plain, as_json):
    """Measure seconds, GFLOP and memory of every stage of MODEL.

    MODEL is a zoo name, a folder, glc-image-paper or glc-video-paper. The last two are untrained. Of a video model, the
    stages of a P frame are measured. MODEL may also be another codec of ``glc eval``, such as avif:20. Its stages are
    encoding and decoding.
    """
    width, height = parse_size(size)
    from glc_toolkit.evaluation.bench import report

    with progress_bar() as bar:
        bar.add_task("bench", total=None)
        facts = report(model, width, height, device, precision, repeats, plain)
    if as_json:
        return show(facts, True, "")
    title = f"{model}, {size}, {facts['precision']}, {facts['device']}, {facts['threads']} threads"
    print_table(title, facts["stages"], [])
    if "fps" in facts:
        click.echo(", ".join(f"{way}: {fps:.2f} fps" for way, fps in facts["fps"].items()))
    click.echo(f"{facts['bytes']:,} bytes, {facts['psnr']:.3f} dB to the picture", nl=False)
    click.echo(
        f"; plain {facts['plain']['bytes']:,} bytes, {facts['plain']['psnr']:.3f} dB" if "plain" in facts else ""
    )
