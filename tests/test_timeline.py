"""Times of pictures, and the constant rate that shows them."""

from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glc_toolkit import timeline

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    "rate", [Fraction(24000, 1001), Fraction(25), NTSC, Fraction(60000, 1001), Fraction(120), Fraction(1, 5)]
)
@pytest.mark.parametrize("unit", [0, 1e-3])
@pytest.mark.parametrize("said", [(), (Fraction(1000), Fraction(90000))])
def test_a_steady_rate_is_found_though_times_are_rounded(rate, unit, said):
    times = np.arange(200) / float(rate)
    times = np.round(times / unit) * unit if unit else times
    found = timeline.rate_of(times, 200 / float(rate), said)
    assert abs(found / rate - 1) < 1e-4
    assert list(timeline.steady(zip(times, range(200), strict=True), found, 200 / float(rate))) == list(range(200))


def test_jitter_is_no_change_of_rate():
    random = np.random.default_rng(0)
    times = (np.arange(300) + random.uniform(0, 0.4, 300)) / 30
    assert timeline.rate_of(times - times[0], 10, (Fraction(90000),)) == 30


def test_a_rate_that_varies_is_as_fast_as_almost_all_of_it_needs():
    slow_and_fast = np.concatenate([np.arange(30) / 30, 1 + np.arange(20) / 10])
    assert timeline.rate_of(slow_and_fast, 3, (Fraction(30),)) == 30
    assert timeline.rate_of(slow_and_fast, 3, (Fraction(1000),)) == 30
    screen = np.array([0.0, 1, 2, 3, 5])
    assert timeline.rate_of(screen, 5.033, (Fraction(30),)) == 30
    assert timeline.rate_of(np.cumsum([0, *[0.001, 0.5] * 50]), 26, ()) <= 60  # no rate of 1000 for a pair of pictures


def test_of_one_picture_or_none():
    assert timeline.rate_of([0.0], 10.0, (Fraction(90000),)) == Fraction(1, 10)
    assert timeline.rate_of([], 0, (Fraction(90000), None)) == timeline.FALLBACK
    assert timeline.rate_of([0.0], 1e5, (Fraction(1, 10**6),)) > 0


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.sampled_from([25, 30]))
def test_each_picture_is_shown_from_its_time_to_the_next(gaps, rate):
    starts = [0, *accumulate(gaps)]
    pictures = list(enumerate(starts[:-1]))
    shown = list(timeline.steady(((start / rate, n) for n, start in pictures), Fraction(rate), starts[-1] / rate))
    assert shown == [n for n, gap in enumerate(gaps) for _ in range(gap)]


def calm(times, jump=10.0, back=0.02, mixed=False):
    return list(timeline.in_order(((time, n) for n, time in enumerate(times)), jump, back, lambda: mixed))


def test_a_splice_goes_on_where_it_was():
    first = [n / 10 for n in range(5)]
    for again in (0.0, 0.25, 5000.0):
        found = calm([*first, *(again + n / 10 for n in range(5))])
        assert [n for _, n in found] == list(range(10))
        np.testing.assert_allclose([time for time, _ in found], np.arange(10) / 10, atol=1e-9)


def test_splices_of_packets_that_are_not_in_order():
    order = [0, 3, 1, 2, 6, 4, 5]
    times = [time for time, _ in calm([(1000 * again + n) / 25 for again in (0, 5, 2) for n in order], mixed=True)]
    np.testing.assert_allclose(times, np.arange(21) / 25, atol=1e-9)


def test_a_gap_is_no_splice():
    assert calm([0, 0.1, 5.0]) == [(0, 0), (0.1, 1), (5.0, 2)]


def test_what_damage_mixed_up_is_put_in_order():
    found = calm([0, 0.1, 0.5, 0.2, 0.6, 0.3, 0.7], mixed=True)
    assert [time for time, _ in found] == sorted(time for time, _ in found)
    assert [n for _, n in found] == [0, 1, 3, 5, 2, 4, 6]
