"""``glc info`` and ``glc doctor``."""

import sys

import click

from glc_toolkit.cli.group import Misuse, cli
from glc_toolkit.cli.options import (
    ANY,
    SOURCE,
    as_json,
    completed,
    device_option,
    format_option,
    mark_option,
    max_pixels_option,
    model_names,
    overwrite_options,
    reader_option,
)
from glc_toolkit.cli.output import PIPE, check_format, check_target, mark_text, read_stream, save_picture, show


@cli.command()
@click.argument("source", type=SOURCE)
@reader_option
@max_pixels_option
@device_option
@as_json
def info(source, model, max_pixels, device, as_json):
    """Show what is in a GLC file, and how many bytes each part takes. SOURCE may be - for the standard input.

    If the model of the file is not known here, show what the header says.
    """
    from glc_toolkit import api
    from glc_toolkit.types import UnknownModelError

    data, name = read_stream(source)
    try:
        facts = api.info(data, model, max_pixels, device)
    except UnknownModelError as error:
        facts = api.header(data)
        click.echo(f"{name}: {error}", err=True)
    if as_json:
        return show(facts, True, "")
    for key, value in facts.items():
        if key not in ("sections", "records", "damages"):
            value = "unknown here" if value is None else value
            click.echo(f"{key:12} {value:.4f}" if isinstance(value, float) else f"{key:12} {value}")
    for name, size in facts.get("sections", {}).items():
        click.echo(f"  {name:10} {size:7,} bytes  {size / facts['bytes']:6.1%}")
    for record in facts.get("records", []):
        size, quality = f"{record['bytes']:7,} bytes", f"quality {record['quality']:.2f}"
        click.echo(f"  {record['type']} frame {record['frame']:6} {size}  {quality}")
    for damage in facts.get("damages", []):
        click.echo(f"  damaged: {damage}")


@cli.command()
@click.argument("source", type=SOURCE)
@click.option(
    "-m",
    "--model",
    shell_complete=completed(model_names),
    help="Read the file with this model, even if the file names another.",
)
@click.option(
    "--preview", type=ANY, help="Pictures: write a preview to this file, if the side information z can be read."
)
@format_option
@mark_option
@max_pixels_option
@device_option
@overwrite_options
@as_json
def doctor(source, model, preview, format, mark, max_pixels, device, overwrite, as_json):
    """Show what is wrong with a GLC file, where the damage begins, and what can still be shown.

    SOURCE may be - for the standard input. The exit code is 1 if anything is wrong.
    """
    if preview:
        check_target(source, preview, overwrite)
        check_format(preview, format)
    from glc_toolkit import bitstream
    from glc_toolkit.doctor import diagnose

    data, name = read_stream(source)
    if preview and bitstream.is_video(data):
        raise Misuse("--preview is for pictures, and SOURCE is a video")
    found, picture = diagnose(data, model, max_pixels, device)
    if preview and picture:
        save_picture(picture, preview, format, mark_text(mark, found.header["model"]), overwrite)
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
    show({"file": str(source), **found.to_dict()}, as_json, "\n".join(lines), err=str(preview) == PIPE)
    sys.exit(bool(found.problems))
