"""What every entropy model here has: integer tables, shipped in the weights file, coded by constriction."""

import numpy as np
import torch
from compressai.entropy_models import EntropyModel
from torch import Tensor

from glc_toolkit.coder import PRECISION, Decoder, Encoder, quantize_pmf
from glc_toolkit.types import SymbolDecoder, SymbolEncoder


class TableCoding(EntropyModel):
    """A ``compressai.entropy_models.EntropyModel``, or a mixin for its subclasses.

    Uses that class's own buffers, with 24-bit tables: ``_quantized_cdf`` (R, S + 1), ``_offset`` (R,),
    ``_cdf_length`` (R,), all filled by ``update()``. Symbols here may be none, one or many; nothing is coded outside
    the tables, so whoever quantizes keeps to their range.
    """

    _quantized_cdf: Tensor
    _offset: Tensor
    _cdf_length: Tensor

    def set_tables(self, pmf: Tensor, offset: Tensor) -> None:
        """Tables from probabilities (R, S) and the first symbol of each row (R,)."""
        cdf = torch.from_numpy(quantize_pmf(pmf.detach().double().cpu().numpy()))
        self._quantized_cdf = cdf.to(pmf.device)
        self._offset = offset.int().to(pmf.device)
        self._cdf_length = torch.full((len(cdf),), cdf.shape[1], dtype=torch.int32, device=pmf.device)

    @property
    def tables_ready(self) -> bool:
        return self._quantized_cdf.numel() > 0

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.tables_ready:
            raise RuntimeError("the coding tables are empty: call update() on the model after training it")
        return self._quantized_cdf.cpu().numpy(), self._offset.cpu().numpy()

    def put(self, encoder: SymbolEncoder, symbols: Tensor, rows: Tensor) -> None:
        """Write integer ``symbols`` (n,) by tables ``rows`` (n,)."""
        encoder.put(symbols.detach().cpu().numpy().astype(np.int64), rows.cpu().numpy(), *self.tables())

    def get(self, decoder: SymbolDecoder, rows: Tensor) -> Tensor:
        """Read one symbol for each of ``rows`` (n,) -> (n,) int64."""
        return torch.from_numpy(decoder.get(rows.cpu().numpy(), *self.tables())).to(rows.device)

    # CompressAI's signatures, for entropy models used on their own. compressai.ans is not used: 1.2.8 crashes on
    # inputs without symbols and corrupts memory on a single one.

    def compress(self, inputs: Tensor, indexes: Tensor, means: Tensor | None = None) -> list[bytes]:
        """One string for each sample of ``inputs`` (B, ...), with tables ``indexes`` of the same shape."""
        symbols = self.quantize(inputs, "symbols", means)
        strings = []
        for sample, rows in zip(symbols, indexes, strict=True):
            encoder = Encoder()
            self.put(encoder, sample.reshape(-1), rows.reshape(-1))
            strings.append(encoder.bytes())
        return strings

    def decompress(
        self, strings: list[bytes], indexes: Tensor, dtype: torch.dtype = torch.float, means: Tensor | None = None
    ) -> Tensor:
        """What :meth:`compress` wrote, dequantized, in the shape of ``indexes``."""
        symbols = [
            self.get(Decoder(s), rows.reshape(-1)).reshape(rows.shape) for s, rows in zip(strings, indexes, strict=True)
        ]
        return self.dequantize(torch.stack(symbols), means, dtype)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for name in ("_quantized_cdf", "_offset", "_cdf_length"):
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.shape != getattr(self, name).shape:
                setattr(self, name, torch.zeros_like(stored, device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *args)


__all__ = ["PRECISION", "TableCoding"]
