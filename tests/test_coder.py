import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glc_toolkit import BitstreamError
from glc_toolkit.coder import PRECISION, UNPAID, CountingDecoder, Decoder, Encoder, quantize_pmf
from tests.reference_decoder import RangeDecoder


@given(st.integers(0, 400), st.integers(1, 6), st.integers(2, 300), st.integers(0, 2**32 - 1))
def test_round_trip(count, tables, size, seed):
    random = np.random.default_rng(seed)
    cdf = quantize_pmf(random.dirichlet(np.full(size, 0.1), tables) + 1e-12)
    offset = random.integers(-50, 50, tables)
    rows = random.integers(0, tables, count)
    symbols = random.integers(0, size, count) + offset[rows]
    encoder = Encoder()
    encoder.put(symbols, rows, cdf, offset)
    assert np.array_equal(Decoder(encoder.bytes()).get(rows, cdf, offset), symbols)


def test_nothing_costs_nothing():
    assert Encoder().bytes() == b""
    encoder = Encoder()
    encoder.put(np.zeros(0, int), np.zeros(0, int), quantize_pmf(np.ones((1, 4))), np.zeros(1, int))
    assert encoder.bytes() == b""


@given(st.integers(2, 5000), st.integers(0, 2**32 - 1))
def test_tables_are_exact(size, seed):
    pmf = np.random.default_rng(seed).dirichlet(np.full(size, 0.01)) + 1e-300
    cdf = quantize_pmf(pmf[None])
    assert cdf[0, 0] == 0 and cdf[0, -1] == 2**PRECISION
    assert (np.diff(cdf) >= 1).all()


def test_size_is_the_entropy():
    pmf = np.array([[0.9, 0.05, 0.03, 0.02]])
    cdf, offset = quantize_pmf(pmf), np.array([-1])
    random = np.random.default_rng(0)
    symbols = random.choice(4, 20000, p=pmf[0]) - 1
    rows = np.zeros(len(symbols), int)
    encoder = Encoder()
    encoder.put(symbols, rows, cdf, offset)
    bits = -np.log2(np.diff(cdf)[0] / 2**PRECISION)[symbols + 1].sum()
    assert bits / 8 <= len(encoder.bytes()) <= bits / 8 + 8


def test_the_wire_is_an_ordinary_range_coder():
    """A range decoder written from its definition reads the stream: 64-bit state, 32-bit words, 24-bit tables."""
    random = np.random.default_rng(1)
    cdf, offset = quantize_pmf(random.dirichlet(np.ones(7), 2)), np.array([0, -3])
    rows = np.repeat([0, 1], 50)
    symbols = random.integers(0, 7, 100) + offset[rows]
    encoder = Encoder()
    encoder.put(symbols, rows, cdf, offset)
    assert np.array_equal(RangeDecoder(encoder.bytes()).symbols(rows, cdf, offset), symbols)


def test_counting_decoder_ends_at_the_end():
    cdf, offset = quantize_pmf(np.full((1, 16), 1 / 16)), np.zeros(1, int)
    rows = np.zeros(64, int)
    encoder = Encoder()
    encoder.put(np.arange(64) % 16, rows, cdf, offset)
    decoder = CountingDecoder(encoder.bytes())
    decoder.get(rows[:32], cdf, offset)
    assert 16 <= decoder.position() <= 24
    decoder.get(rows[32:], cdf, offset)
    assert decoder.position() == len(encoder.bytes())


def test_symbols_are_not_read_out_of_nothing():
    """Where zeros at the end are left out, so many are believed, and no more are left out."""
    cdf, offset = quantize_pmf(np.full((1, 256), 1 / 256)), np.zeros(1, int)
    for count in (10, 200, 1000):
        encoder, rows = Encoder(), np.zeros(count, int)
        encoder.put(np.zeros(count, int), rows, cdf, offset)
        assert not any(encoder.bytes()) and len(encoder.bytes()) >= count - UNPAID
        assert not Decoder(encoder.bytes()).get(rows, cdf, offset).any()
    with pytest.raises(BitstreamError, match="worth 1000 bytes are asked of 3"):
        Decoder(b"abc").get(np.zeros(1000, int), cdf, offset)


def test_symbols_outside_the_table_are_refused():
    with pytest.raises(ValueError, match="outside table 0"):
        Encoder().put(np.array([4]), np.zeros(1, int), quantize_pmf(np.ones((1, 4))), np.zeros(1, int))


def test_foreign_data_raises_or_decodes_but_never_crashes():
    cdf, offset = quantize_pmf(np.full((1, 3), 1 / 3)), np.zeros(1, int)
    for seed in range(50):
        junk = np.random.default_rng(seed).bytes(seed)
        try:
            symbols = Decoder(junk).get(np.zeros(500, int), cdf, offset)
        except BitstreamError:
            continue
        assert symbols.min() >= 0 and symbols.max() < 3
