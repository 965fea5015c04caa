"""``glc demo``: one photograph through the codec and its rivals, as a table and a picture."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from glc_toolkit import api, io, mark, registry, zoo
from glc_toolkit.evaluation.codecs import able, named
from glc_toolkit.evaluation.evaluate import METRICS, Trial, measure, trial
from glc_toolkit.evaluation.family import Codec
from glc_toolkit.evaluation.learned import GLC

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
    """Compress ``picture`` to ``out/NAME.glc`` and back, and by other codecs at the nearest sizes that they reach.

    ``codecs`` are names that ``glc eval`` takes; if there are none, the codecs of ``RIVALS`` that run here. Yields a
    row of the table for each codec, then writes the decoded PNG and ``out/NAME-comparison.png``.
    """
    against = [named(name, device=device)[0] for name in codecs] or able(RIVALS)
    glc = zoo.load(model, device)
    x = io.to_tensor(picture, max_pixels, glc.downsampling_factor)
    out.mkdir(parents=True, exist_ok=True)
    original = io.to_pillow(x)
    distances = {name: registry.build("metric", {"name": name}) for name in METRICS}
    panels = [("original", original)]

    def row(name: str, codec: Codec) -> tuple[dict, Trial[Image.Image]]:
        tried = trial(original, codec.encode, codec.decode)
        cost = tried.costs
        panels.append((f"{name}  {cost['bytes']:,} bytes  {cost['bpp']:.4f} bpp", tried.decoded))
        values = measure(io.to_tensor(tried.decoded), x, distances)
        seconds = {"encode_seconds": cost["encoding_time"], "decode_seconds": cost["decoding_time"]}
        return {"codec": name, "bytes": cost["bytes"], "bpp": cost["bpp"], **values, **seconds}, tried

    api.encode(original.crop((0, 0, 64, 64)), model=glc)  # the first call of a network is slower than any other
    own, tried = row(f"GLC ({glc.config.get('name')})", GLC(glc, max_pixels=max_pixels))
    with io.replacing(out / f"{picture.stem}.glc", force) as partial:
        partial.write_bytes(tried.data)
    yield own
    for family in against:
        setting = family.nearest(original, own["bytes"])
        label = setting if isinstance(setting, str) else f"q{setting:g}"
        yield row(f"{family.title} {label}", family.codec(setting))[0]
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
