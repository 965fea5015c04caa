"""What a codec to compare with is: a family, with one codec for each setting, of pictures, clips or both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from PIL import Image


class Codec(Protocol):
    """A codec at one setting. ``decode`` is given nothing but the bytes, so they hold all it takes."""

    def encode(self, picture: Image.Image) -> bytes: ...

    def decode(self, data: bytes) -> Image.Image: ...


class ClipCodec(Protocol):
    """The same for clips: frames (H, W, 3) uint8, all of one size."""

    def encode(self, frames: Sequence[np.ndarray], fps: Fraction) -> bytes: ...

    def decode(self, data: bytes) -> list[np.ndarray]: ...


@dataclass
class Family:
    """A codec at all its settings, for pictures, clips or both."""

    name: str
    version: str  #: of the program or the weights; results of two versions are never mixed
    settings: Sequence  #: all there are, from the smallest file to the largest; numbers or texts
    default: Sequence  #: the settings that ``glc eval`` takes by itself
    at: Callable[[float | str], Codec] | None = None  #: the codec for pictures at a setting
    title: str = ""  #: the name on pages; ``name`` where it is empty
    shows: str = ""  #: the type of the files, as "avif", if browsers can show them
    clips: Callable[[float | str], ClipCodec] | None = None  #: the codec for clips at a setting

    def __post_init__(self):
        self.title = self.title or self.name

    def codec(self, setting: float | str) -> Codec:
        """The codec for pictures at a setting. Raises ``ValueError`` for a family that codes clips alone."""
        if self.at is None:
            raise ValueError(f"{self.name} codes clips, not pictures")
        return self.at(setting)

    def clip_codec(self, setting: float | str) -> ClipCodec:
        """The codec for clips at a setting. Raises ``ValueError`` for a family that codes pictures alone."""
        if self.clips is None:
            raise ValueError(f"{self.name} codes pictures, not clips")
        return self.clips(setting)

    def nearest(self, picture: Image.Image, size: float) -> float | str:
        """The setting whose file comes nearest to ``size`` bytes.

        A bisection, as if sizes rose along ``settings``, ends between two settings and takes the nearer one. It takes
        the first setting where all files are larger, and the last where all are smaller.
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
