"""The mark in what GLC decoded: at these rates detail is invented, and whoever gets the picture has a right to know.

A picture has it as XMP, with the IPTC's term for media that a trained algorithm had a part in; a PNG as text besides. A
video has it as its comment. Formats that hold neither (BMP, PPM) have none.
"""

from html import escape
from typing import Any

from PIL.PngImagePlugin import PngInfo

from glc_toolkit import __version__

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmp:CreatorTool="{tool}" Iptc4xmpExt:DigitalSourceType="{source}"
  xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
  xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>"""
HOLD_XMP = (".jpg", ".jpeg", ".webp", ".avif")
TOOL = f"glc-toolkit {__version__}"


def sentence(model: str) -> str:
    """What the mark says of a picture that the model of this name decoded."""
    return f"Decoded by {TOOL} with the generative codec {model}: fine detail may be invented"


def options(suffix: str, text: str) -> dict[str, Any]:
    """What Pillow's ``save`` takes to put the mark into a file with this suffix; nothing for an empty text."""
    if not text:
        return {}
    xmp = XMP.format(tool=escape(TOOL), source=SOURCE_TYPE, text=escape(text))
    if suffix.lower() == ".png":
        info = PngInfo()
        info.add_text("Software", TOOL)
        info.add_text("Description", text)
        info.add_itxt("XML:com.adobe.xmp", xmp)
        return {"pnginfo": info}
    return {"xmp": xmp.encode()} if suffix.lower() in HOLD_XMP else {}
