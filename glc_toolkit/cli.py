"""The ``glc`` command. Everything heavy is imported inside the commands, so that help answers at once."""

import json
import os
import sys
import warnings
from pathlib import Path

import click

from glc_toolkit import __version__, registry

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
ANY = click.Path(path_type=Path)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
model_option = click.option(
    "-m", "--model", default="glc-image-0.03", show_default=True, help="Zoo name, folder or hf://owner/name."
)


class Commands(click.Group):
    """Turns the errors a user can cause into one line and exit code 1."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (ValueError, OSError, registry.PluginError) as error:
            raise click.ClickException(_one_line(error)) from None
        except Exception as error:
            if type(error).__module__.startswith("glc_toolkit."):
                raise click.ClickException(_one_line(error)) from None
            raise


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


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
    "--target-bpp", type=click.FloatRange(0, min_open=True), help="The best quality within so many bits a pixel."
)
@click.option("--max-bytes", type=click.IntRange(1), help="The best quality within so many bytes.")
@as_json
def encode(source, target, model, quality, target_bpp, max_bytes, as_json):
    """Compress the picture SOURCE to the GLC file TARGET."""
    from glc_toolkit import api

    data = api.encode(source, model=model, quality=quality, target_bpp=target_bpp, max_bytes=max_bytes)
    _write(target, data)
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
def decode(source, target, model, preview):
    """Decompress the GLC file SOURCE to the picture TARGET, in the format of its name."""
    from glc_toolkit import api, io

    io.save(api.decode(source.read_bytes(), model=model, preview=preview), target)


@cli.command()
@click.argument("source", type=FILE)
@click.option("-m", "--model", help="What wrote it, where the zoo does not know it.")
@as_json
def info(source, model, as_json):
    """What is in a GLC file, and where every byte of it goes."""
    from glc_toolkit import api

    facts = api.info(source.read_bytes(), model=model)
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
    pictures = e.find(folder)
    results = []
    for level in quality or (None,):
        rows = []
        for row in _progress(
            e.evaluate(pictures, *e.glc_codec(loaded, level), metrics or e.METRICS), len(pictures), as_json
        ):
            rows.append(row)
        results.append({"model": model, "quality": level, "mean": e.summary(rows), "images": rows})
    if as_json:
        return _show(results, True, "")
    table = [{"quality": "default" if r["quality"] is None else r["quality"], **r["mean"]} for r in results]
    _table(f"{model} on {len(pictures)} pictures, mean", table)


@cli.command()
@click.argument("picture", type=FILE)
@click.option("-o", "--out", type=ANY, default=Path("demo"), show_default=True)
@model_option
@as_json
def demo(picture, out, model, as_json):
    """One photograph through the codec, AVIF and JPEG: a table and a side-by-side picture."""
    from glc_toolkit.evaluation.demo import demo as run

    rows = run(picture, out, model)
    if as_json:
        return _show(rows, True, "")
    _table(picture.name, rows)
    click.echo(f"{out / picture.stem}.glc, {out / picture.stem}-glc.png, {out / picture.stem}-comparison.png")


@cli.command()
@click.argument("recipe", type=FILE)
@click.option("-o", "--out", type=ANY, help="Folder of the run; started anew or resumed. Default: runs/NAME.")
@click.option("--smoke", is_flag=True, help="Two steps of each stage on small crops, to see that a recipe runs.")
def train(recipe, out, smoke):
    """Train a model by RECIPE (YAML), or go on with a run that was stopped; ends with a zoo folder in OUT."""
    try:
        from glc_toolkit.training.run import run
    except ModuleNotFoundError as error:
        raise click.ClickException(f"training needs {error.name}: pip install 'glc-toolkit[train]'") from None
    click.echo(run(recipe, out, smoke))


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


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _show(value, as_json: bool, text: str) -> None:
    click.echo(json.dumps(value, indent=2) if as_json else text)


def _progress(rows, total: int, quiet: bool):
    from rich.console import Console
    from rich.progress import track

    return track(rows, total=total, description="", console=Console(stderr=True), disable=quiet)


def _table(title: str, rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for key in rows[0]:
        table.add_column(key.replace("_", " "), justify="left" if isinstance(rows[0][key], str) else "right")
    for row in rows:
        table.add_row(
            *(f"{v:.4f}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else str(v) for v in row.values())
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def main() -> None:
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.jit")  # raised by compressai's imports
    registry.manager().hook.glc_commands(cli=cli)
    cli()
