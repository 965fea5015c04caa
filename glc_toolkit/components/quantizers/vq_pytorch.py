"""Quantizers of vector-quantize-pytorch behind one face.

Everything is called channel-last as (B, h * w, C), the one layout that all its classes share.
"""

import math
from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from glc_toolkit.types import Quantized


def library():
    """The package, imported late: it brings einx, sympy and ``torch._dynamo``, two seconds in all."""
    import vector_quantize_pytorch

    return vector_quantize_pytorch


class VQAdapter(nn.Module):
    """One quantizer of vector-quantize-pytorch as a glc-toolkit quantizer.

    Args:
        quantizer: the library's module.
        codebook_size: codes of one codebook.
        lookup: the module's own map from indices to values.
        num_codebooks: indices a position.
    """

    def __init__(self, quantizer: nn.Module, codebook_size: int, lookup: Callable, num_codebooks: int = 1):
        super().__init__()
        self.quantizer = quantizer
        self.codebook_size = codebook_size
        self.num_codebooks = num_codebooks
        self._lookup = lookup

    def forward(self, l: Tensor) -> Quantized:
        height = l.shape[2]
        # codebook statistics and distances in float32, whatever the surrounding autocast does
        with torch.autocast(l.device.type, enabled=False):
            values, indices, *loss = self.quantizer(rearrange(l.float(), "b c h w -> b (h w) c"))
        indices = indices.reshape(*values.shape[:2], -1)
        if indices.shape[2] != self.num_codebooks:
            raise ValueError(
                f"{type(self.quantizer).__name__} gives {indices.shape[2]} indices a position, not "
                f"{self.num_codebooks}: leave out arguments that give it more heads or codebooks"
            )
        return Quantized(
            rearrange(values, "b (h w) c -> b c h w", h=height).to(l.dtype),
            rearrange(indices, "b (h w) g -> b g h w", h=height).long(),
            loss[0].sum() if loss else l.new_zeros(()),
        )

    def lookup(self, indices: Tensor) -> Tensor:
        flat = rearrange(indices, "b g h w -> b (h w) g")
        codes = self._lookup(flat.squeeze(-1) if self.num_codebooks == 1 else flat)
        return rearrange(codes, "b (h w) c -> b c h w", h=indices.shape[2])


def vector_quantize(channels: int, codebook_size: int = 1024, **kwargs) -> VQAdapter:
    """``VectorQuantize``: exponential moving averages, dead codes replaced (Razavi et al., 2019)."""
    m = library().VectorQuantize(dim=channels, codebook_size=codebook_size, **kwargs)
    return VQAdapter(m, codebook_size, m.get_output_from_indices)


def fsq(channels: int, levels: tuple[int, ...] = (8, 5, 5, 5), **kwargs) -> VQAdapter:
    """Finite scalar quantization (Mentzer et al., 2023): a fixed grid, nothing to collapse."""
    m = library().FSQ(levels=list(levels), dim=channels, **kwargs)
    return VQAdapter(m, math.prod(levels), m.indices_to_codes)


def lfq(channels: int, codebook_size: int = 1024, **kwargs) -> VQAdapter:
    """Lookup-free quantization (Yu et al., 2023): the signs are the code."""
    m = library().LFQ(dim=channels, codebook_size=codebook_size, **kwargs)
    return VQAdapter(m, codebook_size, m.indices_to_codes)


def sim_vq(channels: int, codebook_size: int = 1024, **kwargs) -> VQAdapter:
    """SimVQ (Zhu et al., 2024): a frozen codebook seen through one learned linear map."""
    m = library().SimVQ(dim=channels, codebook_size=codebook_size, **kwargs)
    return VQAdapter(m, codebook_size, m.indices_to_codes)


def residual_vq(channels: int, codebook_size: int = 256, num_quantizers: int = 2, **kwargs) -> VQAdapter:
    """Residual VQ (Zeghidour et al., 2021): each codebook codes what the one before left over."""
    m = library().ResidualVQ(dim=channels, codebook_size=codebook_size, num_quantizers=num_quantizers, **kwargs)
    return VQAdapter(m, codebook_size, m.get_output_from_indices, num_quantizers)
