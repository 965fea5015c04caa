"""Rate-distortion curves: read, compared by BD-rate, drawn; and the published ones, with their sources."""

import json
import math
import sys
import warnings
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

from glc_toolkit import io, registry

NO_QUALITY = {"bpp", "bytes", "encoding_time", "decoding_time", "memory"}
SHORTEST = 4  # points of a curve for a BD-rate


def published(dataset: str | None = None) -> list[dict]:
    """Published curves in the layout of ``glc eval``: ``name description results``, and ``dataset`` and ``source``.

    ``dataset`` is one of CLIC2020, CLIC2020-professional, DIV2K, Kodak, HEVC-B, MCL-JCV and UVG, or None for all
    curves.
    """
    folder = files("glc_toolkit.evaluation") / "published"
    curves = [
        curve
        for file in sorted(folder.iterdir(), key=lambda f: f.name)
        if file.name.endswith(".json")
        for curve in json.loads(file.read_text("utf-8"))
    ]
    known = sorted({curve["dataset"] for curve in curves})
    if dataset is not None and dataset not in known:
        raise ValueError(f"there are no published curves on {dataset!r}; there are on {', '.join(known)}")
    return [curve for curve in curves if dataset in (None, curve["dataset"])]


def read(file: Path) -> list[dict]:
    """The curves of a file of ``glc eval``, of its ``--json``, or of CompressAI's ``eval_model``: one, or a list.

    Each is ``{"name": ..., "results": {"bpp": [...], metric: [...]}}``; a number that is not finite becomes None. A
    curve without a name gets that of the file. Raises ``ValueError`` that says what is wrong with the file.
    """
    file = Path(file)
    try:
        document = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON: {error}") from None
    return [_curve(file, one) for one in (document if isinstance(document, list) else [document])]


def _curve(file: Path, document: object) -> dict:
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(results, dict) or not isinstance(results.get("bpp"), list):
        raise ValueError(
            f'{file} holds no results of glc eval: it is not in the layout {{"name": ..., "results": {{"bpp": [...], '
            "...}}}"
        )
    bpp = results["bpp"]
    if not bpp or not all(_is_number(value) and value > 0 for value in bpp):
        raise ValueError(f"{file}: bpp has to be a list of positive numbers")
    for key, values in results.items():
        listed = f"{file}: {key} has to be a list of {len(bpp)} numbers, as bpp is"
        if not isinstance(values, list) or len(values) != len(bpp):
            raise ValueError(listed)
        if not all(value is None or _is_number(value) for value in values):
            raise ValueError(f"{listed}; it holds some that are no numbers, or larger than any float")
    finite = {key: [None if v is None or math.isnan(v) else v for v in row] for key, row in results.items()}
    return {**document, "name": str(document.get("name", file.stem)), "results": finite}


def _is_number(value: object) -> bool:
    """Whether it is a number, or NaN, that a float can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not abs(value) > sys.float_info.max


def points(curve: dict, metric: str) -> list[tuple[float, float]]:
    """``(bpp, value)`` of a metric, by rising bpp, without the points that have no value."""
    pairs = zip(curve["results"]["bpp"], curve["results"].get(metric, []), strict=False)
    return sorted((bpp, value) for bpp, value in pairs if value is not None and math.isfinite(value))


def metrics_of(curve: dict) -> list[str]:
    return [name for name in curve["results"] if name not in NO_QUALITY]


@cache
def higher_is_better(metric: str) -> bool:
    """What the registered metric of this name says, with or without CompressAI's ``-rgb``; False for a metric that is
    not registered, such as a distance between sets of patches."""
    name = metric.removesuffix("-rgb")
    return name in registry.names("metric") and registry.build("metric", {"name": name}).higher_is_better


def bd_rates(anchors: list[dict], curves: list[dict]) -> list[dict]:
    """BD-rates against the anchor in per cent, a row for each curve; below 0 the files of the curve are smaller.

    The log-rate is interpolated by Akima's method over the range of quality that both curves reach. ``METRIC-overlap``
    is that range as a share of the range that either curve reaches. The rate is NaN where a curve has fewer than four
    points or is not monotonic, or where the two share no range of quality: nothing is extrapolated.
    """
    try:
        from bjontegaard import bd_rate
    except ModuleNotFoundError:
        raise ValueError("BD-rates need bjontegaard: pip install 'glc-toolkit[eval]'") from None
    if len(anchors) != 1:
        raise ValueError(f"the anchor has to be one curve, and this file holds {len(anchors)}")
    (anchor,) = anchors
    rows = []
    for curve in curves:
        pictures = {c["protocol"]["images_sha256"] for c in (anchor, curve) if "images_sha256" in c.get("protocol", {})}
        if len(pictures) > 1:
            warnings.warn(f"{curve['name']!r} and the anchor were measured on different pictures", stacklevel=2)
        row: dict = {"codec": curve["name"]}
        for metric in metrics_of(anchor):
            if metric not in curve["results"]:
                continue
            sign = 1 if higher_is_better(metric) else -1
            a, b = ([(bpp, sign * value) for bpp, value in points(c, metric)] for c in (anchor, curve))
            row[metric] = row[f"{metric}-overlap"] = math.nan
            if not (_usable(a) and _usable(b)):
                continue
            (low, lower), (high, higher) = (sorted((a[end][1], b[end][1]), reverse=end == 0) for end in (0, -1))
            row[f"{metric}-overlap"] = max(0.0, high - low) / (higher - lower)
            if low < high:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # warnings of a small overlap; its share is in the row
                    row[metric] = float(
                        bd_rate(*zip(*a, strict=True), *zip(*b, strict=True), "akima", require_matching_points=False)  # pyright: ignore[reportCallIssue]  it takes four and a method
                    )
        rows.append(row)
    return rows


def _usable(curve: list[tuple[float, float]]) -> bool:
    values = [value for _, value in curve]
    return len(values) >= SHORTEST and values == sorted(set(values))


def plot(curves: list[dict], file: Path, metrics: Iterable[str] = (), force: bool = False) -> None:
    """Draw curves, a panel for each of ``metrics``; if none is given, for each metric that two curves have, or that the
    only curve has. ``force`` goes to :func:`glc_toolkit.io.replacing`."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ValueError("plots need matplotlib: pip install 'glc-toolkit[eval]'") from None
    if not curves:
        raise ValueError("there is nothing to draw: give results of glc eval, or --published")
    counts: dict[str, int] = {}
    for curve in curves:
        for metric in metrics_of(curve):
            counts[metric] = counts.get(metric, 0) + 1
    chosen = list(metrics) or [m for m, n in counts.items() if n >= min(2, len(curves))]
    if missing := [m for m in chosen if m not in counts]:
        raise ValueError(f"no curve has {', '.join(missing)}; they have {', '.join(counts)}")
    if not chosen:
        raise ValueError(f"no two curves have a metric in common; name some of {', '.join(counts)}")
    if not Path(file).suffix:
        raise ValueError(f"cannot tell a format from the name {file}; try {file}.svg")
    figure = Figure(figsize=(6 * len(chosen), 4.5), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        for curve in curves:
            if found := points(curve, metric):
                style = "--o" if "source" in curve else "-o"
                axes.plot(*zip(*found, strict=True), style, label=curve["name"], markersize=4)
        axes.set(xlabel="bpp", ylabel=metric, title=metric + (" ↑" if higher_is_better(metric) else " ↓"))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    with io.replacing(file, force) as partial:
        figure.savefig(partial)
