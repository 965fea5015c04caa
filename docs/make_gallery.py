"""Make the gallery: every photograph of ``images/gallery`` through a zoo model.

    python docs/make_gallery.py [MODEL] [QUALITY ...]

writes the reconstructions beside the photographs, and ``gallery.md``. Run it again when there are new weights.
"""

import sys
from pathlib import Path

import glc_toolkit as glc
from glc_toolkit import io, registry, zoo
from glc_toolkit.evaluation.evaluate import METRICS, measure

DOCS = Path(__file__).parent
PHOTOGRAPHS = DOCS / "images" / "gallery"
HEAD = """# Gallery

Photographs and what `{model}` makes of them at a low, its usual and a high quality. Sizes
are those of the GLC files. Photographs and reconstructions are shown as WebP copies; numbers compare the decoded file
with the photograph as shown. What the model was trained on is on its [card](reference/zoo.md).

Made by `docs/make_gallery.py`.
"""


def main(name: str = "glc-image-0.03", *levels: str) -> None:
    model = zoo.load(name)
    metrics = {metric: registry.build("metric", {"name": metric}) for metric in METRICS}
    page = [HEAD.format(model=name)]
    for photograph in sorted(PHOTOGRAPHS.glob("*-original.webp")):
        title = photograph.stem.removesuffix("-original")
        x = io.to_tensor(photograph)
        page += [f"## {title.capitalize()}", "", f"![the original](images/gallery/{photograph.name})", ""]
        for level in [float(level) for level in levels] or [0.0, None, model.levels - 1.0]:
            data = glc.encode(photograph, model=model, quality=level)
            x_hat = io.to_tensor(glc.decode(data, model=model))
            quality = model.default_quality if level is None else level
            file = PHOTOGRAPHS / f"{title}-{quality:g}.webp"
            io.to_pillow(x_hat).save(file, quality=85, method=6)
            said = ", ".join(f"{metric} {value:.3f}" for metric, value in measure(x_hat, x, metrics).items())
            bpp = 8 * len(data) / x[0, 0].numel()
            page += [
                f"![quality {quality:g}](images/gallery/{file.name})",
                "",
                f"Quality {quality:g}: {len(data):,} bytes, {bpp:.4f} bits per pixel, {said}",
                "",
            ]
    page.append("Photographs: " + (PHOTOGRAPHS / "LICENSE.txt").read_text().strip())
    (DOCS / "gallery.md").write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
