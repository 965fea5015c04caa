"""Arguments and options that several commands share. Nothing here imports PyTorch, or help would not answer at once."""

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from glc_toolkit import defaults, registry, versions
from glc_toolkit.cli.group import Misuse

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SOURCE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
ANY = click.Path(path_type=Path)


def completed(*sources: Callable[[], Iterable[str]]):
    """What a shell offers for an option: the names that ``sources`` give, or files if no name fits."""

    def complete(ctx, param, incomplete: str):
        start, comma, typed = incomplete.rpartition(",")
        names = sorted({name for source in sources for name in source() if name.startswith(typed)})
        return [CompletionItem(start + comma + n) for n in names] or [CompletionItem(incomplete, type="file")]

    return complete


def model_names() -> Iterable[str]:
    return versions.named(versions.found())


def metric_names() -> Iterable[str]:
    return registry.names("metric")


def codec_names() -> Iterable[str]:
    known = registry.components("codec").items()
    return (f"{name}:" if "argument" in registry.parameters(factory) else name for name, (factory, _) in known)


as_json = click.option("--json", "as_json", is_flag=True, help="Print the result, or what went wrong, as JSON.")
model_option = click.option(
    "-m",
    "--model",
    default=defaults.MODEL,
    show_default=True,
    shell_complete=completed(model_names),
    help="Zoo name[@version], folder or hf://owner/name[@revision].",
)
reader_option = click.option(
    "-m",
    "--model",
    shell_complete=completed(model_names),
    help="The model that wrote the file, or its folder. Default: the zoo model that the file names.",
)
artist_option = click.option(
    "--artist",
    shell_complete=completed(model_names),
    help="An image model that draws in the place of the file's own. Its latent has to be the same.",
)
metric_option = click.option(
    "--metric",
    "metrics",
    multiple=True,
    shell_complete=completed(metric_names),
    help=f"A metric; repeat for several. Default: {' '.join(defaults.METRICS)}.",
)
mark_option = click.option(
    "--mark/--no-mark", default=True, help="Write into the metadata of the picture or video which model decoded it."
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(0),
    help=f"Refuse a picture of more pixels, padding included. 0 means no limit. Default: {defaults.MAX_PIXELS}.",
)

precision_option = click.option(
    "--precision",
    type=click.Choice(["float32", "bf16", "int8", "auto"]),
    default="float32",
    show_default=True,
    help="Arithmetic of the backbone. auto takes the fastest that this processor has.",
)


YES, NO, FORCE = "yes", "no", "force"  # what becomes of an output that exists


def overwrite_options(command):
    """Options for an output that exists. The last one given counts; ``None`` means that none was given."""
    for *flags, value, text in (
        ("--force", FORCE, "Replace an output that exists, even a read-only one."),
        ("-n", "--no-overwrite", NO, "Stop if the output exists. Default: ask on a terminal, stop elsewhere."),
        ("-y", "--overwrite", YES, "Replace an output that exists."),
    ):
        command = click.option(*flags, "overwrite", flag_value=value, help=text)(command)
    return command


format_option = click.option("--format", help="Format of the picture, such as png. Default: that of its name.")
rivals_option = click.option(
    "-c",
    "--codec",
    "codecs",
    multiple=True,
    shell_complete=completed(model_names, codec_names),
    help="A codec to compare with, named as in eval; repeat for several. Default: JPEG, AVIF and others.",
)


def finite(ctx, param, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


def usable_device(ctx, param, value: str) -> str:
    """The device's name, with ``auto`` resolved. PyTorch is imported only for another device than the CPU."""
    if value != "cpu":
        import torch

        if value == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(0, device=value)
        except (RuntimeError, AssertionError) as error:
            raise click.BadParameter(f"{value!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return value


quality_option = click.option(
    "-q",
    "--quality",
    type=float,
    help="Quality level. 0 gives the smallest file, and fractions are allowed. Default: that of the model.",
)
target_bpp_option = click.option(
    "--target-bpp",
    type=click.FloatRange(0, min_open=True),
    callback=finite,
    help="Take the best quality of at most so many bits a pixel. In a video the quality changes from frame to frame.",
)
max_bytes_option = click.option(
    "--max-bytes",
    type=click.IntRange(1),
    help="Take the best quality of at most so many bytes. In a video the quality changes from frame to frame.",
)
effort_option = click.option(
    "--effort",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Steps of gradient descent for a better picture in as many bytes. 10 to 30 are useful. A step takes a few "
    "seconds a megapixel. Video: steps for an intra frame; a P frame gets ceil(steps / 32).",
)
device_option = click.option(
    "--device",
    default="cpu",
    show_default=True,
    callback=usable_device,
    help="Where the networks run: cpu, cuda, cuda:1 and so on. auto takes a GPU if there is one.",
)


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of a text WIDTHxHEIGHT."""
    if not re.fullmatch(r"[1-9]\d{0,5}x[1-9]\d{0,5}", text):
        raise Misuse(f"--size is WIDTHxHEIGHT in pixels, such as 768x512, not {text!r}")
    width, height = text.split("x")
    return int(width), int(height)
