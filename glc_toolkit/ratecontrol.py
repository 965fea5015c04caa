"""Which quality each frame of a video gets, so that its file keeps to a budget, in one pass with feedback.

A model of the bytes by quality, one for intra frames and one for P frames, follows what frames have taken so far. From
time to time the quality is chosen anew: the one that would spend what is left if all further frames had it. That is a
guess, and the budget is not. A frame that would leave too little for the rest at the lowest quality is coded at a lower
one. Where a frame does not fit even at the lowest, encoding ends with an error.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from glc_toolkit import videostream

Coded = Callable[[int], tuple[object, bytes]]  # a quality code -> anything, and the payload of the frame at hand
EVERY = 8  # frames from one choice of the quality to the next; a change costs three bytes, and shows
NEAR = 4  # a change of the code, of 255, that is not worth it
MEMORY = 0.95  # how much the bytes of a frame count one frame later
FLAT = math.log(1.5) / 255  # least slope of a curve: a flat one would tell nothing about the next quality
INTRA_WORTH = 8  # P frames that take as many bytes as an intra frame; until one of them is known
MARGIN = 0.2  # of the bytes of frames to come, that is held back: they may be harder than those so far
LEAST = 3  # bytes of a record that has no payload


@dataclass(frozen=True)
class Budget:
    """How many bytes a file may have.

    The number of frames, if it is known, is what the bytes are planned for; there may be more or fewer. If it is not,
    each intra period is planned by itself.
    """

    intra_period: int
    frames: int | None  #: how many there will be
    bytes: int | None  #: of the whole file; it may be ``None`` if there is
    share: float | None  #: bytes a frame

    def last(self, number: int) -> int:
        """The number of the frame, after frame ``number``, before which everything has to fit."""
        if self.frames is None:
            return number + self.intra_period - number % self.intra_period
        return max(self.frames, number + 1)

    def up_to(self, last: int) -> float:
        """Bytes of a file of so many frames."""
        return self.bytes if self.bytes is not None else (self.share or 0.0) * last


class Curve:
    """The bytes of a kind of frame by its quality code, ``scale * exp(slope * code)``."""

    def __init__(self, lowest: int, code: int, size: int):
        """From the bytes of one frame at code 0 and at another."""
        self.slope = max(math.log(size / lowest) / max(code, 1), FLAT)
        self.code, self.total, self.weight = 0, float(lowest), 1.0
        self.worst = 1.0  # the most that a frame took, in bytes that were expected of it

    def size(self, code: int) -> float:
        """The mean, expected."""
        return self.total / self.weight * math.exp(self.slope * (code - self.code))

    def bend(self, lowest: int, code: int, size: int) -> None:
        """Follow the slope that another frame shows, around the code of the last."""
        if code:
            self.slope = max((self.slope + math.log(size / lowest) / code) / 2, FLAT)

    def add(self, code: int, size: int) -> None:
        """Take note of what a frame took."""
        self.worst = max(self.worst, size / self.size(code))
        before = MEMORY * self.total * math.exp(self.slope * (code - self.code))
        self.code, self.total, self.weight = code, before + size, MEMORY * self.weight + 1


class RateControl:
    """For each frame in turn: :meth:`plan`, which proposes a quality, then :meth:`fit`, which keeps to the budget.

    Args:
        budget: of the file.
        highest: the highest quality code; 0 is the lowest.
        spent: bytes of the header.
    """

    def __init__(self, budget: Budget, highest: int, spent: int):
        self.budget, self.highest, self.spent = budget, highest, spent
        self.number = 0
        self.code = -1  # of the frame before
        self.curves: dict[bool, Curve] = {}  # of intra frames and of P frames

    @property
    def intra(self) -> bool:
        return self.number % self.budget.intra_period == 0

    def plan(self, coded: Coded) -> int:
        """The quality code that all frames to come could have, by what is known."""
        curve, after = self.curves.get(self.intra), self.budget.last(self.number) - self.number
        new = curve is None
        if curve is None:
            curve = self.curves[self.intra] = Curve(self._size(coded, 0), self.highest, self._size(coded, self.highest))
        elif min(self.number, after) >= EVERY and self.number % EVERY:
            return self.code
        else:
            curve.bend(self._size(coded, 0), self.code, self._size(coded, self.code))
        room = self._room(self.number)
        codes = range(self.highest + 1)
        code = max(bisect_right(codes, room, key=lambda c: curve.size(c) + self._rest(c)) - 1, 0)
        if not new and code > self.code:  # up by half, or it would swing around where the curve is not as it is here
            code = (code + self.code + 1) // 2
        stays = self.number and abs(code - self.code) < NEAR and 0 < code < self.highest
        return self.code if stays else code

    def fit(self, coded: Coded, code: int) -> tuple[int, int | None]:
        """The quality code that the frame gets, ``code`` if there is room, and what its record says of it, if anything.

        Raises ``ValueError`` if it does not fit at the lowest quality.
        """
        last = self.budget.last(self.number)
        room = self._room(self.number) - self._rest(0)
        if self._size(coded, code) > room:
            code = max(bisect_right(range(code), room, key=lambda c: self._size(coded, c)) - 1, 0)
        size = self._size(coded, code)
        if size + LEAST * (last - self.number - 1) > self._room(self.number):
            raise ValueError(self._refusal())
        told = code if self.intra or code != self.code else None
        self.curves[self.intra].add(code, size)
        self.spent, self.code, self.number = self.spent + size, code, self.number + 1
        return code, told

    def _size(self, coded: Coded, code: int) -> int:
        """Bytes of the record of the frame at hand."""
        told = code if self.intra or code != self.code else None
        return len(videostream.record(self.number, coded(code)[1], self.intra, told))

    def _room(self, number: int) -> float:
        """Bytes that are left for frame ``number`` and those that it is planned with."""
        last = self.budget.last(number)
        return self.budget.up_to(last) - self.spent - len(videostream.end(last))

    def _rest(self, code: int) -> float:
        """Bytes to keep for the frames after the one at hand, at this quality: what they are expected to take, a
        margin, and what one more costs that is as unlike the others as the worst so far."""
        last, first = self.budget.last(self.number), self.number + 1
        curve = self.curves.get(False)
        surprise = (curve.worst - 1) * curve.size(code) if curve and last > first else 0.0
        return (1 + MARGIN) * self._expected(first, last, code) + surprise

    def _expected(self, first: int, last: int, code: int) -> float:
        """Bytes of the frames from number ``first`` to before ``last`` if all have this quality."""
        period = self.budget.intra_period
        intra = math.ceil(last / period) - math.ceil(first / period)
        bytes_of_intra = self.curves[True].size(code)
        bytes_of_p = self.curves[False].size(code) if False in self.curves else bytes_of_intra / INTRA_WORTH
        return intra * bytes_of_intra + (last - first - intra) * bytes_of_p

    def _refusal(self) -> str:
        last = self.budget.last(self.number)
        return (
            f"the budget of {self.budget.up_to(last):,.0f} bytes for {last:,} frames is too small: {self.spent:,} are "
            f"spent, and frame {self.number:,} does not fit even at the lowest quality, at which all would take about "
            f"{self._expected(0, last, 0):,.0f}"
        )
