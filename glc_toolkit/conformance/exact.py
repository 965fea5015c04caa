"""Which operations have one result only, on any machine: what an entropy decoder may be made of."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

STEPS = 2.0**16

# fmt: off
# Values in other places or shapes.
MOVES = {
    "_local_scalar_dense", "_to_copy", "alias", "arange", "cat", "clone", "constant_pad_nd", "copy", "detach",
    "empty", "empty_like",
    "expand", "flip", "full", "full_like", "index", "index_put", "lift_fresh", "new_empty", "new_full", "new_ones",
    "new_zeros", "ones", "ones_like", "permute", "pixel_shuffle", "repeat", "scalar_tensor", "select", "slice",
    "split", "split_with_sizes", "squeeze", "stack", "t", "transpose", "unbind", "unfold", "unsqueeze", "view", "where",
    "zeros", "zeros_like", "_unsafe_view",
}
# One IEEE operation on each element, correctly rounded by every implementation of it; or one of several elements.
ELEMENTWISE = {
    "abs", "add", "amax", "amin", "bitwise_and", "bitwise_not", "bitwise_or", "bucketize", "ceil", "clamp", "clamp_max",
    "clamp_min", "div", "eq", "floor", "ge", "gt", "le", "leaky_relu", "lt", "maximum", "minimum", "mul", "ne",
    "neg", "round", "rsub", "sqrt", "sub",
}
# fmt: on

# Sums of products, which are exact in any order if check_sum says so.
SUMS = {"addcmul", "bmm", "convolution", "mm"}


class InexactError(AssertionError):
    """An operation whose result may differ between machines."""


class ExactOnly(TorchDispatchMode):
    """Raises :class:`InexactError` at an operation that is not exact, on floats that decide symbols.

    Floats are float64 wherever there is arithmetic, or float32 between sums; integers may do anything but leave their
    range. ``operations`` are those that were seen.
    """

    def __init__(self):
        super().__init__()
        self.operations: set[str] = set()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        out = op(*args, **(kwargs or {}))
        name = op.overloadpacket.__name__.removesuffix("_")
        self.operations.add(name)
        tensors = [t for t in (*flat(args), *flat(out)) if isinstance(t, Tensor) and t.is_floating_point()]
        if not tensors or name in MOVES:
            return out
        if name in SUMS:
            check_sum(name, *(t for t in flat(args) if isinstance(t, Tensor)))
        elif name not in ELEMENTWISE:
            raise InexactError(f"{op} is not exact")
        for tensor in tensors:
            if tensor.dtype not in (torch.float64, torch.float32):
                raise InexactError(f"{op} is computed in {tensor.dtype}")
        return out


def flat(value):
    """Everything in nested lists and tuples."""
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from flat(inner)
    else:
        yield value


def check_sum(name: str, *factors: Tensor) -> None:
    """Raises :class:`InexactError` unless no sum can round: of bytes in float32 ("mm"), else of multiples of 2**-16 in
    float64."""
    steps, most, dtype = (1.0, 2.0**24, torch.float32) if name == "mm" else (STEPS, 2.0**21, torch.float64)
    if any(factor.dtype != dtype for factor in factors):
        raise InexactError(f"{name} is not computed in {dtype}")
    addends, products = (factors[:1], factors[1:]) if name == "addcmul" else (factors[2:], factors[:2])
    if any(not torch.equal(torch.round(t * steps), t * steps) for t in products):
        raise InexactError(f"{name} of numbers that are no multiples of {1 / steps:g}")
    x, weight = (t.abs().max() for t in products)
    terms = {"convolution": products[1][0].numel(), "bmm": products[0].shape[-1], "mm": products[0].shape[-1]}.get(
        name, 9
    )
    bound = x * weight * terms + max((t.abs().max() for t in addends), default=0)
    if not bound <= most:
        raise InexactError(f"{name} whose sums may reach {float(bound):.3g}; those below {most:.3g} are exact")
