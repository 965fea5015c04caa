"""The ``glc`` command: a group, the options that commands share, and a module for each verb.

Everything heavy is imported inside the commands, so that help answers at once.
"""

import signal
import sys
import warnings

from glc_toolkit import memory, registry
from glc_toolkit.cli import bulk, decode, demo, encode, evaluate, info, plugins, train, zoo  # noqa: F401 (add commands)
from glc_toolkit.cli.group import cli, one_line

__all__ = ["cli", "main"]


def main() -> None:
    warnings.formatwarning = lambda message, *_: f"Warning: {one_line(message)}\n"
    warnings.filterwarnings("ignore", message="Image size")  # Pillow warns of large pictures; we have a limit
    memory.reuse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # else partial files would stay
    try:
        add_plugin_commands()
    except registry.PluginError as error:  # in strict mode
        sys.exit(f"Error: {one_line(error)}")
    cli()


def add_plugin_commands() -> None:
    """Let plugins add their commands one by one, so that a broken plugin takes no other command away."""
    for hook in registry.manager().hook.glc_commands.get_hookimpls():
        try:
            hook.function(*(cli for _ in hook.argnames))
        except (Exception, SystemExit) as error:
            registry.complain(hook.plugin_name, error)
