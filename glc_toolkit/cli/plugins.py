"""``glc plugins``."""

import sys
from pathlib import Path

import click

from glc_toolkit import registry
from glc_toolkit.cli.group import cli
from glc_toolkit.cli.options import ANY, as_json
from glc_toolkit.cli.output import show


@cli.group()
def plugins():
    """List, check and write plugins, which bring components."""


@plugins.command("list")
@as_json
def plugins_list(as_json):
    """List every component by kind, with the plugin that brings it."""
    found = {kind: {name: registry.plugin_of(kind, name) for name in registry.names(kind)} for kind in registry.KINDS}
    lines = [f"{kind:14} {name:22} {plugin}" for kind, names in found.items() for name, plugin in names.items()]
    show(found, as_json, "\n".join(lines))


@plugins.command("check")
@click.argument("names", nargs=-1, required=True, metavar="PLUGIN...")
@click.option("--traceback", is_flag=True, help="Also show where a check failed.")
def plugins_check(names, traceback):
    """Run the conformance checks on every component of PLUGIN (a name shown by ``glc plugins list``)."""
    from glc_toolkit.conformance.lines import check

    known = {p for kind in registry.KINDS for _, p in registry.components(kind).values()}
    for name in names:
        if name not in known:
            raise click.ClickException(f"no plugin {name!r} brings components; these do: {', '.join(sorted(known))}")
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
@click.option(
    "--licence",
    default="MIT",
    show_default=True,
    type=click.Choice(("MIT", "BSD-3-Clause", "Apache-2.0")),
    help="Licence of the package.",
)
@click.option("--author", help="The name in the licence.")
@click.option("-o", "--out", type=ANY, default=Path(), help="Where to make the folder of the package. Default: here.")
def plugins_new(name, kinds, licence, author, out):
    """Write the plugin package NAME: a working component of each kind, its registration and its tests."""
    from glc_toolkit.kit.new import new

    folder = new(name, tuple(dict.fromkeys(kinds)), licence, author, out)
    click.echo(f"{folder}: now pip install -e {folder}, and glc plugins check {name.replace('-', '_')}")
