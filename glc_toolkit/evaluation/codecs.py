"""Codecs to compare, by the names that the command line takes: ``avif``, ``jxl:0,10``, ``glc-image-0.03:0,1.5``.

A factory of the hook ``glc_codecs`` gives a :class:`Family`. It takes what it wants of ``argument``, the text that
follows its name (``compressai:ARGUMENT``), and ``settings``, the list of those that are asked for.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from PIL import Image

from glc_toolkit import registry
from glc_toolkit.types import ModelFileError


class Codec(Protocol):
    """A codec at one setting. ``decode`` is given nothing but the bytes, so they hold all it takes."""

    def encode(self, picture: Image.Image) -> bytes: ...

    def decode(self, data: bytes) -> Image.Image: ...


class ClipCodec(Protocol):
    """Likewise of clips: frames (H, W, 3) uint8, all of one size."""

    def encode(self, frames: Sequence[np.ndarray], fps: Fraction) -> bytes: ...

    def decode(self, data: bytes) -> list[np.ndarray]: ...


@dataclass
class Family:
    """A codec at all its settings: of pictures, of clips, or of both."""

    name: str
    version: str  # of the program or the weights: results of two versions are never mixed
    settings: Sequence  # all there are, from the smallest file to the largest; numbers, or texts
    default: Sequence
    at: Callable[[float | str], Codec] | None = None  # of pictures
    title: str = ""  # on pages, for the name
    shows: str = ""  # "avif" where a browser shows the files, which are of this type
    clips: Callable[[float | str], ClipCodec] | None = None

    def __post_init__(self):
        self.title = self.title or self.name

    def codec(self, setting: float | str) -> Codec:
        """Of pictures, at a setting. Raises ``ValueError`` for a family of clips alone."""
        if self.at is None:
            raise ValueError(f"{self.name} codes clips, not pictures")
        return self.at(setting)

    def clip_codec(self, setting: float | str) -> ClipCodec:
        if self.clips is None:
            raise ValueError(f"{self.name} codes pictures, not clips")
        return self.clips(setting)

    def nearest(self, picture: Image.Image, size: float) -> float | str:
        """The setting whose file comes nearest to ``size`` bytes.

        A bisection, as if sizes rose along ``settings``: of the two between which they pass ``size`` the nearer one.
        Where all files are larger that is the first setting, where all are smaller the last.
        """
        low, high = 0, len(self.settings) - 1
        sizes: dict[int, int] = {}

        def size_at(i: int) -> int:
            if i not in sizes:
                sizes[i] = len(self.codec(self.settings[i]).encode(picture))
            return sizes[i]

        while low < high:
            middle = (low + high) // 2
            if size_at(middle) < size:
                low = middle + 1
            else:
                high = middle
        return self.settings[min(range(max(low - 1, 0), low + 1), key=lambda i: abs(size_at(i) - size))]


def able(names: Iterable[str]) -> list[Family]:
    """Those of the codecs that can run here."""
    found = []
    for name in names:
        with suppress(ValueError, ModelFileError):
            found.append(named(name)[0])
    return found


def named(
    text: str, settings: str = "", effort: int = 0, max_pixels: int | None = None, device: str = "cpu"
) -> tuple[Family, list]:
    """The family that ``NAME[:SETTING,SETTING...]`` names, and its settings there; where it names none ``settings``, or
    else the default ones. A codec that takes an argument has it after its name: ``NAME:ARGUMENT[:SETTINGS]``.
    ``effort``, ``max_pixels`` and ``device`` are for GLC models alone.

    Raises ``ValueError`` for a setting that the codec lacks, and ``ModelFileError`` for a model that is not there.
    """
    from glc_toolkit.evaluation import learned

    name, _, rest = text.partition(":")
    if name in registry.names("codec"):
        argument = ""
        if "argument" in registry.parameters(registry.components("codec")[name][0]):
            argument, _, rest = rest.partition(":")
        asked = [s for s in (rest or settings).split(",") if s]
        family = registry.build("codec", {"name": name}, argument=argument, settings=asked)
    else:
        # hf://owner/name and C:\folder have a colon of their own
        name, rest = text.rpartition(":")[::2] if _numbers(text.rpartition(":")[2]) and ":" in text else (text, "")
        family = learned.glc_family(name, effort, max_pixels, device)
    if isinstance(family.settings[0], str):
        chosen = list(dict.fromkeys(s for s in (rest or settings).split(",") if s))
        if unknown := [setting for setting in chosen if setting not in family.settings]:
            known = ", ".join(family.settings)
            raise ValueError(f"{family.name} has no setting {', '.join(unknown)}; it has {known}")
        return family, chosen or list(family.default)
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
