"""Arithmetic that gives the same bits on every machine: what an entropy decoder is made of.

In evaluation its networks run in float64, and their widest parts in float32. An elementwise operation has one result in
IEEE arithmetic. A sum of products in floats would depend on its order, so these sums are made of integers:

- An ordinary convolution takes the channels of each position as 16-bit integers times a power of two that fits them. It
  takes its weights in the same way, all with one power of two. The sums of products fit 32 bits.
- A depth-wise convolution takes multiples of 2**-16. Products are multiples of 2**-32, and float64 holds their sums,
  below 2**21, exactly.

Source: dynamic quantization by rows, as in LLM.int8() (Dettmers et al., NeurIPS 2022), with two digits instead of one.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 2.0**16  # of the grid, in one
LARGEST = 2.0**11  # that a convolution takes
LARGEST_SUM = 2.0**21  # 2**53 steps of 2**-32
ROUNDING = 1.5 * 2.0**36  # where float64 has steps of 2**-16
WHOLE = {torch.float64: (1.5 * 2.0**52, torch.int64), torch.float32: (1.5 * 2.0**23, torch.int32)}  # steps of one
SMALLEST = 2.0**-17  # the largest number of a row that still gets all 16 bits is no less than this
HEADROOM = 1 + 2.0**-7  # for digits of a byte, the higher of which is rounded to nearest
MOST = 32514  # 2**15 without the headroom
MOST_INPUTS = 512  # whose sums stay below 2**31; with more, weights have a bit less for each doubling
AT_ONCE = 2**20  # numbers that stay in a processor's cache
EXACT = (nn.PReLU, nn.Embedding)  # PyTorch's layers with weights that compute elementwise, or not at all


def fixed(x: Tensor) -> Tensor:
    """The nearest multiple of 2**-16 (half to even) within +- 2**11."""
    if x.dtype != torch.float64:
        return torch.round(x * STEPS).clamp(-LARGEST * STEPS, LARGEST * STEPS) / STEPS
    return x.clamp(-LARGEST, LARGEST).add_(ROUNDING).sub_(ROUNDING)


@torch.no_grad()
def to_fixed_point(network: nn.Module) -> None:
    """Take ``network`` to float64 and make what its exact layers multiply by. No weight changes its value.

    Raises ValueError if there is a layer whose sums are not exact, or if weights allow sums beyond the range.
    """
    network.double()
    for name, module in network.named_modules():
        kind = type(module).__name__
        name = f"{name} ({kind})" if name else kind
        weights = list(module.parameters(recurse=False))
        if weights and not (isinstance(module, EXACT) or getattr(module, "fixed_point", False)):
            raise ValueError(
                f"{name} is not exact in an entropy decoder: use FixedConv for sums of products; a module of your own "
                "whose arithmetic is elementwise says fixed_point = True"
            )
        if isinstance(module, FixedConv):
            module.prepare(name)
            module.exact = True


def to_floating_point(network: nn.Module) -> None:
    """Take ``network`` to float32, to be trained or compared."""
    for module in network.modules():
        if isinstance(module, FixedConv):
            module.exact = False
    network.float()


def integers(rows: Tensor) -> tuple[Tensor, Tensor]:
    """``rows`` (N, K) as whole numbers of at most 16 bits -> those, int16, and the power of two (N, 1) that is one."""
    largest = torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True)).double()
    exponent = (largest * HEADROOM).clamp_(SMALLEST, LARGEST).view(torch.int64) >> 52
    unit, inverse = ((e << 52).view(torch.float64) for e in (exponent - 14, 2060 - exponent))
    to_whole, as_integers = WHOLE[rows.dtype]  # the sum is rounded and has the integer in its last bits
    whole = (rows * inverse.to(rows.dtype)).clamp_(-MOST, MOST).add_(to_whole)
    return whole.view(as_integers).to(torch.int16), unit


def digits(whole: Tensor) -> Tensor:
    """16-bit integers (N, K) as 256 * high + low -> (N, 2, K) int8."""
    both = torch.empty(len(whole), 2, whole.shape[1], dtype=torch.int8, device=whole.device)
    both[:, 1] = whole  # the low byte, as a signed one
    both[:, 0] = (whole + 128).bitwise_right_shift_(8)
    return both


class FixedConv(nn.Conv2d):
    """A convolution that an entropy decoder may run: exact after :func:`to_fixed_point`, before that an ordinary one.

    With a square kernel, a stride of one, zeros around an output as large as its input, and a bias; either depth-wise
    or of all channels with all. Raises ValueError for any other. An exact one gives float64, or what ``output`` says.
    """

    fixed_point = True
    bias: Tensor
    high: Tensor  #: high digits of the weights, (kernel area * outputs, inputs) int8
    crossed: Tensor  #: low digits and high ones beside each other, for what is multiplied by high and low ones
    unit: Tensor  #: what one of a sum of products stands for, but for the power of two of the inputs
    taps: Tensor  #: weights of a depth-wise one on the grid, (kernel area, channels, 1, 1) float64
    offset: Tensor  #: its bias on the grid, (channels, 1, 1) float64

    def __init__(self, *args, output: torch.dtype = torch.float64, **kwargs):
        super().__init__(*args, **kwargs)
        side = self.kernel_size[0]
        sizes = (self.kernel_size, self.padding, self.stride, self.dilation)
        if sizes != ((side, side), (side // 2, side // 2), (1, 1), (1, 1)) or side % 2 == 0:
            raise ValueError(
                "a convolution in an entropy decoder has a square kernel of odd side, a padding of half of it, and a "
                f"stride and a dilation of one, not {self}"
            )
        if self.padding_mode != "zeros" or self.bias is None:
            raise ValueError(f"a convolution in an entropy decoder pads with zeros and has a bias, not {self}")
        if self.groups > 1 and not self.groups == self.in_channels == self.out_channels:
            raise ValueError(f"a convolution in an entropy decoder is depth-wise or has one group, not {self}")
        self.output = output
        self.exact = False
        for name in ("high", "crossed", "unit", "taps", "offset"):
            self.register_buffer(name, None, persistent=False)

    def prepare(self, name: str) -> None:
        """What :meth:`forward` multiplies by. Raises ValueError if a sum could leave the exact range."""
        if self.groups > 1:
            weight, bias = (torch.round(parameter * STEPS) / STEPS for parameter in (self.weight, self.bias))
            largest = (LARGEST * weight.abs().sum((1, 2, 3)) + bias.abs()).max()
            if not largest < LARGEST_SUM:
                raise ValueError(
                    f"{name}: its weights allow sums of {largest:.3g}, "
                    f"of which only those below {LARGEST_SUM:.3g} are exact"
                )
            self.taps = weight.permute(2, 3, 0, 1).reshape(-1, self.out_channels, 1, 1)
            self.offset = bias[:, None, None]
            return
        if not self.weight.abs().max() <= LARGEST:
            raise ValueError(f"{name}: its weights reach {self.weight.abs().max():.3g}, and {LARGEST:g} are exact")
        whole, unit = integers(self.weight.permute(2, 3, 0, 1).reshape(1, -1))
        spare = 2 ** ((self.in_channels - 1) // MOST_INPUTS).bit_length()
        both = digits(torch.round(whole.double() / spare).to(torch.int16).reshape(-1, self.in_channels))
        self.high, self.crossed = both[:, 0].contiguous(), both.flip(1).flatten(1)
        self.unit = 256 * spare * unit

    def _apply(self, fn: Callable, recurse: bool = True) -> "FixedConv":
        """What ``to`` and the like do. A cast would leave the integers what they are and change all around them."""
        if self.exact and fn(torch.zeros(1, dtype=torch.float64)).dtype != torch.float64:
            raise ValueError("a layer of an entropy decoder keeps float64; call train() on the model before a cast")
        return super()._apply(fn, recurse)

    def forward(self, x: Tensor) -> Tensor:
        if not self.exact:
            return super().forward(x)
        return self.depthwise(fixed(x)) if self.groups > 1 else self.dense(x)

    def depthwise(self, x: Tensor) -> Tensor:
        """Shifted products; PyTorch's own takes float64 one channel at a time."""
        side = self.kernel_size[0]
        height, width = x.shape[-2:]
        shifted = F.pad(x, (side // 2,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # (B, C, side, side, H, W)
        parts = [part for row in shifted.unbind(2) for part in row.unbind(2)]
        out = torch.addcmul(self.offset, self.taps[0], parts[0])
        for tap, part in zip(self.taps[1:], parts[1:], strict=True):
            out.addcmul_(tap, part)
        return out

    def dense(self, x: Tensor) -> Tensor:
        """The products of every tap of the kernel, added in order of its rows, then columns."""
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels).split(max(1, AT_ONCE // len(self.high)))
        side, outputs = self.kernel_size[0], self.out_channels
        bias = (self.bias if side == 1 else torch.zeros_like(self.bias[0])).to(self.output)
        parts = [self.products(part, bias) for part in rows]
        taps = (parts[0] if len(parts) == 1 else torch.cat(parts)).view(batch, height, width, -1)
        if side > 1:
            canvas = taps.new_zeros(batch, height + side - 1, width + side - 1, outputs)
            for tap, part in enumerate(taps.split(outputs, 3)):
                i, j = side - 1 - tap // side, side - 1 - tap % side
                canvas[:, i : i + height, j : j + width] += part
            taps = canvas[:, side // 2 : side // 2 + height, side // 2 : side // 2 + width] + self.bias
        return taps.permute(0, 3, 1, 2)

    def products(self, rows: Tensor, bias: Tensor) -> Tensor:
        """``rows`` (N, inputs) -> (N, kernel area * outputs), plus ``bias``. Products of two low digits are left out:
        they are smaller than the rounding to integers."""
        whole, unit = integers(rows)
        both = digits(whole)
        high, both = both[:, 0], both.flatten(1)
        sums = products_of_bytes(both, self.crossed.t()).add_(products_of_bytes(high, self.high.t()), alpha=256)
        return sums.to(self.output).mul_((unit * self.unit).to(self.output)).add_(bias)


def products_of_bytes(rows: Tensor, columns: Tensor) -> Tensor:
    """int8 (N, K) @ (K, M) -> int32, by the fastest way that is exact here."""
    if torch.compiler.is_compiling():
        return in_a_graph(rows, columns)
    return exact_way(rows.device.type, *columns.shape)(rows, columns)


@torch.library.custom_op("glc_toolkit::products_of_bytes", mutates_args=())
def in_a_graph(rows: Tensor, columns: Tensor) -> Tensor:
    """:func:`products_of_bytes` as one operation, which a compiler neither looks into nor changes."""
    return exact_way(rows.device.type, *columns.shape)(rows, columns)


@in_a_graph.register_fake
def _(rows: Tensor, columns: Tensor) -> Tensor:
    return rows.new_empty(len(rows), columns.shape[1], dtype=torch.int32)


@cache
def exact_way(device: str, inputs: int, outputs: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Raises ``RuntimeError`` if there is none: better no picture than another one."""
    for way in (in_int8, in_float32, in_float64):
        if is_possible(way, device, inputs) and is_exact(way, device, inputs, outputs):
            return way
    raise RuntimeError(f"no product of {inputs} by {outputs} bytes is exact on this {device}: nothing can be decoded")


def in_int8(rows: Tensor, columns: Tensor) -> Tensor:
    """By the processor's instructions for bytes. Where oneDNN may not use them (``ONEDNN_MAX_CPU_ISA``), older ones
    saturate."""
    return torch._int_mm(rows, columns)


def in_float32(rows: Tensor, columns: Tensor) -> Tensor:
    """float32 holds the sums of 1024 at a time, also where its factors lose bits for speed (TF32, bfloat16), as bytes
    have few; autocast would take them from the sums, too."""
    parts = zip(rows.split(1024, 1), columns.split(1024, 0), strict=True)
    with torch.autocast(rows.device.type, enabled=False):
        sums = [(a.float() @ b.float()).to(torch.int32) for a, b in parts]
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(0, dtype=torch.int32)


def in_float64(rows: Tensor, columns: Tensor) -> Tensor:
    return (rows.double() @ columns.double()).to(torch.int32)


def is_possible(way: Callable, device: str, inputs: int) -> bool:
    """Whether ``way`` runs here. With K = 1, PyTorch's product of bytes may write nothing (pytorch/pytorch#195066)."""
    return way is not in_int8 or (device == "cpu" and inputs > 1 and torch.cpu._is_vnni_supported())


def is_exact(way: Callable[[Tensor, Tensor], Tensor], device: str, inputs: int, outputs: int) -> bool:
    """Whether ``way`` gives the sums of int64, for one row and for many, of the largest and smallest bytes, of both in
    turns, and of random ones."""
    dice = np.random.default_rng(0)
    rows, columns = (dice.integers(-128, 128, (count, inputs), np.int8) for count in (33, outputs))
    extremes = [np.resize(pattern, inputs) for pattern in ((127,), (-128,), (127, -128), (-128, 127))]
    rows[: len(extremes)] = extremes
    looked_at = np.unique(np.r_[:8, outputs - 8 : outputs].clip(0, outputs - 1))  # int64 is slow
    for first in range(0, len(extremes), outputs):  # of a single column, one after another
        some = extremes[first : first + outputs]
        columns[: len(some)] = some
        expected = torch.from_numpy(rows.astype(np.int64) @ columns[looked_at].astype(np.int64).T)
        left, right = torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device).t()
        sums = (way(left[:count], right).cpu()[:, looked_at] for count in (1, len(rows)))
        if not all(torch.equal(got.long(), expected[: len(got)]) for got in sums):
            return False
    return True
