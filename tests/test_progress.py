"""What a long command says where there is no terminal."""

import re
import time

from rich.progress import TextColumn

from glc_toolkit import progress


def test_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.02)
    with progress.shown(TextColumn("{task.description}")) as bar:
        task = bar.add_task("stage 7: l1 0.5", total=200)
        bar.add_task("hidden", visible=False)
        steps = bar.track(range(200), task_id=task)
        for _ in range(51):  # at the next one, fifty are done
            next(steps)
        time.sleep(0.1)
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "stage 7: l1 0.5, 25 %, after 0:00:00, 0:00:00 left"
    assert all(line.startswith("stage 7: l1 0.5, ") for line in said)


def test_a_speed_has_its_unit(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.02)
    with progress.shown(TextColumn("{task.description}"), rate="fps") as bar:
        task = bar.add_task("encode", total=None)
        bar.update(task, completed=7)
        time.sleep(0.1)
    assert re.fullmatch(r"encode, 7 done, after 0:00:00, \d+\.\d fps", capsys.readouterr().err.splitlines()[-1])


def test_other_processes_say_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.01)
    with progress.shown(quiet=True) as bar:
        bar.add_task("work")
        time.sleep(0.05)
    assert capsys.readouterr() == ("", "")
