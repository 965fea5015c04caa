"""``glc demo`` and ``glc report``: a codec beside others, to look at."""

import shlex
import sys
from pathlib import Path

import click

from glc_toolkit.cli.group import cli
from glc_toolkit.cli.options import (
    ANY,
    FILE,
    FORCE,
    as_json,
    device_option,
    max_pixels_option,
    metric_option,
    model_option,
    overwrite_options,
    rivals_option,
)
from glc_toolkit.cli.output import (
    check_metrics,
    check_quality,
    check_target,
    print_table,
    progress_bar,
    refuse_same,
    show,
)


@cli.command()
@click.argument("picture", type=FILE)
@click.option("-o", "--out", type=ANY, default=Path("demo"), show_default=True, help="Folder for the files.")
@model_option
@rivals_option
@max_pixels_option
@device_option
@overwrite_options
@as_json
def demo(picture, out, model, codecs, max_pixels, device, overwrite, as_json):
    """Compress PICTURE with a model, AVIF and JPEG, to compare them.

    Print a table, and write a picture that shows the results side by side. AVIF comes at full size and at a quarter of
    the size.
    """
    made = [out / f"{picture.stem}{end}" for end in (".glc", "-glc.png", "-comparison.png")]
    for target in made:
        check_target(picture, target, overwrite)
    from glc_toolkit.evaluation.demo import RIVALS
    from glc_toolkit.evaluation.demo import demo as run

    with progress_bar() as bar:
        rows = run(picture, out, model, max_pixels, codecs, device, overwrite == FORCE)
        rows = list(bar.track(rows, total=1 + len(codecs or RIVALS), description="demo"))
    if as_json:
        return show(rows, True, "")
    print_table(picture.name, rows, rows)
    click.echo(", ".join(map(str, made)))


@cli.command()
@click.argument("pictures", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option("-o", "--out", type=ANY, default=Path("report.html"), show_default=True, help="The page to write.")
@model_option
@click.option(
    "-q",
    "--quality",
    type=float,
    multiple=True,
    help="Quality level; repeat for several. Default: all whole levels, and the default quality of the model.",
)
@metric_option
@click.option(
    "--curves",
    type=FILE,
    multiple=True,
    help="JSON of CompressAI's eval_model, which is drawn, too; repeat for several.",
)
@rivals_option
@max_pixels_option
@device_option
@overwrite_options
def report(pictures, out, model, quality, metrics, curves, codecs, max_pixels, device, overwrite):
    """Write an HTML page that compares a model with JPEG, WebP and AVIF.

    PICTURES are files or folders. AVIF comes at full size and at a quarter of the size. The page needs no network.
    """
    from glc_toolkit import zoo
    from glc_toolkit.evaluation import evaluate as e
    from glc_toolkit.evaluation import report as r

    loaded = zoo.load(model)
    check_quality(loaded, *quality)
    check_metrics(metrics)
    found = [path for place in pictures for path in e.find(place)]
    for path in (*found, *curves):
        refuse_same(path, out)
    check_target(found[0], out, overwrite)
    command = shlex.join(["glc", *sys.argv[1:]])
    with progress_bar() as bar:
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
