"""When pictures of a video are shown -> a constant rate, at which each is repeated until the next is due."""

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np

T = TypeVar("T")
USUAL = [Fraction(n) for n in (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20)]
USUAL += [Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(48)]
USUAL += [Fraction(50), Fraction(60000, 1001), Fraction(60)]
FASTEST = USUAL[-1]  # of a rate that varies: what screens show
SLOWEST = Fraction(1, 1001)
LOST = 0.02  # share of pictures whose turn may be too short for the rate
WAITING = 16  # pictures that one which comes too late can overtake
AGO = 1.0  # seconds
FALLBACK = Fraction(25)


def slots(times: np.ndarray | float, rate: Fraction) -> np.ndarray:
    """The number of the frame that is nearest to each time, in seconds."""
    return np.floor(np.asarray(times) * float(rate) + 0.5 + 1e-6).astype(np.int64)


def rate_of(times: Sequence[float], end: float, said: Iterable[Fraction | None]) -> Fraction:
    """Frames a second, given when each picture is shown and when the last one ends, in seconds from the first, rising.

    A rate at which there is one picture a frame is taken where there is one, ``said`` in the file or the mean. Where
    the rate varies, the first that is fast enough for almost all of them.
    """
    ends = np.append(times, end)
    claims = [Fraction(rate).limit_denominator(1001) for rate in said if rate and rate >= SLOWEST]
    claims = [next((usual for usual in USUAL if abs(usual / rate - 1) < 1e-4), rate) for rate in claims]
    if not len(times) or end <= 0:
        return next((rate for rate in claims if rate <= 4 * FASTEST), FALLBACK)
    mean = max(Fraction(len(times) / end).limit_denominator(1001), SLOWEST)
    count = np.arange(len(ends))
    for rate in (*claims, *_near(mean, ends), mean):
        if np.array_equal(slots(ends, rate), count):
            return rate
    for rate in (*claims, *USUAL):
        distinct = len(np.unique(slots(ends, rate)))
        if rate <= max(FASTEST, mean) and len(ends) - distinct <= LOST * len(ends):
            return rate if rate in claims else _near(rate, ends)[0]
    return max(FASTEST, mean)


def _near(rate: Fraction, times: np.ndarray) -> list[Fraction]:
    """Usual rates near ``rate``. The rate that fits ``times`` best comes first."""
    rates = [usual for usual in USUAL if abs(usual / rate - 1) < 2e-3]
    return sorted(rates, key=lambda near: float(np.abs(times * float(near) - slots(times, near)).sum()))


def in_order(
    pictures: Iterable[tuple[float, T]], jump: float, back: float, mixed: Callable[[], bool]
) -> Iterator[tuple[float, T]]:
    """Times, in seconds, and pictures -> the same with times that rise.

    Where they jump by more than ``jump`` seconds, or back by more than ``back``, another recording was spliced on: it
    goes on where the one before ended. Once ``mixed()``, which damage makes true, pictures are put in order instead,
    unless they go back by more than ``AGO``.
    """
    waiting: list[tuple[float, int, T]] = []
    last = shift = gap = 0.0
    shown = math.inf

    def first() -> tuple[float, T]:
        nonlocal shown, gap
        time, _, picture = heapq.heappop(waiting)
        gap = time - shown if 0 < time - shown < AGO else gap
        shown = time
        return time, picture

    for number, (time, picture) in enumerate(pictures):
        time += shift
        if number and not -(AGO if mixed() else back) <= time - last <= jump:
            while waiting:
                yield first()
            shift += last + gap - time
            time = last + gap
        last = max(last, time) if number else time
        heapq.heappush(waiting, (time, number, picture))
        while len(waiting) > (WAITING if mixed() else 0):
            yield first()
    while waiting:
        yield first()


def steady(pictures: Iterable[tuple[float, T]], rate: Fraction, end: float = 0) -> Iterator[T]:
    """Times, in seconds from the first and in order, and pictures -> a picture for each frame at ``rate``.

    A picture is repeated until the next is due, the last one until ``end``; of several in one frame the last is shown.
    """
    shown, at = None, 0
    for time, picture in pictures:
        slot = int(slots(time, rate))
        while shown is not None and at < slot:
            yield shown
            at += 1
        shown = picture
    if shown is not None:
        for _ in range(at, max(at + 1, int(slots(end, rate)))):
            yield shown
