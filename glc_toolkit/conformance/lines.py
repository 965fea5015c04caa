"""Prints each conformance check as a line: what was checked, and passed, failed or skipped and why."""

import inspect
import os
from collections import Counter
from pathlib import Path

import click
import pytest
import torch

from glc_toolkit import registry

COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}
NEARBY = Path(__file__).parent
TORCH = Path(torch.__file__).parent
OTHER_HOOKS = ("glc_zoo", "glc_commands")


class Lines:
    """A pytest plugin in the place of its terminal reporter; ``counts`` are those of each outcome.

    Args:
        traceback: print where a check failed in full, too.
    """

    def __init__(self, traceback: bool = False):
        self.traceback = traceback
        self.counts: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if report.when == "call" or report.outcome != "passed":
            self.show(item, call, report)
        return report

    def pytest_collectreport(self, report):
        if report.failed:
            click.echo(report.longreprtext)

    def show(self, item, call, report) -> None:
        params = dict(item.callspec.params)
        name = params.pop("name")
        if not isinstance(name, str):  # pytest's mark of a check that has no component
            return
        kind = params.pop("kind", item.function.kinds[0])
        what = inspect.getdoc(item.function).split("\n\n")[0].replace("\n", " ").rstrip(".")
        what += "".join(f" ({key} {value})" for key, value in params.items())
        self.counts[report.outcome] += 1
        why = f", because it {call.excinfo.value.msg}" if report.outcome == "skipped" else ""
        click.echo(f"{click.style(report.outcome, COLOURS[report.outcome])} {kind} {name}: {what}{why}")
        if report.outcome == "failed":
            click.echo(f"       {sentence(call.excinfo)}")
            if self.traceback:
                click.echo(report.longreprtext)


def sentence(raised: pytest.ExceptionInfo) -> str:
    """What was raised and, where it was not a check that raised it, the line nearest to it that is the plugin's."""
    error = raised.value
    words = str(error).split("\nassert ")[0]  # pytest adds the expression
    text = " ".join(words.split()) or "it failed without a message"
    if isinstance(error, AssertionError) and raised.traceback[-1].path.parent == NEARBY:
        return text
    theirs = [e for e in raised.traceback if TORCH not in e.path.parents and e.path.parent != NEARBY]
    place = f" ({theirs[-1].path.parent.name}/{theirs[-1].path.name}:{theirs[-1].lineno + 1})" if theirs else ""
    return f"{type(error).__name__}: {text}{place}"


def check(plugins: tuple[str, ...], traceback: bool = False) -> int:
    """Run the checks on the components of ``plugins`` and print them; the exit code is 1 if any failed."""
    for plugin in plugins:
        for hook in OTHER_HOOKS:
            if hasattr(registry.manager().get_plugin(plugin), hook):
                skipped = click.style("skipped", COLOURS["skipped"])
                click.echo(f"{skipped} {plugin}: {hook}, of which nothing is checked")
    os.environ["GLC_CHECK_PLUGINS"] = " ".join(plugins)
    lines = Lines(traceback)
    code = pytest.main(
        ["--pyargs", "glc_toolkit.conformance", "-p", "no:terminal", "-p", "no:cacheprovider", "-c", os.devnull],
        plugins=[lines],
    )
    click.echo(", ".join(f"{lines.counts[outcome]} {outcome}" for outcome in COLOURS if lines.counts[outcome]))
    return int(code)
