"""What a model is ready for: training or coding, in which precision, and with tables of which weights.

train()          float32 throughout
eval()           the networks that decode symbols run in fixed point; no weight is edited
update()         coding tables of the weights as they are now
set_precision()  the backbone in bf16 or int8, for coding alone
"""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from glc_toolkit.components.entropy.tables import TableCoding
from glc_toolkit.components.fixed_point import to_fixed_point, to_floating_point
from glc_toolkit.components.int8 import has_int8, to_int8
from glc_toolkit.models.identity import Identity, without_wrapper
from glc_toolkit.models.seal import Seal
from glc_toolkit.types import HasTables, SideInformation

PRECISIONS = ("float32", "bf16", "int8", "auto")
Model = TypeVar("Model", bound="Modes")


class Modes(Identity):
    """Training, evaluation, precision, and whether the coding tables hold."""

    hyper: SideInformation
    entropy_model: HasTables
    seals: tuple[Seal, Seal]  #: of the weights that the tables are of: a decoder's, an encoder's

    @property
    def exact(self) -> list[nn.Module]:
        """The modules that decode symbols. They run in fixed point in evaluation."""
        return [*self.hyper.exact, self.get_submodule("context")]

    @property
    def with_tables(self) -> list[HasTables]:
        """The components that have coding tables."""
        return [self.hyper, self.entropy_model]

    def train(self: Model, mode: bool = True) -> Model:
        """As in PyTorch; evaluation also moves the networks of the entropy decoder to fixed point (see
        :mod:`glc_toolkit.components.fixed_point`)."""
        if mode:
            self._only_float32("be trained")
        super().train(mode)
        for module in self.exact:
            (to_floating_point if mode else to_fixed_point)(module)
        return self

    def _apply(self: Model, fn: Callable, recurse: bool = True) -> Model:
        """What ``to``, ``float``, ``half`` and the like do. In evaluation no cast may take the entropy decoder out of
        fixed point."""

        def keeps(dtype: torch.dtype) -> bool:
            return fn(torch.zeros(1, dtype=dtype)).dtype == dtype

        if self.training:
            return super()._apply(fn, recurse)
        if not keeps(torch.float32) or (self.precision != "float32" and not keeps(torch.bfloat16)):
            raise ValueError(
                "a model for coding keeps its precision, which zoo.load(..., precision=) and "
                "set_precision choose; call train() before a cast"
            )
        if keeps(torch.float64):
            return super()._apply(fn, recurse)
        for part in self.modules():  # an image model within a video model, too
            for module in part.exact if isinstance(part, Modes) else ():
                to_floating_point(module)
        return super()._apply(fn, recurse).eval()

    def update(self, scale_table: Tensor | None = None, force: bool = False, update_quantiles: bool = False) -> bool:
        """Fill the coding tables of every entropy model after training; True if any was filled.

        Fills them anew if weights have changed. No weight is edited."""
        if not self.is_sealed() or not self.is_sealed(encoder=True):
            force = True
            for module in () if self.training else self.exact:
                to_floating_point(module)  # where weights are float32, as in a file
                to_fixed_point(module)
        updated = any([part.update(force=force) for part in self.with_tables])
        if updated:
            self.seal()
        return updated

    def load_state_dict(self, state_dict: dict, strict: bool = True, assign: bool = False):
        """As in PyTorch, but that every entropy model sizes its own tables, and that the names of ``DataParallel`` are
        taken, too."""
        keys = nn.Module.load_state_dict(self, without_wrapper(state_dict), strict=strict, assign=assign)
        self.train(self.training)  # the integers of evaluation are made of the weights
        for part in self.modules():
            if isinstance(part, Modes):  # an image model within a video model, too
                part.seal()
        return keys

    def check_ready(self, encoder: bool = False) -> None:
        """Raise ``RuntimeError`` if bytes are asked of a model in training, or with tables of other weights.

        ``encoder``: the networks of the hyper module that only an encoder runs have to be those of the tables, too.
        """
        if self.training:
            raise RuntimeError("call eval() before coding: training and coding run in different precision")
        if not self.is_sealed(encoder):
            raise RuntimeError("call update() before coding: the coding tables are not of the weights as they are now")

    def is_sealed(self, encoder: bool = False) -> bool:
        """Whether the tables, where there are any, are of the weights as they are now."""
        return self.seals[encoder].holds(self.deciding(encoder))

    def seal(self) -> None:
        """Declare that the tables are of the weights as they are now."""
        for encoder in (False, True):
            self.seals[encoder].close(self.deciding(encoder))

    def deciding(self, encoder: bool) -> dict[str, Tensor]:
        """The tensors that symbols are decoded with; for an encoder, all those of the hyper module."""
        slots = ("hyper",) if encoder else [slot for slot in self.slots if slot != "backbone"]
        left_out = () if encoder else self.encoder_only
        tensors = {
            f"{slot}.{name}": tensor
            for slot in slots
            for name, tensor in self.get_submodule(slot).state_dict(keep_vars=True).items()
        }
        return {n: t for n, t in tensors.items() if isinstance(t, Tensor) and not n.startswith(left_out)}

    @property
    def is_ready(self) -> bool:
        """Whether the model could code in evaluation: there are tables, and they are of the weights as they are now."""
        tables = [part.tables_ready for part in self.modules() if isinstance(part, TableCoding)]
        return all(tables) and all(part.is_sealed() for part in self.modules() if isinstance(part, Modes))

    def in_precision(self, half: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """One half of the backbone, in the precision and memory layout of this model."""
        if self.precision == "float32":
            return half
        return lambda t: half(t.to(torch.bfloat16, memory_format=torch.channels_last)).float()

    def set_precision(self: Model, precision: str) -> Model:
        """Run the backbone in ``"float32"`` or, faster and for coding alone, in ``"bf16"`` or ``"int8"``.

        ``"int8"`` is bf16 with residual blocks and upsampling in 8-bit integers (:mod:`glc_toolkit.components.int8`).
        ``"auto"`` is the fastest that this processor has. The entropy path stays exact: every precision reads the same
        symbols from a stream. The decoded pictures differ by rounding, and so may the streams of one picture.

        Raises ``ValueError`` for the way back to float32, since the weights are rounded, and for ``"int8"`` on a
        processor without it.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
        device = next(self.parameters()).device
        if precision == "auto":
            precision = "int8" if has_int8(device) else "bf16" if has_bf16(device) else "float32"
        if precision == "int8" and not has_int8(device):
            raise ValueError(f"int8 needs a processor with VNNI, not this {device.type}; 'auto' takes what there is")
        if precision != self.precision:
            self._only_float32("go back to float32")
            self._fingerprint = self.fingerprint()
            backbone = self.get_submodule("backbone").to(torch.bfloat16).to(memory_format=torch.channels_last)
            if precision == "int8":
                to_int8(backbone)
            self.precision = precision
        return self

    def plain(self: Model) -> Model:
        """A copy whose networks all run in float32: for comparison, and for runtimes that have no float64.

        Only the machine that wrote its streams can be sure to read them.
        """
        self._only_float32("be copied in float32")
        model = copy.deepcopy(self)
        for part in model.modules():  # an image model within a video model, too
            for module in part.exact if isinstance(part, Modes) else ():
                to_floating_point(module)
        return model

    def _only_float32(self, wish: str) -> None:
        if self.precision != "float32":
            raise ValueError(f"a model in {self.precision} is for coding alone and cannot {wish}; load it anew")


def has_bf16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bf16 numbers faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
