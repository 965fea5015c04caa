"""Codecs to compare, by the names that the command line takes: ``avif``, ``jxl:0,10``, ``glc-image-0.03:0,1.5``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image


class Codec(Protocol):
    """A codec at one setting. ``decode`` is given nothing but the bytes, so they hold all it takes."""

    def encode(self, picture: Image.Image) -> bytes: ...

    def decode(self, data: bytes) -> Image.Image: ...


@dataclass
class Family:
    """A codec at all its settings."""

    name: str
    version: str  # of the program or the weights: results of two versions are never mixed
    settings: Sequence  # all there are, from the smallest file to the largest
    default: Sequence
    at: Callable[[float | str], Codec]

    def nearest(self, picture: Image.Image, size: float) -> float | str:
        """The setting whose file comes nearest to ``size`` bytes.

        A bisection, as if sizes rose along ``settings``: of the two between which they pass ``size`` the nearer one.
        Where all files are larger that is the first setting, where all are smaller the last.
        """
        low, high = 0, len(self.settings) - 1
        sizes: dict[int, int] = {}

        def size_at(i: int) -> int:
            if i not in sizes:
                sizes[i] = len(self.at(self.settings[i]).encode(picture))
            return sizes[i]

        while low < high:
            middle = (low + high) // 2
            if size_at(middle) < size:
                low = middle + 1
            else:
                high = middle
        return self.settings[min(range(max(low - 1, 0), low + 1), key=lambda i: abs(size_at(i) - size))]


def named(
    text: str, settings: str = "", effort: int = 0, max_pixels: int | None = None, device: str = "cpu"
) -> tuple[Family, list]:
    """The family that ``NAME[:SETTING,SETTING...]`` names, and its settings there; where it names none ``settings``, or
    else the default ones. ``effort``, ``max_pixels`` and ``device`` are for GLC models alone.

    Raises ``ValueError`` for a setting that the codec lacks, and ``ModelFileError`` for a model that is not there.
    """
    from glc_toolkit.evaluation import classic, learned

    name, _, rest = text.partition(":")
    if name == "compressai":
        architecture, _, rest = rest.partition(":")
        return learned.compressai_family(architecture, [s for s in (rest or settings).split(",") if s])
    if name in classic.FAMILIES:
        family = classic.FAMILIES[name]()
    else:
        # hf://owner/name and C:\folder have a colon of their own
        name, rest = text.rpartition(":")[::2] if _numbers(text.rpartition(":")[2]) and ":" in text else (text, "")
        family = learned.glc_family(name, effort, max_pixels, device)
    try:
        chosen = [float(s) for s in (rest or settings).split(",") if s]
    except ValueError:
        raise ValueError(f"the settings of {family.name} are numbers with commas between, not {rest!r}") from None
    chosen = list(dict.fromkeys(int(s) if s.is_integer() else s for s in chosen))
    low, high = sorted((family.settings[0], family.settings[-1]))
    for setting in chosen:
        if not low <= setting <= high:
            raise ValueError(f"{family.name}: quality has to be between {low:g} and {high:g}, not {setting:g}")
        if isinstance(family.settings, range) and setting not in family.settings:
            raise ValueError(f"{family.name}: quality has to be a whole number, not {setting:g}")
    return family, chosen or list(family.default)


def _numbers(text: str) -> bool:
    return bool(text) and set(text) <= set("0123456789.,-")
