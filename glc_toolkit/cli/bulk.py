"""``glc bulk``."""

import sys
import time
from dataclasses import asdict

import click

from glc_toolkit import defaults
from glc_toolkit.cli.group import Misuse, cli
from glc_toolkit.cli.options import (
    as_json,
    completed,
    effort_option,
    mark_option,
    max_bytes_option,
    max_pixels_option,
    metric_option,
    model_names,
    quality_option,
    target_bpp_option,
    usable_device,
)
from glc_toolkit.cli.output import check_budget, check_metrics, check_quality, progress_bar, show


@cli.command()
@click.argument("source")
@click.argument("target")
@click.option("--decode", "task", flag_value="decode", help="Decode GLC files to PNG.")
@click.option("--eval", "task", flag_value="eval", help="Only measure. The metrics go into TARGET/manifest.jsonl.")
@click.option("-m", "--model", shell_complete=completed(model_names), help="The model, named as in encode and decode.")
@quality_option
@target_bpp_option
@max_bytes_option
@effort_option
@metric_option
@click.option("--workers", type=click.IntRange(1), help="How many processes work at once, each on a core. Default: 1.")
@click.option(
    "--ray",
    "address",
    help="Address of a Ray cluster, which runs the workers. Without --workers, it runs as many as it has room for.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where the networks run, as in encode. With --ray, cuda gives each worker a GPU.",
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
    """Compress all pictures of SOURCE into the folder TARGET. The same command continues a run that was stopped.

    SOURCE is a folder, a tar shard, a pattern such as 'shards/*.tar', or any of these as an fsspec URL.
    """
    task = task or "encode"
    if address is None:  # a cluster may have what this machine has not
        device = usable_device(None, None, device)
    check_budget(quality, target_bpp, max_bytes)
    if task == "decode" and (quality is not None or target_bpp or max_bytes or effort):
        raise Misuse("--quality, --target-bpp, --max-bytes and --effort are for encoding, not for --decode")
    if metrics and task != "eval":
        raise Misuse("--metric needs --eval")
    from glc_toolkit import bulk as b
    from glc_toolkit import zoo

    if task != "decode":
        model = model or defaults.MODEL
        check_quality(zoo.load(model), quality)
    check_metrics(metrics)
    job = b.Job(
        task,
        source,
        target,
        model,
        quality,
        target_bpp,
        max_bytes,
        effort,
        metrics or defaults.METRICS,
        max_pixels,
        device,
        mark,
    )
    with progress_bar() as bar:
        started, line = time.monotonic(), bar.add_task(task, total=None)

        def progress(done: int, files: int, pictures: int) -> None:
            rate = pictures / (time.monotonic() - started)
            bar.update(line, completed=done, total=files, description=f"{done}/{files} files, {rate:.1f} pictures/s")

        report = b.run(job, workers, address, progress)
    faults = [f"{'/'.join(e[k] for k in ('source', 'member') if k in e)}: {e['error']}" for e in report.errors]
    done = f"{report.pictures:,} pictures in {report.seconds:.1f} s, {report.skipped:,} files were already done"
    more = [f"and {len(faults) - 20:,} more in {target}/{b.MANIFEST}"] if len(faults) > 20 else []
    means = [f"mean {key}: {value:.4f}" for key, value in (report.mean or {}).items()]
    show(asdict(report), as_json, "\n".join([done, *means]))
    if faults and as_json:
        sys.exit(1)
    if faults:
        count = "one error" if len(faults) == 1 else f"{len(faults):,} errors"
        raise click.ClickException("\n".join([f"{count}, all other files are done:", *faults[:20], *more]))
