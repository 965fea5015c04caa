"""``glc demo``: one photograph through the codec and its rivals, as a table and a picture."""

import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from glc_toolkit import api, io, registry
from glc_toolkit.evaluation import baselines
from glc_toolkit.evaluation.evaluate import METRICS, measure


def demo(picture: Path, out: Path, model: str = api.DEFAULT_MODEL) -> list[dict]:
    """Compress ``picture`` to ``out/NAME.glc`` and back, against AVIF and JPEG at the nearest sizes they reach.

    Writes the decoded PNG and ``out/NAME-comparison.png``; returns the rows of the table.
    """
    out.mkdir(parents=True, exist_ok=True)
    codec = api._loaded(model)
    x = io.to_tensor(picture)
    original = io.to_pillow(x)
    distances = {name: registry.build("metric", {"name": name}) for name in METRICS}
    rows, panels = [], [("original", original)]

    def add(name: str, encode, decode) -> int:
        started = time.perf_counter()
        data = encode()
        encoded = time.perf_counter()
        image = decode(data)
        seconds = {"encode_seconds": encoded - started, "decode_seconds": time.perf_counter() - encoded}
        bpp = 8 * len(data) / (original.width * original.height)
        rows.append(
            {"codec": name, "bytes": len(data), "bpp": bpp, **measure(io.to_tensor(image), x, distances), **seconds}
        )
        panels.append((f"{name}  {len(data):,} bytes  {bpp:.4f} bpp", image))
        return len(data)

    api.encode(original.crop((0, 0, 64, 64)), model=codec)  # the first call of a network is slower than any other
    target = out / f"{picture.stem}.glc"

    def to_file() -> bytes:
        data = api.encode(original, model=codec)
        target.write_bytes(data)
        return data

    size = add(f"GLC ({codec.config.get('name')})", to_file, lambda _: api.decode(target.read_bytes(), model=codec))
    panels[-1][1].save(out / f"{picture.stem}-glc.png")
    for name in ("AVIF", "JPEG"):
        if name not in baselines.available():
            continue
        _, setting = baselines.nearest(original, name, size)
        add(f"{name} q{setting}", lambda: baselines.encode(original, name, setting), baselines.decode)  # noqa: B023
    side_by_side(panels).save(out / f"{picture.stem}-comparison.png")
    return rows


def side_by_side(panels: list[tuple[str, Image.Image]], columns: int = 2) -> Image.Image:
    """Captioned pictures in a grid."""
    width, height = panels[0][1].size
    font = ImageFont.load_default(size=max(12, width // 40))
    bar = font.size * 2
    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * width, rows * (height + bar)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (caption, image) in enumerate(panels):
        left, top = i % columns * width, i // columns * (height + bar)
        draw.text((left + bar // 2, top + bar // 4), caption, "black", font=font)
        sheet.paste(image, (left, top + bar))
    return sheet
