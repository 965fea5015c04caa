"""Symbols <-> bytes: the only file that knows the wire coder, the range coder of constriction.

A table is a row of a cumulative distribution of integers: ``cdf`` (R, S + 1) int32, each row rising strictly from 0 to
2**24, and ``offset`` (R,), the symbol of the first interval of each row. One call may mix rows; symbols are written row
by row, in the given order within a row, so that each row costs one call of the coder.
"""

import constriction
import numpy as np

from glc_toolkit.types import BitstreamError

PRECISION = 24
SLACK = 8  # bytes by which a sound stream may differ from what its symbols are worth
UNPAID = 256  # bytes by which a stream may be shorter than its symbols are worth: zeros at its end are left out
stream = constriction.stream  # pyright: ignore[reportAttributeAccessIssue]


def quantize_pmf(pmf: np.ndarray) -> np.ndarray:
    """Probabilities (R, S) -> cumulative integers (R, S + 1) int32, every symbol at least 2**-24."""
    pmf = np.asarray(pmf, np.float64)
    size = pmf.shape[1]
    freq = 1 + np.floor(pmf / pmf.sum(1, keepdims=True) * (2**PRECISION - size)).astype(np.int64)
    freq[np.arange(len(freq)), freq.argmax(1)] += 2**PRECISION - freq.sum(1)
    return np.concatenate([np.zeros((len(freq), 1), np.int64), freq.cumsum(1)], 1).astype(np.int32)


def _model(row: np.ndarray):
    # constriction adds one to floor(cumulative weight * (2**24 - S) / total); weights of freq - 1 give freq exactly.
    return stream.model.Categorical((np.diff(row) - 1).astype(np.float64), perfect=False)


class Encoder:
    """Collects symbols; :meth:`bytes` gives the stream."""

    def __init__(self):
        self._coder = stream.queue.RangeEncoder()

    def put(self, symbols: np.ndarray, rows: np.ndarray, cdf: np.ndarray, offset: np.ndarray) -> None:
        """Write ``symbols`` (n,) by tables ``rows`` (n,). Every symbol has to lie within its row."""
        for row in np.unique(rows):
            chosen = symbols[rows == row] - offset[row]
            if chosen.min() < 0 or chosen.max() >= cdf.shape[1] - 1:
                raise ValueError(f"symbol outside table {row}, which covers {cdf.shape[1] - 1} from {offset[row]}")
            self._coder.encode(chosen.astype(np.int32), _model(cdf[row]))

    def bytes(self) -> bytes:
        # The decoder reads zeros past the end, so zeros at the end need not be sent, up to what it allows.
        whole = self._coder.get_compressed().astype(">u4").tobytes()
        return whole[: max(len(whole.rstrip(b"\0")), len(whole) - UNPAID + SLACK)]


class Decoder:
    """Reads what :class:`Encoder` wrote, asked in the same order with the same tables.

    ``worth`` lists what the symbols of each call are worth, in bytes. Once they are worth more than the stream has, it
    is damaged: further symbols would come from nothing, and are not read."""

    def __init__(self, data: bytes):
        self.worth: list[float] = []
        self._paid = len(data) + UNPAID
        padded = data + bytes(-len(data) % 4 + 8)
        self._coder = stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))

    def get(self, rows: np.ndarray, cdf: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Symbols (n,) int64 for tables ``rows`` (n,)."""
        symbols = np.empty(len(rows), np.int64)
        for row in np.unique(rows):
            here = rows == row
            try:
                symbols[here] = self._coder.decode(_model(cdf[row]), int(here.sum())) + int(offset[row])
            except AssertionError as error:  # constriction's word for data that no encoder writes
                raise BitstreamError(f"the entropy-coded data is damaged: {error}") from error
        at = symbols - offset[rows]
        width = (cdf[rows, at + 1] - cdf[rows, at]).astype(np.float64)
        self.worth.append(float((PRECISION - np.log2(width)).sum() / 8))
        if sum(self.worth) > self._paid:
            asked = f"symbols worth {sum(self.worth):.0f} bytes are asked of {self._paid - UNPAID}"
            raise BitstreamError(f"the entropy-coded data is damaged or cut short: {asked}")
        return symbols


class CountingDecoder(Decoder):
    """A decoder that also tells how far it has read, by encoding again what it reads: constriction does not say."""

    def __init__(self, data: bytes):
        super().__init__(data)
        self._again = Encoder()

    def get(self, rows: np.ndarray, cdf: np.ndarray, offset: np.ndarray) -> np.ndarray:
        symbols = super().get(rows, cdf, offset)
        self._again.put(symbols, rows, cdf, offset)
        return symbols

    def position(self) -> int:
        """Bytes that the symbols so far take, if the stream ended here."""
        return len(self._again.bytes())


class NoSymbols:
    """A decoder that answers zero: what a picture looks like before any residual is read."""

    def get(self, rows: np.ndarray, cdf: np.ndarray, offset: np.ndarray) -> np.ndarray:
        return np.zeros(len(rows), np.int64)
