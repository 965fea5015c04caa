"""The group of all commands, and what becomes of an error."""

import json
import re

import click

from glc_toolkit import __version__

OUT_OF_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory")  # PyTorch's words, by device


class Misuse(click.ClickException):
    """A mistake in the arguments that click cannot know."""

    exit_code = 2


class Commands(click.Group):
    """Turns an error that a user can cause into one line and exit code 1. With ``--json`` the error is an object on the
    standard output, and the code is the same."""

    def parse_args(self, ctx, args):
        ctx.meta["json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx):
        try:
            return self.one_line(ctx)
        except click.ClickException as error:
            if not ctx.meta["json"]:
                raise
            click.echo(json.dumps({"error": error.format_message(), "exit_code": error.exit_code}, indent=2))
            ctx.exit(error.exit_code)

    def one_line(self, ctx):
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:  # the reader of our output has closed it: click ends quietly
            raise
        except Exception as error:
            if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error))):
                raise click.ClickException("there is not enough memory for a picture or batch of this size") from None
            if isinstance(error, (ValueError, OSError)) or type(error).__module__.startswith("glc_toolkit."):
                raise click.ClickException(one_line(error)) from None
            raise


def one_line(error: Exception | str) -> str:
    """The text of an error without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="glc")
def cli():
    """Generative latent coding: pictures in a few kilobytes."""
