"""Make the gallery: every photograph of ``images/gallery`` through a zoo model, and through its rivals.

    python docs/make_gallery.py [MODEL] [QUALITY ...]

writes the reconstructions beside the photographs, and ``gallery.md``. Run it again when there are new weights: what it
wrote before is removed. A rival has the setting whose file comes nearest to that of the model's usual quality, which is
its smallest where all are larger.
"""

import sys
from pathlib import Path

from PIL import Image

import glc_toolkit as glc
from glc_toolkit import io, registry, zoo
from glc_toolkit.evaluation.codecs import named
from glc_toolkit.evaluation.evaluate import METRICS, measure

DOCS = Path(__file__).parent
PHOTOGRAPHS = DOCS / "images" / "gallery"
RIVALS = ("avif", "avif-half", "webp", "jpeg")
NAMES = {"avif": "AVIF", "avif-half": "AVIF at half the width", "webp": "WebP", "jpeg": "JPEG"}
HEAD = """# Gallery

Photographs, and what `{model}` makes of them at a low, its usual and a high quality, beside AVIF, WebP and JPEG at the
size nearest to that of its usual quality: at their smallest, where they cannot be as small. Drag the divider; the
buttons change what is right of it.

Sizes are those of the real files, header included. Photographs and reconstructions are shown as WebP copies; numbers
compare the decoded file with the photograph as shown. The model's [card](reference/zoo.md) says what it was trained on,
and which metrics were among its losses. Made by `docs/make_gallery.py`.

<div class="gallery" markdown="0">
"""


def main(name: str = "glc-image-0.03", *levels: str) -> None:
    model = zoo.load(name)
    metrics = {metric: registry.build("metric", {"name": metric}) for metric in METRICS}
    qualities = [float(level) for level in levels] or [0.0, model.default_quality, model.levels - 1.0]
    for file in PHOTOGRAPHS.glob("*.webp"):
        if not file.stem.endswith("-original"):
            file.unlink()
    page = [HEAD.format(model=name)]
    for photograph in sorted(PHOTOGRAPHS.glob("*-original.webp")):
        title = photograph.stem.removesuffix("-original")
        x = io.to_tensor(photograph)
        original = io.to_pillow(x)
        usual = len(glc.encode(photograph, model=model))
        page += [
            f'<section><h2 id="{title}">{title.capitalize()}</h2>',
            f'<figure class="compare" data-first="GLC q{model.default_quality:g}"><div class="compare-list">',
            shown(photograph, "original", f"{original.width} x {original.height} pixels"),
        ]

        def coded(label: str, file: str, data: bytes, picture: Image.Image, own: int = usual, x=x, title=title) -> str:
            target = PHOTOGRAPHS / f"{title}-{file}.webp"
            picture.save(target, quality=85, method=6)
            times = f" ({len(data) / own:.1f} times GLC's)" if len(data) > 1.1 * own else ""
            facts = [f"{len(data):,} bytes{times}", f"{8 * len(data) / x[0, 0].numel():.4f} bits a pixel"]
            measured = measure(io.to_tensor(picture), x, metrics)
            facts += [f"{metric} {value:.{2 if metric == 'psnr' else 3}f}" for metric, value in measured.items()]
            return shown(target, label, ", ".join(facts))

        for quality in dict.fromkeys(qualities):
            data = glc.encode(photograph, model=model, quality=quality)
            page.append(coded(f"GLC q{quality:g}", f"{quality:g}", data, glc.decode(data, model=model)))
        for rival in RIVALS:
            family, _ = named(rival)
            codec = family.at(family.nearest(original, usual))
            data = codec.encode(original)
            page.append(coded(NAMES[rival], rival, data, codec.decode(data)))
        page.append("</div></figure></section>\n")
    page += ["</div>\n", "Photographs: " + (PHOTOGRAPHS / "LICENSE.txt").read_text().strip()]
    (DOCS / "gallery.md").write_text("\n".join(page) + "\n")


def shown(file: Path, name: str, words: str) -> str:
    """A picture of the list, as HTML."""
    image = f'<img src="../images/gallery/{file.name}" alt="{name}" loading="lazy">'
    return f'<figure data-name="{name}">{image}<figcaption><strong>{name}</strong>: {words}</figcaption></figure>'


if __name__ == "__main__":
    main(*sys.argv[1:])
