"""``glc train`` and ``glc recipe``."""

import shlex
import sys

import click

from glc_toolkit import defaults
from glc_toolkit.cli.group import cli, one_line
from glc_toolkit.cli.options import ANY, FILE, FORCE, completed, model_names, overwrite_options
from glc_toolkit.cli.output import INTERRUPTED, may_replace


@cli.command()
@click.argument("recipe", type=FILE)
@click.option("-o", "--out", type=ANY, help="Folder of the run. A run that is there goes on. Default: runs/NAME.")
@click.option("--smoke", is_flag=True, help="Run two small steps of each stage, to see whether the recipe works.")
@click.option(
    "--dry-run", is_flag=True, help="Show weights, operations, memory and minutes of each stage. Nothing is trained."
)
@click.option(
    "--time-budget", type=click.FloatRange(0, min_open=True), help="Minutes of training, shared by the stages."
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Change a field of the recipe, such as stages.0.lr=1e-4; repeat for several.",
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to train."
)
def train(recipe, out, smoke, dry_run, time_budget, changes, device):
    """Train a model by RECIPE, a YAML file. A run that was stopped goes on. The model becomes a zoo folder in OUT."""
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
            f"interrupted: {shlex.join(['glc', *sys.argv[1:]])} goes on from the last state. A state is written "
            "every five minutes",
            err=True,
        )
        sys.exit(INTERRUPTED)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors()]
        raise click.ClickException(f"{recipe}: {'; '.join(faults)}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise click.ClickException(f"{recipe} is no YAML: {one_line(error)}") from None


@cli.group("recipe")
def recipe_():
    """Write recipes of training."""


@recipe_.command("new")
@click.argument("target", type=ANY)
@click.option(
    "--from",
    "model",
    default=defaults.MODEL,
    show_default=True,
    shell_complete=completed(model_names),
    help="The model whose config is taken, and whose weights are the start: zoo name, folder or hf://owner/name.",
)
@click.option("--fresh", is_flag=True, help="Take the config alone, and train all three stages from random weights.")
@click.option(
    "--source", "sources", multiple=True, help="A folder or tar file of pictures; repeat for several. Default: photos."
)
@overwrite_options
def recipe_new(target, model, fresh, sources, overwrite):
    """Write a commented recipe to TARGET, for an image model like a given one."""
    may_replace(target, overwrite)
    from glc_toolkit import io

    try:
        from glc_toolkit.training.new import recipe
    except ModuleNotFoundError as error:
        raise click.ClickException(f"recipes need {error.name}: pip install 'glc-toolkit[train]'") from None
    text = recipe(target.stem, model, fresh, sources or ("photos",))
    with io.replacing(target, overwrite == FORCE) as partial:
        partial.write_text(text, "utf-8")
    click.echo(f"{target}: now glc train {target} --smoke, and without --smoke")
