"""The ``glc`` command. Everything heavy is imported inside the commands, so that help answers at once."""

import json
import math
import os
import re
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import click

from glc_toolkit import __version__, registry

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
ANY = click.Path(path_type=Path)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
model_option = click.option(
    "-m", "--model", default="glc-image-0.03", show_default=True, help="Zoo name, folder or hf://owner/name."
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(0),
    help="Refuse pictures of more pixels, padding included; 0 for no limit. Default: 33554432.",
)

precision_option = click.option(
    "--precision",
    type=click.Choice(["float32", "bf16", "auto"]),
    default="float32",
    show_default=True,
    help="Of the backbone; auto is bf16 where the processor has it.",
)


class Misuse(click.ClickException):
    """A mistake in the arguments that click cannot know."""

    exit_code = 2


class Commands(click.Group):
    """Turns the errors a user can cause into one line and exit code 1."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error))):
                raise click.ClickException("there is not enough memory for a picture or batch of this size") from None
            if isinstance(error, (ValueError, OSError)) or type(error).__module__.startswith("glc_toolkit."):
                raise click.ClickException(_one_line(error)) from None
            raise


OUT_OF_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory")  # PyTorch's words, by device


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _finite(ctx, param, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="glc")
def cli():
    """Generative latent coding: pictures in a few kilobytes."""


@cli.command()
@click.argument("source", type=FILE)
@click.argument("target", type=ANY)
@model_option
@click.option("-q", "--quality", type=float, help="Level, 0 the smallest file; fractions lie in between.")
@click.option(
    "--target-bpp",
    type=click.FloatRange(0, min_open=True),
    callback=_finite,
    help="The best quality within so many bits a pixel.",
)
@click.option("--max-bytes", type=click.IntRange(1), help="The best quality within so many bytes.")
@max_pixels_option
@precision_option
@as_json
def encode(source, target, model, quality, target_bpp, max_bytes, max_pixels, precision, as_json):
    """Compress the picture SOURCE to the GLC file TARGET."""
    if sum(v is not None for v in (quality, target_bpp, max_bytes)) > 1:
        raise Misuse("give one of --quality, --target-bpp and --max-bytes, not several")
    _refuse_same(source, target)
    from glc_toolkit import api, io, zoo

    loaded = zoo.load(model, precision=precision)
    _check_quality(loaded, quality)
    with _bar() as bar:
        task = bar.add_task("search", total=1.0, visible=target_bpp is not None or max_bytes is not None)
        data = api.encode(
            source,
            model=loaded,
            quality=quality,
            target_bpp=target_bpp,
            max_bytes=max_bytes,
            max_pixels=max_pixels,
            progress=lambda share: bar.update(task, completed=share),
        )
    with io.replacing(target) as partial:
        partial.write_bytes(data)
    facts = api.bitstream.parse(data)
    bpp = 8 * len(data) / (facts.width * facts.height)
    _show(
        {"file": str(target), "bytes": len(data), "bpp": bpp}, as_json, f"{target}: {len(data):,} bytes, {bpp:.4f} bpp"
    )


@cli.command()
@click.argument("source", type=FILE)
@click.argument("target", type=ANY)
@click.option("-m", "--model", help="What wrote it, where the zoo does not know it.")
@click.option("--preview", is_flag=True, help="Decode the side information alone: a rough picture, fast.")
@max_pixels_option
@precision_option
def decode(source, target, model, preview, max_pixels, precision):
    """Decompress the GLC file SOURCE to the picture TARGET, in the format of its name."""
    _refuse_same(source, target)
    from glc_toolkit import api, io

    data = api.bitstream.read(source)
    io.save(api.decode(data, model=model, preview=preview, max_pixels=max_pixels, precision=precision), target)


@cli.command()
@click.argument("source", type=FILE)
@click.option("-m", "--model", help="What wrote it, where the zoo does not know it.")
@max_pixels_option
@as_json
def info(source, model, max_pixels, as_json):
    """What is in a GLC file, and where every byte of it goes."""
    from glc_toolkit import api

    facts = api.info(api.bitstream.read(source), model=model, max_pixels=max_pixels)
    if as_json:
        return _show(facts, True, "")
    for key, value in facts.items():
        if key != "sections":
            click.echo(f"{key:12} {value:.4f}" if isinstance(value, float) else f"{key:12} {value}")
    for name, size in facts["sections"].items():
        click.echo(f"  {name:10} {size:7,} bytes  {size / facts['bytes']:6.1%}")


@cli.command("eval")
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@model_option
@click.option("-q", "--quality", type=float, multiple=True, help="Level; repeat for several. Default: the model's own.")
@click.option("--metric", "metrics", multiple=True, help="Repeat for several. Default: psnr ms-ssim lpips-alex dists.")
@as_json
def eval_(folder, model, quality, metrics, as_json):
    """Real bytes and quality of a model on a folder of pictures."""
    from glc_toolkit import zoo
    from glc_toolkit.evaluation import evaluate as e

    loaded = zoo.load(model)
    _check_quality(loaded, *quality)
    if unknown := set(metrics) - set(registry.names("metric")):
        raise Misuse(f"no metric {', '.join(sorted(unknown))}; there are: {', '.join(registry.names('metric'))}")
    pictures = e.find(folder)
    results = []
    with _bar() as bar:
        for level in quality or (None,):
            name = "quality " + ("default" if level is None else f"{level:g}")
            measured = e.evaluate(pictures, *e.glc_codec(loaded, level), metrics or e.METRICS)
            rows = list(bar.track(measured, total=len(pictures), description=name))
            results.append({"model": model, "quality": level, "mean": e.summary(rows), "images": rows})
    if as_json:
        return _show(results, True, "")
    table = [{"quality": "default" if r["quality"] is None else r["quality"], **r["mean"]} for r in results]
    _table(f"{model} on {len(pictures)} pictures, mean", table, [row for r in results for row in r["images"]])


@cli.command()
@click.argument("model")
@click.option("--size", default="768x512", show_default=True, help="Of the picture, WIDTHxHEIGHT.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@precision_option
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Timed runs; the median counts.")
@click.option("--plain/--no-plain", default=True, help="Compare with a plain float32 run of the same graph.")
@as_json
def bench(model, size, device, precision, repeats, plain, as_json):
    """Seconds, GFLOP and memory of every stage of MODEL: a zoo name, a folder, or glc-image-paper untrained."""
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
    click.echo(f"; plain {facts['plain']['bytes']:,} bytes, {facts['plain']['psnr']:.3f} dB" if plain else "")


@cli.command()
@click.argument("picture", type=FILE)
@click.option("-o", "--out", type=ANY, default=Path("demo"), show_default=True)
@model_option
@as_json
def demo(picture, out, model, as_json):
    """One photograph through the codec, AVIF and JPEG: a table and a side-by-side picture."""
    _refuse_same(picture, out / f"{picture.stem}.glc")
    from glc_toolkit.evaluation.demo import RIVALS
    from glc_toolkit.evaluation.demo import demo as run

    with _bar() as bar:
        rows = list(bar.track(run(picture, out, model), total=1 + len(RIVALS), description="demo"))
    if as_json:
        return _show(rows, True, "")
    _table(picture.name, rows, rows)
    click.echo(f"{out / picture.stem}.glc, {out / picture.stem}-glc.png, {out / picture.stem}-comparison.png")


@cli.command()
@click.argument("recipe", type=FILE)
@click.option("-o", "--out", type=ANY, help="Folder of the run; started anew or resumed. Default: runs/NAME.")
@click.option("--smoke", is_flag=True, help="Two steps of each stage on small crops, to see that a recipe runs.")
@click.option(
    "--time-budget", type=click.FloatRange(0, min_open=True), help="Minutes of training, shared by the stages."
)
def train(recipe, out, smoke, time_budget):
    """Train a model by RECIPE (YAML), or go on with a run that was stopped; ends with a zoo folder in OUT."""
    try:
        import yaml
        from pydantic import ValidationError

        from glc_toolkit.training.run import run
    except ModuleNotFoundError as error:
        raise click.ClickException(f"training needs {error.name}: pip install 'glc-toolkit[train]'") from None
    try:
        click.echo(run(recipe, out, smoke, time_budget))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors()]
        raise click.ClickException(f"{recipe}: {'; '.join(faults)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{recipe} is no YAML: {_one_line(error)}") from None


@cli.group("zoo")
def zoo_():
    """Trained models."""


@zoo_.command("list")
@as_json
def zoo_list(as_json):
    """Models that can be loaded by name."""
    from glc_toolkit import zoo

    _show(zoo.list_models(), as_json, "\n".join(zoo.list_models()) or "no models")


@zoo_.command("info")
@click.argument("model")
@as_json
def zoo_info(model, as_json):
    """Size, components and provenance of MODEL."""
    from glc_toolkit import zoo

    facts = zoo.info(model)
    _show(facts, as_json, "\n".join(f"{key:12} {value}" for key, value in facts.items() if key != "config"))


@zoo_.command("verify")
@click.argument("models", nargs=-1)
def zoo_verify(models):
    """Check the sha256 of MODELS (default: all) and that they load."""
    from glc_toolkit import zoo

    for model in models or zoo.list_models():
        zoo.load(model)
        click.echo(f"{model}: ok")


@zoo_.command("import")
@click.argument("source", type=FILE)
@click.option("--as", "kind", required=True, help="What SOURCE is: glc-image-paper or vqgan-f16-16384.")
@click.argument("folder", type=ANY)
@as_json
def zoo_import(source, kind, folder, as_json):
    """Make the model FOLDER of the published checkpoint SOURCE, a PyTorch file. No code in it is run."""
    from glc_toolkit import official

    if kind not in official.ORIGINS:
        raise Misuse(f"--as is one of {', '.join(official.ORIGINS)}, not {kind!r}")
    with _bar() as bar:
        bar.add_task("import", total=None)
        facts = official.import_file(source, kind, folder)
    lines = [f"{folder}: {facts['parameters']:,} parameters"]
    if facts["apart"]:
        lines.append(f"{folder / official.PREDICTIONS}: {len(facts['apart'])} tensors that only training needs")
    lines += [f"skipped: {name}" for name in facts["skipped"]]
    _show(facts, as_json, "\n".join(lines))


@zoo_.command("export")
@click.argument("model")
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
        files = onnx.export(zoo.load(model), folder, width, height)
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
@click.argument("plugin")
def plugins_check(plugin):
    """Run the conformance checks on every component of PLUGIN (a name shown by ``glc plugins list``)."""
    import pytest

    known = {p for kind in registry.KINDS for _, p in registry.components(kind).values()}
    if plugin not in known:
        raise click.ClickException(f"no plugin {plugin!r} brings components; there are: {', '.join(sorted(known))}")
    os.environ["GLC_CHECK_PLUGIN"] = plugin
    sys.exit(int(pytest.main(["--pyargs", "glc_toolkit.conformance", "-q", "-p", "no:cacheprovider"])))


def _size(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"[1-9]\d{0,5}x[1-9]\d{0,5}", text):
        raise Misuse(f"--size is WIDTHxHEIGHT in pixels, such as 768x512, not {text!r}")
    width, height = text.split("x")
    return int(width), int(height)


def _refuse_same(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        raise Misuse(f"{target} is the file to read; give another one to write")


def _check_quality(model, *levels: float | None) -> None:
    for level in levels:
        try:
            model.quality_code(level)
        except ValueError as error:
            raise Misuse(_one_line(error)) from None


def _show(value, as_json: bool, text: str) -> None:
    click.echo(json.dumps(_plain(value), indent=2, allow_nan=False) if as_json else text)


def _plain(value):
    """What JSON can say: null for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _bar():
    """A progress bar in the look of training, on a terminal only and apart from the result."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        yield bar


def _table(title: str, rows: list[dict], measured: list[dict]) -> None:
    """Print ``rows``, with a note where a metric of ``measured`` has no value."""
    from rich.console import Console
    from rich.table import Table

    from glc_toolkit.evaluation.evaluate import NO_VALUE

    def cell(value) -> str:
        if isinstance(value, float):
            return "-" if math.isnan(value) else f"{value:.4f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    incomplete = any(isinstance(v, float) and math.isnan(v) for row in measured for v in row.values())
    table = Table(title=title, caption=NO_VALUE if incomplete else None)
    for key in rows[0]:
        table.add_column(key.replace("_", " "), justify="left" if isinstance(rows[0][key], str) else "right")
    for row in rows:
        table.add_row(*map(cell, row.values()))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def main() -> None:
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.jit")  # raised by compressai's imports
    warnings.filterwarnings("ignore", message="Image size")  # Pillow's, of large pictures: we have a limit
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
        except Exception as error:
            registry.complain(hook.plugin_name, error)
