"""Results that a person can read, and that are dictionaries for a program."""

import math
from html import escape


class Facts(dict):
    """A dictionary that prints one fact a line, and is a small table in a notebook."""

    def __str__(self) -> str:
        rows = list(_rows(self))
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in rows)

    def _repr_html_(self) -> str:
        cells = (
            f'<tr><th style="text-align:left;white-space:pre">{escape(name)}</th>'
            f'<td style="text-align:left">{escape(text)}</td></tr>'
            for name, text in _rows(self)
        )
        return f"<table>{''.join(cells)}</table>"


def _rows(facts: dict, indent: str = ""):
    for name, value in facts.items():
        if isinstance(value, dict):
            yield f"{indent}{name}", ""
            yield from _rows(value, indent + "  ")
        else:
            yield f"{indent}{name}", _text(value)


def _text(value) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def plain(value):
    """The value as JSON can say it: ``None`` for a number that is not finite."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
