"""Which operations have one result only, on any machine: what an entropy decoder may be made of."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

STEPS = 2.0**16
TORCH = Path(torch.__file__).parent

# fmt: off
# Values in other places or shapes.
MOVES = {
    "_local_scalar_dense", "_to_copy", "alias", "arange", "cat", "channel_shuffle", "clone", "constant_pad_nd", "copy",
    "detach", "embedding", "empty", "empty_like", "expand", "fill", "flip", "full", "full_like", "gather", "index",
    "index_put", "index_select", "lift_fresh", "masked_fill", "new_empty", "new_full", "new_ones", "new_zeros", "ones",
    "ones_like", "permute", "pixel_shuffle", "pixel_unshuffle", "reflection_pad2d", "repeat", "replication_pad2d",
    "roll", "scalar_tensor", "select", "slice", "split", "split_with_sizes", "squeeze", "stack", "t", "transpose",
    "unbind", "unfold", "unsqueeze", "view", "where", "zeros", "zeros_like", "_unsafe_view",
}
# One IEEE operation on each element, correctly rounded by every implementation of it; or one of several elements.
ELEMENTWISE = {
    "_prelu_kernel", "abs", "add", "amax", "amin", "bitwise_and", "bitwise_not", "bitwise_or", "bucketize", "ceil",
    "clamp", "clamp_max", "clamp_min", "div", "eq", "floor", "ge", "gt", "hardtanh", "le", "leaky_relu", "lt",
    "max_pool2d_with_indices", "maximum", "minimum", "mul", "ne", "neg", "relu", "round", "rsub", "sgn", "sign", "sqrt",
    "sub", "threshold", "trunc",
}
REPEATS = {"upsample_nearest2d", "_upsample_nearest_exact2d"}  # if check_repeats says so

# Sums of products, which are exact in any order if check_sum says so.
SUMS = {"addcmul", "bmm", "convolution", "mm"}
# What to write instead of the operations that authors try first.
INSTEAD = {
    "relu, leaky_relu, prelu or hardtanh": {
        "elu", "exp", "gelu", "hardsigmoid", "hardswish", "log", "mish", "sigmoid", "silu", "softplus", "tanh",
        "_softmax", "_log_softmax",
    },
    "a product, x * x say": {"pow"},
    "amax or amin": {"max", "min"},
    "no norm, or a learned gain for each channel": {
        "native_batch_norm", "native_group_norm", "native_layer_norm", "var_mean",
        "_native_batch_norm_legit_no_training",
    },
    "a FixedConv, whose weights may be constants": {
        "_adaptive_avg_pool2d", "addmm", "avg_pool2d", "cumsum", "mean", "sum", *SUMS,
    },
    "pixel_shuffle, or nearest upsampling by a whole factor": {
        "_upsample_bilinear2d_aa", "upsample_bicubic2d", "upsample_bilinear2d", *REPEATS,
    },
    "a + w * (b - a)": {"lerp"},
}
# fmt: on


class InexactError(AssertionError):
    """An operation whose result may differ between machines."""


class ExactOnly(TorchDispatchMode):
    """Raises :class:`InexactError` at an operation that is not exact, on floats that decide symbols.

    Floats are float64 wherever there is arithmetic, or float32 between sums; integers may do anything but leave their
    range. ``operations`` are those that were seen.

    Args:
        model: whose module names errors give.
    """

    def __init__(self, model: nn.Module | None = None):
        super().__init__()
        self.operations: set[str] = set()
        self.names = {id(module): name for name, module in model.named_modules()} if model else {}

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        out = op(*args, **(kwargs or {}))
        name = op.overloadpacket.__name__.removesuffix("_")
        self.operations.add(name)
        tensors = [t for t in (*flat(args), *flat(out)) if isinstance(t, Tensor) and t.is_floating_point()]
        if not tensors or name in MOVES:
            return out
        try:
            if name in SUMS:
                check_sum(name, *(t for t in flat(args) if isinstance(t, Tensor)))
            elif name in REPEATS:
                check_repeats(args[0], out)
            elif name not in ELEMENTWISE:
                raise InexactError(f"{name} is not exact")
            for tensor in tensors:
                if tensor.dtype not in (torch.float64, torch.float32):
                    raise InexactError(f"{name} is computed in {tensor.dtype}")
        except InexactError as error:
            advice = next((f"; use {instead}" for instead, names in INSTEAD.items() if name in names), "")
            raise InexactError(f"{error}{self.place()}{advice}") from None
        return out

    def place(self) -> str:
        """Of the operation that runs: the module nearest to it, and the line nearest to it that is not PyTorch's."""
        module = line = ""
        frame = sys._getframe(2)
        while frame and not (module and line):
            owner = frame.f_locals.get("self")
            if not module and isinstance(owner, nn.Module):
                name, kind = self.names.get(id(owner)), type(owner).__name__
                module = f", in {name} ({kind})" if name else f", in {kind}"
            file = Path(frame.f_code.co_filename)
            if not line and TORCH not in file.parents:
                line = f", {'/'.join(file.parts[-2:])}:{frame.f_lineno}"
            frame = frame.f_back
        return module + line


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


def check_repeats(x: Tensor, out: Tensor) -> None:
    """Raises :class:`InexactError` unless ``out`` has each value of ``x`` (B, C, h, w) a whole number of times."""
    (height, down), (width, right) = (divmod(out.shape[i], x.shape[i]) for i in (2, 3))
    repeated = x.repeat_interleave(max(height, 1), 2).repeat_interleave(max(width, 1), 3)
    if down or right or not torch.equal(out, repeated):
        raise InexactError("nearest upsampling by other than a whole factor is not exact")
