"""Write the measured numbers of ``results/`` into the pages that show them.

    python docs/make_tables.py

A page marks the place of a table:

    <!-- table kodak -->

    <!-- end -->

The name is that of a function below. A model card shows the results of its own folder, ``results/FOLDER``. Any other
page shows those of the default models. New weights need ``make_results.py``, this script, and nothing by hand.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean

from glc_toolkit import api, versions, zoo
from glc_toolkit.evaluation.curves import published

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
PLACE = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
METRICS = {"psnr": 2, "ms-ssim": 3, "lpips-alex": 3, "lpips-vgg": 3, "dists": 3, "grid": 4, "kd-efflite0": 3}
DIGITS = {"bpp": 4, **METRICS}


def newest(name: str) -> str:
    """The folder of the newest version of a model, ``name`` or ``name@version``, in this checkout."""
    bare, _ = versions.split(name)
    folders = [file.parent.name for file in ROOT.glob("zoo/*/config.json")]
    return max((folder for folder in folders if versions.split(folder)[0] == bare), key=versions.split)


IMAGE, VIDEO = newest(api.DEFAULT_MODEL), newest(api.DEFAULT_VIDEO_MODEL)


def read(*path: str):
    return json.loads(RESULTS.joinpath(*path).read_text())


def zoo_config(model: str) -> dict:
    return json.loads((ROOT / "zoo" / model / zoo.CONFIG).read_text())


def number(value: float | None, digits: int) -> str:
    """With so many decimals, or with one less where no more were noted; a dash for what was not measured."""
    if value is None:
        return "–"
    return f"{value:.{digits - (digits > 3 and value == round(value, digits - 1))}f}"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in (head, ["---"] * len(head), *rows))


def point(result: dict, at: int = 0) -> dict:
    """One setting of a result of ``glc eval``, by the names of metrics."""
    return {key.removesuffix("-rgb"): values[at] for key, values in result["results"].items()}


def measured(rows: dict[str, dict], first: str) -> str:
    """A table of named rows, with a column for each metric that one of them has."""
    columns = [name for name in DIGITS if any(row.get(name) is not None for row in rows.values())]
    cells = [[name, *(number(row.get(key), DIGITS[key]) for key in columns)] for name, row in rows.items()]
    return markdown([first, *columns], cells)


def usual(model: str) -> dict:
    """What ``quality=None`` has on Kodak."""
    result = read(model, "kodak.json")
    levels = [float(setting) for setting in result["settings"]]
    return point(result, levels.index(zoo_config(model)["default_quality"]))


def demo(model: str) -> str:
    """The photograph of the README."""
    names = {"bpp": "bpp", "psnr": "PSNR", "ms-ssim": "MS-SSIM"}
    names |= {"lpips-alex": "LPIPS-Alex", "lpips-vgg": "LPIPS-VGG", "dists": "DISTS"}
    rows = []
    for row in read(model, "demo.json"):
        codec = re.sub(r" q[01]$", " at its lowest", row["codec"])
        codec = re.sub(r" q\d+$", "", codec)
        rows.append([codec, f"{row['bytes']:,}", *(f"{row[key]:.{DIGITS[key]}f}" for key in names)])
    return markdown(["codec", "bytes", *names.values()], rows)


def default(model: str) -> str:
    """Which model the README speaks of."""
    usual = f"Its `quality=None` is level {zoo_config(model)['default_quality']:g}."
    return f"The default image model is `{model}` ([card](zoo/{model}/README.md)). {usual}"


def kodak(model: str) -> str:
    """Levels of a model."""
    result = read(model, "kodak.json")
    return measured({f"{float(s):g}": point(result, i) for i, s in enumerate(result["settings"])}, "quality")


def beside(model: str) -> str:
    """The usual quality of a model, of the other models, of rivals, and of the published GLC."""
    own = usual(model)
    rows = {label(model): own} | {label(name): usual(name) for name in others(model)}
    rows |= {rival["title"]: point(rival) for rival in read("kodak-rivals.json")}
    paper = next(curve for curve in published("Kodak") if curve["name"] == "GLC-image")
    rates = paper["results"]["bpp"]
    rows["GLC-image, as published"] = point(paper, min(range(len(rates)), key=lambda i: abs(rates[i] - own["bpp"])))
    return measured(rows, "codec")


def others(model: str) -> list[str]:
    """The other picture models that were measured: each in its newest version, and ``model`` in its other versions."""
    own, _ = versions.split(model)
    names = [(file.parent.name, versions.split(file.parent.name)[0]) for file in RESULTS.glob("*/kodak.json")]
    return sorted(name for name, bare in names if name != model and (bare == own or name == newest(bare)))


def label(model: str) -> str:
    """A folder's name, with the version where the zoo has several."""
    bare, version = versions.split(model)
    return model if newest(model) == bare else f"{bare}@{version}"


def compare(model: str) -> str:
    """The photographs of the gallery, by codecs near one rate."""
    return measured({result["name"]: point(result) for result in read(model, "compare.json")}, "codec")


def effort(model: str) -> str:
    """The usual quality of a model without effort and with, on the same pictures."""
    results = read(model, "effort.json")
    rows = {f"`--effort {steps}`" if int(steps) else "without": point(result) for steps, result in results.items()}
    seconds = [f"{row['encoding_time']:.0f} seconds with {name}" for name, row in rows.items() if name != "without"]
    return measured(rows, "") + f"\n\nMean time to encode one of these pictures on one core: {', '.join(seconds)}."


def fixed_point(model: str) -> str:
    rows = []
    for facts in read(model, "fixed-point.json"):
        more = round(100 * (facts["fixed"] / facts["float"] - 1), 2) + 0.0  # no -0.00
        sizes = [f"{facts[key]:,}" for key in ("fixed", "float")]
        rows.append(
            [f"{facts['quality']:g}", str(facts["pictures"]), *sizes, f"{more:.2f} %", f"{facts['most']:.2f} %"]
        )
    head = ["quality", "Kodak pictures", "fixed point, bytes", "floating point, bytes", "more", "most, of one picture"]
    return markdown(head, rows)


def gallery(model: str) -> str:
    """The photographs, as HTML for ``compare.js``."""
    facts, parts = read(model, "gallery.json"), []
    first = f"GLC q{facts['quality']:g}"
    for photograph in facts["photographs"]:
        title = photograph["photograph"].removesuffix("-original.webp")
        parts += [
            f'<section><h2 id="{title}">{title.capitalize()}</h2>',
            f'<figure class="compare" data-first="{first}"><div class="compare-list">',
            picture(photograph["photograph"], "original", f"{photograph['width']} x {photograph['height']} pixels"),
        ]
        own = next(row["bytes"] for row in photograph["rows"] if row["codec"] == first)
        for row in photograph["rows"]:
            times = f" ({row['bytes'] / own:.1f} times GLC's)" if row["bytes"] > 1.1 * own else ""
            words = [f"{row['bytes']:,} bytes{times}", f"{row['bpp']:.4f} bits a pixel"]
            words += [f"{name} {row[name]:.{digits}f}" for name, digits in METRICS.items() if name in row]
            parts.append(picture(row["file"], row["codec"], ", ".join(words)))
        parts.append("</div></figure></section>\n")
    return "\n".join(['<div class="gallery" markdown="0">\n', *parts, "</div>"])


def picture(file: str, name: str, words: str) -> str:
    image = f'<img src="../images/gallery/{file}" alt="{name}" loading="lazy">'
    return f'<figure data-name="{name}">{image}<figcaption><strong>{name}</strong>: {words}</figcaption></figure>'


ARTIST = "drawn by the large generator"  # a row of results: a video model's files, by another image model
CLIPS = ("bpp", "psnr", "lpips-alex", "lpips-vgg", "dists", "flicker")


def clips(model: str) -> str:
    """Every clip of a video model's results."""
    rows = {(row["clip"], row["codec"], row["setting"]): row for row in read(model, "clips.json")}.values()
    columns = [key for key in CLIPS if any(row.get(key) is not None for row in rows)]
    cells = [
        [row["clip"], codec(row["codec"]), f"{row['setting']:g}", *(significant(row.get(key)) for key in columns)]
        for row in rows
    ]
    return markdown(["clip", "codec", "setting", *columns], cells)


def clip_means(model: str) -> str:
    """A row for each codec and level."""
    means = by_level(model)
    columns = [key for key in CLIPS if any(row.get(key) is not None for rows in means.values() for row in rows)]
    cells = [
        [name, level, *(significant(row.get(key)) for key in columns)]
        for name, rows in means.items()
        for level, row in zip(levels_of(model), rows, strict=False)  # the large generator was not tried at all of them
    ]
    return markdown(["codec", "level", *columns], cells)


def clip_artist(model: str) -> str:
    """A video model's files, drawn by its own generator and by that of the default image model, clip by clip."""
    bare, _ = versions.split(model)
    columns = {"lpips-alex": "LPIPS-Alex", "lpips-vgg": "LPIPS-VGG", "dists": "DISTS", "psnr": "PSNR"}
    rows = {(row["clip"], row["setting"], row["codec"]): row for row in read(model, "clips.json")}
    cells = []
    for (clip, level, name), drawn in rows.items():
        if name == ARTIST:
            both = [number(row[key], DIGITS[key]) for key in columns for row in (rows[clip, level, bare], drawn)]
            cells.append([clip, f"{level:g}", *both])
    head = [word for title in columns.values() for word in (title, "`--artist`")]
    return markdown(["clip", "level", *head], cells)


def clip_loop(model: str) -> str:
    """A clip beside its original, as HTML for ``compare.js``: four columns of one loop, which therefore keep step."""
    facts = read(model, "loop.json")
    own, rival = (f"{facts[key]:,} bytes" for key in ("bytes", "x265"))
    columns = {
        "original": f"the middle of {facts['clip']}",
        "GLC": f"level {facts['level']:g}, {own} for {facts['frames']} frames",
        "GLC, --artist": f"the same file, {ARTIST}",
        "x265": f"veryslow, {rival}",
    }
    parts = ['<figure class="compare" data-first="GLC"><div class="compare-list">']
    for i, (name, words) in enumerate(columns.items()):
        image = f'<img src="../images/video.webp" alt="{name}" style="--column: {i}">'
        parts.append(
            f'<figure data-name="{name}">{image}<figcaption><strong>{name}</strong>: {words}</figcaption></figure>'
        )
    return "\n".join(['<div class="loop" markdown="0">', *parts, "</div></figure>", "</div>"])


def levels_of(model: str) -> list[str]:
    """The levels at which a video model was measured."""
    bare, _ = versions.split(model)
    settings = [row["setting"] for row in read(model, "clips.json") if row["codec"] == bare]
    return [f"{setting:g}" for setting in dict.fromkeys(settings)]


def means(rows: list[dict]) -> dict[str, dict[str, list[float]]]:
    """``{codec: {metric: its values by level}}``: the rows of a clip are by level, a mean is over the clips."""
    curves = {}
    for name in dict.fromkeys(row["codec"] for row in rows):
        own = [row for row in rows if row["codec"] == name]  # not every clip may have been measured with it
        clips = [[row for row in own if row["clip"] == clip] for clip in dict.fromkeys(row["clip"] for row in own)]
        levels = list(zip(*clips, strict=True))
        keys = [key for key in CLIPS if levels[0][0].get(key) is not None]
        curves[name] = {key: [fmean(row[key] for row in level) for level in levels] for key in keys}
    return curves


def by_level(model: str) -> dict[str, list[dict]]:
    """``{codec: a row of means for each level}``."""
    found = means(read(model, "clips.json"))
    return {
        codec(name): [dict(zip(curve, values, strict=True)) for values in zip(*curve.values(), strict=True)]
        for name, curve in found.items()
    }


def clip_effort(model: str) -> str:
    """A video model without effort and with, in the newest version that was measured so."""
    columns = {"bpp": "bpp", "lpips-alex": "LPIPS-Alex", "dists": "DISTS"}
    bare, _ = versions.split(model)
    found = [file.parent.name for file in RESULTS.glob("*/clips.json") if f"{bare}-effort" in file.read_text()]
    newest_searched = by_level(max(found, key=versions.split))
    plain, searched = (rows for name, rows in newest_searched.items() if name.startswith(bare))
    with_effort = [f"`--effort 32`: {name}" for name in columns.values()]
    cells = [
        [str(level), *(number(row[key], DIGITS[key]) for row in pair for key in columns)]
        for level, pair in enumerate(zip(plain, searched, strict=True))
    ]
    return markdown(["level", *columns.values(), *with_effort], cells)


def clip_rivals(model: str) -> str:
    """A low and the highest level of a video model beside x265 and x264."""
    bare, _ = versions.split(model)
    wanted = {bare: bare, ARTIST: f"{bare}, `--artist`", "x265": "x265", "x264": "x264"}
    means, columns = by_level(model), ("bpp", "psnr", "lpips-alex", "lpips-vgg", "dists")
    levels = levels_of(model)
    rows = [
        [title, level, *(number(means[name][levels.index(level)].get(key), DIGITS[key]) for key in columns)]
        for level in dict.fromkeys(("1", levels[-1]))
        for name, title in wanted.items()
        if levels.index(level) < len(means.get(name, ()))
    ]
    return markdown(["codec", "level", *columns], rows)


def codec(name: str) -> str:
    return name.removeprefix("lib")


def significant(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def ablations(comparison: str, _: str) -> str:
    """A comparison of ``make_ablations.py``, in the columns that all its arms have."""
    arms = read(f"{comparison}.json")
    names = {"bpp": "bpp", "lpips-alex": "LPIPS-Alex", "lpips-vgg": "LPIPS-VGG", "dists": "DISTS", "psnr": "PSNR"}
    columns = {k: name for k, name in names.items() if all(k in arm["results"] for arm in arms)}
    rows = [
        [
            arm["description"].partition(":")[0],
            str(level),
            *(f"{arm['results'][k][level]:.{DIGITS[k]}f}" for k in columns),
        ]
        for arm in arms
        for level in range(len(arm["results"]["bpp"]))
    ]
    return markdown(["arm", "level", *columns.values()], rows)


def seconds(table: str, _: str) -> str:
    """A table of ``results/seconds.json``, which is measured by hand: ``columns`` has the decimals of each."""
    facts = read("seconds.json")[table]
    rows = []
    for name, *values in facts["rows"]:
        columns = zip(values, facts["columns"].values(), strict=True)
        cells = [name, *("" if value is None else f"{value:.{digits}f}" for value, digits in columns)]
        rows.append([f"**{cell}**" if cell and name.endswith(", all") else cell for cell in cells])
    caption = f"{facts['what']}; {facts['how']}. Machine: {facts['machine']}. Version: {facts['version']}."
    return f"{caption}\n\n{markdown(['', *facts['columns']], rows)}"


def platforms(_: str) -> str:
    """From tests/data/platforms.json, and the second decoder, which the tests run on every golden stream."""
    data = ROOT / "tests" / "data"
    rows = []
    for name, streams in json.loads((data / "platforms.json").read_text()).items():
        _, version, *where = name.split()
        device = "CPU, x86-64" if where == ["x86_64"] else " ".join(where)
        rows.append([version, device, str(len(streams))])
    rows.append(["none (NumPy, int64)", "CPU, x86-64", str(len(json.loads((data / "golden.json").read_text())))])
    return markdown(["PyTorch", "device", "streams, all with the recorded hash"], rows)


TABLES: dict[str, Callable[[str], str]] = {
    "demo": demo,
    "default": default,
    "kodak": kodak,
    "beside": beside,
    "compare": compare,
    "effort": effort,
    "fixed-point": fixed_point,
    "gallery": gallery,
    "clips": clips,
    "clip-means": clip_means,
    "clip-artist": clip_artist,
    "clip-loop": clip_loop,
    "clip-effort": clip_effort,
    "clip-rivals": clip_rivals,
    **{comparison: partial(ablations, comparison) for comparison in ("ablations", "adversary")},
    "platforms": platforms,
    **{f"seconds-{table}": partial(seconds, table) for table in read("seconds.json")},
}


def pages() -> list[Path]:
    """Those that have a marked place."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("zoo/*/README.md")]
    return sorted(page for page in found if PLACE.search(page.read_text()))


def filled(page: Path) -> str:
    """The text of a page with its tables as the results have them."""

    def table(place: re.Match) -> str:
        default = VIDEO if place[2].startswith("clip") else IMAGE
        model = page.parent.name if page.parent.parent == ROOT / "zoo" else default
        return f"{place[1]}\n{TABLES[place[2]](model)}\n\n{place[3]}"

    return PLACE.sub(table, page.read_text())


def main() -> None:
    for page in pages():
        text = filled(page)
        if text != page.read_text():
            page.write_text(text)
            print(page.relative_to(ROOT))
            if (page.parent / zoo.SUMS).exists():
                zoo.write_sums(page.parent)


if __name__ == "__main__":
    main()
