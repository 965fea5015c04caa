"""``glc report``: pictures through the codec and its rivals, as one page that needs no network.

The page is ``page/page.html`` (Jinja2) with ``page.css`` and ``page.js`` inside. All that it shows comes from one JSON
object, which is made here. A rival's picture is its very file where browsers can decode it; the others are lossless.
"""

import io as streams
import math
import platform
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

import torch
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

import glc_toolkit
from glc_toolkit import api, io, registry, zoo
from glc_toolkit.evaluation.bits import bit_map
from glc_toolkit.evaluation.codecs import able, named
from glc_toolkit.evaluation.curves import read
from glc_toolkit.evaluation.evaluate import METRICS, Trial, measure, trial
from glc_toolkit.evaluation.family import Codec, Family
from glc_toolkit.evaluation.learned import GLC
from glc_toolkit.models import GLCModel

RIVALS = ("jpeg", "webp", "avif", "avif-quarter")
LARGER = (2, 4)  # rivals are also shown at these multiples of the best level's size
WEBP_SIDE = 16383  # the longest it can have
LABELS = {
    "psnr": "PSNR, dB",
    "ms-ssim": "MS-SSIM",
    "lpips-alex": "LPIPS (Alex)",
    "lpips-vgg": "LPIPS (VGG)",
    "dists": "DISTS",
}


def report(
    pictures: Sequence[Path],
    out: Path,
    model: str = api.DEFAULT_MODEL,
    qualities: Sequence[float] = (),
    metrics: Sequence[str] = METRICS,
    curves: Sequence[Path] = (),
    command: str = "",
    max_pixels: int | None = None,
    codecs: Sequence[str] = RIVALS,
    device: str = "cpu",
    force: bool = False,
) -> Iterator[dict]:
    """Write the page ``out``; yields the rows of its table as they are measured. :func:`steps` says how many.

    Args:
        qualities: levels of the model; if none is given, every whole level and the usual quality. The page opens on the
            one nearest to the usual quality.
        curves: JSON files for the charts, as :func:`read_curves` takes them.
        command: what the page says it was made with.
        max_pixels: limit of a picture, as :func:`io.to_tensor` takes it.
        codecs: the rivals, by names that ``glc eval`` takes.
        device: where networks run.
        force: replace ``out`` even if it is read-only.

    Raises ``ValueError`` for a file without curves, and what reading pictures, loading models and writing files raise.
    """
    drawn = [curve for file in curves for curve in read_curves(file, metrics)]
    codec = zoo.load(model, device)
    against = rivals(pictures, codecs, device)
    distances = {name: registry.build("metric", {"name": name}) for name in metrics}
    levels = qualities or levels_of(codec)
    with io.replacing(out, force) as partial, partial.open("w", encoding="utf-8", errors="replace") as page:
        shown = []
        for path in pictures:
            shown.append((yield from _picture(path, codec, levels, distances, against, max_pixels)))
        data = {
            "metrics": [
                {"name": name, "label": LABELS.get(name, name), "higher": bool(distance.higher_is_better)}
                for name, distance in distances.items()
            ],
            "pictures": shown,
            "curves": drawn,
            "usual": min(range(len(levels)), key=lambda k: abs(levels[k] - codec.default_quality)),
        }
        facts = {
            "model": codec.config.get("name", "unnamed"),
            "fingerprint": codec.fingerprint().hex()[:12],
            "made": time.strftime("%Y-%m-%d"),
            "version": glc_toolkit.__version__,
            "machine": f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}",
            "command": command,
        }
        page.write(render(data, facts))


def levels_of(codec: GLCModel) -> list[float]:
    """Every whole level and the usual quality, lowest first."""
    return sorted({*map(float, range(codec.levels)), codec.default_quality})


def steps(pictures: Sequence[Path], levels: int, codecs: Sequence[str] = RIVALS) -> int:
    """The most rows that :func:`report` can yield for these pictures at so many levels."""
    return len(pictures) * (levels + len(codecs) * (levels + len(LARGER)))


def rivals(pictures: Sequence[Path], codecs: Sequence[str] = RIVALS, device: str = "cpu") -> list[Family]:
    """The codecs to compare with. Of ``RIVALS`` those that run here and can code all pictures, since means are over the
    same pictures for every codec; codecs that were asked for are all there, or an error says what is missing."""
    if tuple(codecs) != RIVALS:
        return [named(name, device=device)[0] for name in codecs]

    def longest(path: Path) -> int:
        try:
            with Image.open(path) as image:
                return max(image.size)
        except Exception:  # reading the picture later will say what is wrong
            return 0

    return able(name for name in RIVALS if name != "webp" or all(longest(path) <= WEBP_SIDE for path in pictures))


def render(data: dict, facts: dict) -> str:
    """The page as text. What comes from outside is escaped: in HTML by Jinja2, in the script as JSON."""
    loader = PackageLoader("glc_toolkit.evaluation", "page")
    templates = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    templates.policies["json.dumps_kwargs"] = {"sort_keys": False}  # codecs stay in their order
    source = {name: Markup(loader.get_source(templates, f"page.{name}")[0]) for name in ("css", "js")}
    return templates.get_template("page.html").render(data=data, facts=facts, mean=mean(data), **source)


def _picture(
    path: Path, codec, qualities: Sequence[float], distances: dict, against: list[Family], max_pixels: int | None
) -> Iterator[dict]:
    """Yields a row for each file that is made of a picture; returns what the page shows of the picture.

    ``points`` are the sizes to compare at: the size of each level, and for the rivals alone multiples of the largest.
    """
    x = io.to_tensor(path, max_pixels, codec.downsampling_factor)
    original = io.to_pillow(x)
    api.encode(original.crop((0, 0, 64, 64)), model=codec)  # the first call of a network is slower than any other
    items, points = [], []

    def item(name: str, setting: str, coder: Codec) -> tuple[dict, Trial[Image.Image]]:
        tried = trial(original, coder.encode, coder.decode)
        values = measure(io.to_tensor(tried.decoded), x, distances)
        row = {
            "codec": name,
            "setting": setting,
            "bytes": tried.costs["bytes"],
            "bpp": tried.costs["bpp"],
            **{name: _number(value) for name, value in values.items()},
            "encode_seconds": tried.costs["encoding_time"],
            "decode_seconds": tried.costs["decoding_time"],
        }
        items.append(row)
        return row, tried

    for quality in qualities:
        row, tried = item("GLC", f"q{quality:g}", GLC(codec, quality, max_pixels=max_pixels))
        yield row
        row["src"] = lossless(tried.decoded)
        row["sections"] = api.info(tried.data, codec, max_pixels)["sections"]
        row["bits"] = [[round(bits, 2) for bits in line] for line in bit_map(codec, x, quality).tolist()]
        points.append(
            {
                "label": f"{row['bytes']:,} bytes, q{quality:g}",
                "short": f"q{quality:g}",
                "size": row["bytes"],
                "items": {"GLC": len(items) - 1},
            }
        )
    largest = max(points, key=lambda point: point["size"])
    points += [
        {
            "label": f"rivals at {n} × the bytes",
            "short": f"{n} × the bytes",
            "size": n * largest["size"],
            "items": dict(largest["items"]),
        }
        for n in LARGER
    ]

    for family in against:
        known: dict[float | str, int] = {}
        for point in points:
            setting = family.nearest(original, point["size"])
            if setting not in known:
                label = setting if isinstance(setting, str) else f"quality {setting:g}"
                row, tried = item(family.title, label, family.codec(setting))
                yield row
                row["src"] = data_uri(tried.data, family.shows) if family.shows else lossless(tried.decoded)
                known[setting] = len(items) - 1
            point["items"][family.title] = known[setting]
    return {
        "name": path.name,
        "width": original.width,
        "height": original.height,
        "position": codec.backbone.downsampling,
        "src": lossless(original),
        "items": items,
        "points": points,
    }


def mean(data: dict) -> list[dict]:
    """Means over the pictures, a row for each codec and point; the charts draw them, too.

    A codec that has the same files at two points, such as its smallest files, gets one row for both.
    """
    rows = []
    names = ("bytes", "bpp", *(metric["name"] for metric in data["metrics"]), "encode_seconds", "decode_seconds")
    for codec in data["pictures"][0]["points"][0]["items"]:
        seen = set()
        for k in range(len(data["pictures"][0]["points"])):
            chosen = tuple(picture["points"][k]["items"][codec] for picture in data["pictures"])
            if chosen in seen:
                continue
            seen.add(chosen)
            short = data["pictures"][0]["points"][k]["short"]
            files = [picture["items"][i] for picture, i in zip(data["pictures"], chosen, strict=True)]
            settings = list(dict.fromkeys(file["setting"] for file in files))
            row = {"codec": codec, "setting": settings[0] if len(settings) == 1 else f"nearest to {short}"}
            for name in names:
                values = [file[name] for file in files if file[name] is not None]
                row[name] = fmean(values) if values else None
            rows.append(row)
    return rows


def read_curves(file: Path, metrics: Sequence[str]) -> list[dict]:
    """Rate-distortion curves for the charts: ``{"name", "bpp", metric: values}`` with what each has of ``metrics``.

    ``-rgb`` at the end of a metric's name says nothing that matters here. Raises ``ValueError`` for a file that
    :func:`glc_toolkit.evaluation.curves.read` does not take, and for a curve with none of ``metrics``.
    """
    found = []
    for curve in read(file):
        results = {key.removesuffix("-rgb"): values for key, values in curve["results"].items()}
        chosen = {key: values for key, values in results.items() if key in metrics}
        if not chosen:
            raise ValueError(f"{file} has none of {', '.join(metrics)}")
        found.append({"name": curve["name"], "bpp": results["bpp"], **chosen})
    return found


def lossless(image: Image.Image) -> str:
    """A picture for the page, without loss."""
    out = streams.BytesIO()
    if max(image.size) > WEBP_SIDE:
        image.save(out, "PNG")
        return data_uri(out.getvalue(), "png")
    image.save(out, "WebP", lossless=True, method=4)
    return data_uri(out.getvalue(), "webp")


def data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def _number(value: float) -> float | None:
    """``value`` as JSON can say it: None, which is null, for a number that is not finite."""
    return value if math.isfinite(value) else None
