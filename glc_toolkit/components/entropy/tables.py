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
        """Raises ``ValueError``, as CompressAI does, where there are none."""
        if not self.tables_ready:
            raise ValueError("the coding tables are empty: call update() on the model after training it")
        self._check_cdf_size()
        self._check_cdf_length()
        self._check_offsets_size()
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
        """One string for each sample of ``inputs`` (B, ...), with tables ``indexes`` of the same shape.

        Raises ``ValueError`` for other shapes, and for symbols beyond the tables: nothing is coded past them.
        """
        if inputs.ndim < 2 or inputs.shape != indexes.shape:
            shapes = f"{tuple(inputs.shape)} and {tuple(indexes.shape)}"
            raise ValueError(f"inputs and indexes have one shape of at least two dimensions, not {shapes}")
        self.tables()
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
        """What :meth:`compress` wrote, dequantized, in the shape of ``indexes``.

        Raises ``ValueError`` for arguments that do not go together; ``means`` may have ones in place of what follows
        the channels.
        """
        if not isinstance(strings, (tuple, list)) or len(strings) != len(indexes) or indexes.ndim < 2:
            raise ValueError(f"strings are a list, one for each sample of indexes, not {strings!r:.80}")
        if means is not None and (
            means.shape[:2] != indexes.shape[:2]
            or any(side not in (1, own) for side, own in zip(means.shape, indexes.shape, strict=True))
        ):
            raise ValueError(f"means of {tuple(means.shape)} do not go with indexes of {tuple(indexes.shape)}")
        self.tables()
        symbols = torch.empty(indexes.shape, dtype=torch.int64, device=indexes.device)
        for sample, string, rows in zip(symbols, strings, indexes, strict=True):
            sample.copy_(self.get(Decoder(string), rows.reshape(-1)).reshape(rows.shape))
        return self.dequantize(symbols, means, dtype)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for name in ("_quantized_cdf", "_offset", "_cdf_length"):
            stored = state_dict.get(prefix + name)
            own = self.get_buffer(name)
            if stored is not None and stored.shape != own.shape:
                setattr(self, name, torch.zeros_like(stored, device=own.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


__all__ = ["PRECISION", "TableCoding"]
