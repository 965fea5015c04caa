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
@click.option(
    "-o",
    "--out",
    type=ANY,
    help="Folder of the run. A run that is there continues. Default: runs/NAME, by the name in the recipe.",
)
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
    """Train a model by the YAML file RECIPE. The same command continues a run that was stopped.

    The trained model is a folder in OUT. Every command takes such a folder as a model.
    """
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
            f"interrupted: {shlex.join(['glc', *sys.argv[1:]])} continues from the last saved state. A state is saved "
            "every five minutes",
            err=True,
        )
        sys.exit(INTERRUPTED)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors()]
        raise click.ClickException(f"{recipe}: {'; '.join(faults)}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise click.ClickException(f"{recipe} is not YAML: {one_line(error)}") from None


@cli.group("recipe")
def recipe_():
    """Write recipes for training."""


@recipe_.command("new")
@click.argument("target", type=ANY)
@click.option(
    "--from",
    "model",
    default=defaults.MODEL,
    show_default=True,
    shell_complete=completed(model_names),
    help="The recipe takes the config of this model and starts from its weights: zoo name, folder or hf://owner/name.",
)
@click.option("--fresh", is_flag=True, help="Take the config alone. All three stages train, from random weights.")
@click.option(
    "--source", "sources", multiple=True, help="A folder or tar file of pictures; repeat for several. Default: photos."
)
@overwrite_options
def recipe_new(target, model, fresh, sources, overwrite):
    """Write a recipe with comments to TARGET. It trains an image model like an existing one."""
    may_replace(target, overwrite)
    from glc_toolkit import io

    try:
        from glc_toolkit.training.new import recipe
    except ModuleNotFoundError as error:
        raise click.ClickException(f"recipes need {error.name}: pip install 'glc-toolkit[train]'") from None
    text = recipe(target.stem, model, fresh, sources or ("photos",))
    with io.replacing(target, overwrite == FORCE) as partial:
        partial.write_text(text, "utf-8")
    click.echo(f"{target}: try it by glc train {target} --smoke, then train without --smoke")
