"""PNG of few colours."""

import io
from dataclasses import dataclass

import PIL
from PIL import Image

from glc_toolkit.evaluation.codecs import Family


@dataclass
class PalettePNG:
    """PNG with a palette of so many colours. ``decode`` is given nothing but the bytes."""

    colours: float | str

    def encode(self, picture: Image.Image) -> bytes:
        out = io.BytesIO()
        picture.quantize(int(self.colours)).save(out, "PNG", optimize=True)
        return out.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")


class Codec(Family):
    """PNG of 2 to 256 colours."""

    def __init__(self):
        super().__init__(
            name="palette-png",
            version=f"Pillow {PIL.__version__}",  # results of two versions are never mixed
            settings=range(2, 257),  # from the smallest file to the largest
            default=(4, 16, 64),
            at=PalettePNG,
        )
