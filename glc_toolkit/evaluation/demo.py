"""``glc demo``: one photograph through the codec and its rivals, as a table and a picture."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from PIL import Image, ImageDraw, ImageFont

from glc_toolkit import api, io, mark, registry, zoo
from glc_toolkit.evaluation.codecs import able, named
from glc_toolkit.evaluation.evaluate import METRICS, measure

RIVALS = ("avif-quarter", "avif", "jpeg")


def demo(
    picture: Path,
    out: Path,
    model: str = api.DEFAULT_MODEL,
    max_pixels: int | None = None,
    codecs: Sequence[str] = (),
    device: str = "cpu",
    force: bool = False,
) -> Iterator[dict]:
    """Compress ``picture`` to ``out/NAME.glc`` and back, against ``codecs``, by names that ``glc eval`` takes, or else
    those of ``RIVALS`` that run here, at the nearest sizes they reach.

    Yields a row of the table for each codec, then writes the decoded PNG and ``out/NAME-comparison.png``.
    """
    against = [named(name, device=device)[0] for name in codecs] or able(RIVALS)
    glc = zoo.load(model, device)
    x = io.to_tensor(picture, max_pixels, glc.downsampling_factor)
    out.mkdir(parents=True, exist_ok=True)
    original = io.to_pillow(x)
    distances = {name: registry.build("metric", {"name": name}) for name in METRICS}
    panels = [("original", original)]

    def row(name: str, encode, decode) -> dict:
        started = time.perf_counter()
        data = encode()
        encoded = time.perf_counter()
        image = decode(data)
        seconds = {"encode_seconds": encoded - started, "decode_seconds": time.perf_counter() - encoded}
        bpp = 8 * len(data) / (original.width * original.height)
        panels.append((f"{name}  {len(data):,} bytes  {bpp:.4f} bpp", image))
        return {"codec": name, "bytes": len(data), "bpp": bpp, **measure(io.to_tensor(image), x, distances), **seconds}

    api.encode(original.crop((0, 0, 64, 64)), model=glc)  # the first call of a network is slower than any other
    target = out / f"{picture.stem}.glc"

    def to_file() -> bytes:
        data = api.encode(original, model=glc, max_pixels=max_pixels)
        with io.replacing(target, force) as partial:
            partial.write_bytes(data)
        return data

    def decoded(_: bytes) -> Image.Image:
        return cast(Image.Image, api.decode(target.read_bytes(), model=glc, max_pixels=max_pixels))

    own = row(f"GLC ({glc.config.get('name')})", to_file, decoded)
    yield own
    for family in against:
        setting = family.nearest(original, own["bytes"])
        codec = family.codec(setting)
        label = setting if isinstance(setting, str) else f"q{setting:g}"
        yield row(f"{family.title} {label}", lambda: codec.encode(original), codec.decode)  # noqa: B023
    text = mark.sentence(glc.config.get("name", "unnamed"))
    io.save(panels[1][1], out / f"{picture.stem}-glc.png", mark=text, force=force)
    io.save(side_by_side(panels), out / f"{picture.stem}-comparison.png", force=force)


def side_by_side(panels: list[tuple[str, Image.Image]]) -> Image.Image:
    """Captioned pictures in a grid of two or three columns."""
    columns = 2 if len(panels) <= 4 else 3
    width, height = panels[0][1].size
    size = max(12, width // 40)
    font, bar = ImageFont.load_default(size=size), 2 * size
    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * width, rows * (height + bar)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (caption, image) in enumerate(panels):
        left, top = i % columns * width, i // columns * (height + bar)
        draw.text((left + bar // 2, top + bar // 4), caption, "black", font=font)
        sheet.paste(image, (left, top + bar))
    return sheet
