"""How far a long command is: a bar on a terminal, and in a log a line every half minute."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task

EVERY = 30.0  # seconds


@contextmanager
def shown(*columns: ProgressColumn, quiet: bool = False, rate: str | None = None) -> Iterator[Progress]:
    """A bar of rich on the standard error, which goes when the work is done. ``quiet`` shows nothing. ``rate`` is the
    unit of the speed that a line in a log says, if it does."""
    terminal = sys.stderr.isatty()
    hidden = quiet or not terminal  # then nothing refreshes a bar by itself, or `track` would leave counting to that
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, transient=True, disable=hidden, auto_refresh=not hidden)
    if quiet or terminal:
        with bar:
            yield bar
        return
    done = threading.Event()

    def talk() -> None:
        while not done.wait(EVERY):
            for task in bar.tasks:
                if task.visible and not task.finished:
                    print(line(task, rate), file=sys.stderr, flush=True)

    talker = threading.Thread(target=talk, daemon=True)
    talker.start()
    try:
        yield bar
    finally:
        done.set()
        talker.join()


def line(task: Task, rate: str | None = None) -> str:
    """What a bar would show, in words."""
    parts = [task.description]
    if task.total:
        parts.append(f"{100 * task.completed / task.total:.0f} %")
    elif task.completed:
        parts.append(f"{task.completed:g} done")
    parts.append(f"after {clock(task.elapsed)}")
    if rate and task.elapsed:
        parts.append(f"{task.completed / task.elapsed:.1f} {rate}")
    if task.total and task.completed and task.elapsed:
        parts.append(f"{clock(task.elapsed * (task.total - task.completed) / task.completed)} left")
    return ", ".join(parts)


def clock(seconds: float | None) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds or 0), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
