"""What the image and the video model share: how a latent is coded in passes, levels of quality, and their state.

A model has the slots ``context`` and ``entropy_model``, and a ``hyper`` whose parameters [step | scales | means] every
pass starts from:

    y / step, in passes: residual = y / step - means, symbols = round(residual) under N(0, scales)
    y_hat = (symbols + means) * step
"""

import copy
import json
import os
import re
from collections.abc import Callable
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from compressai.models import CompressionModel
from compressai.ops import LowerBound
from torch import Tensor, nn

from glc_toolkit import registry
from glc_toolkit.coder import CountingDecoder, Decoder, Encoder, NoSymbols
from glc_toolkit.components.entropy.tables import TableCoding
from glc_toolkit.components.fixed_point import fixed, to_fixed_point, to_floating_point
from glc_toolkit.components.int8 import has_int8, to_int8
from glc_toolkit.facts import Facts
from glc_toolkit.models.seal import Seal, digest
from glc_toolkit.models.tiles import tiled
from glc_toolkit.types import BitstreamError, ModelFileError, PictureError, ResidualModel, Trait, trait

COMMON = ("model", "name", "channels", "levels", "default_quality")  # keys of a config, besides those of components
PRECISIONS = ("float32", "bf16", "int8", "auto")
ZEROS = bytes(2**20)  # a stream that is longer than any symbols of one pixel are worth
ARITHMETIC = b"16-bit integers by position"  # of the entropy networks: another would read other symbols


class NoQuantiles(nn.Module):
    """An empty parameter of the name that CompressAI's loops give an optimizer of its own, which takes no empty list.

    It is of no state dict: a model without an ``EntropyBottleneck`` has nothing there to learn.
    """

    def __init__(self):
        super().__init__()
        self.quantiles = nn.Parameter(torch.empty(0))

    def _save_to_state_dict(self, *args):
        pass

    def _load_from_state_dict(self, *args):
        pass


class GLCModel(CompressionModel):
    """A codec made of registry components; ``quality`` is a float in [0, levels - 1] everywhere, 0 the lowest rate,
    and ``None`` is ``default_quality``.

    Args:
        config: what rebuilds the model.
        slots: the keys of it that name a component.
        more: other keys that this kind of model knows.

    Raises ``ValueError`` for a config that lacks something, or has what no model of this kind knows.
    """

    # components of the registry
    backbone: Any
    transform: Any
    hyper: Any
    context: Any
    entropy_model: Any
    downsampling_factor: Any  # sides of a picture are padded to multiples of this; an int

    def __init__(self, config: dict, slots: tuple[str, ...], more: tuple[str, ...] = ()):
        super().__init__()
        missing = [key for key in (*slots, "channels") if key not in config]
        if missing:
            raise ValueError(f"the model config lacks {', '.join(missing)}")
        if unknown := set(config) - {*COMMON, *slots, *more}:
            raise ValueError(f"the model config has {', '.join(sorted(unknown))}, of which nothing is known here")
        self.config = config
        self.slots = slots
        self.levels = config.get("levels", 4)
        self.default_quality = float(config.get("default_quality", (self.levels - 1) / 2))
        if not 0 <= self.default_quality <= self.levels - 1:
            raise ValueError(f"default_quality has to be between 0 and {self.levels - 1}, not {self.default_quality:g}")
        self.step_bound = LowerBound(0.5)
        self.auxiliary = NoQuantiles()
        self.precision = "float32"
        self.seals = Seal(), Seal()  # of the weights that the tables are of: a decoder's, an encoder's

    def check_parts(self) -> None:
        """Raise ``ValueError`` for components that do not go with this model."""
        name = self.config["entropy_model"]["name"]
        registry.check(self.entropy_model, ResidualModel, f"as entropy model of y, {name!r}")
        if self.transform.levels != self.levels:
            raise ValueError(f"the transform has {self.transform.levels} levels, the model {self.levels}")

    # -- passes -------------------------------------------------------------------------------------------------

    def estimate(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Quantize ``y`` (B, C, h, w) without writing bytes -> ``y_hat`` and the likelihood of each symbol.

        Gradients of ``y_hat`` = symbols + means go to ``y``, straight through, and to the means, for which the symbols
        are constants: where a symbol is zero, and most are, the mean is all that a decoder sees.
        """
        step, scales, means = self.split(params)
        all_scales, all_residuals = torch.zeros_like(means), torch.zeros_like(means)

        def quantize(mask: Tensor, scales: Tensor, means: Tensor) -> Tensor:
            nonlocal all_scales, all_residuals
            symbols = self.entropy_model.quantize_residual(y / step - means.detach(), scales) * mask
            residual = (y / step - means) * mask if self.training else symbols
            all_scales, all_residuals = all_scales + scales * mask, all_residuals + residual
            return symbols

        y_hat = self.passes(params, scales, means, quantize) * step
        return y_hat, self.entropy_model.likelihood(all_residuals, all_scales)

    def write(self, encoder: Encoder, y: Tensor, params: Tensor) -> Tensor:
        """Code one sample's ``y`` -> the ``y_hat`` that :meth:`read` will give."""
        step, scales, means = self.split(params)
        y = y.to(params.dtype) / step

        def put(mask: Tensor, scales: Tensor, means: Tensor) -> Tensor:
            symbols = self.entropy_model.quantize_residual(y - means, scales) * mask
            rows = self.entropy_model.rows(scales)
            coded = mask & (rows >= 0)
            self.entropy_model.put(encoder, symbols[coded], rows[coded])
            return symbols

        return self.passes(params, scales, means, put) * step

    def read(self, decoder: Decoder | NoSymbols, params: Tensor) -> Tensor:
        """``y_hat`` (1, C, h, w), the same bits as in :meth:`write`."""
        step, scales, means = self.split(params)

        def get(mask: Tensor, scales: Tensor, means: Tensor) -> Tensor:
            rows = self.entropy_model.rows(scales)
            coded = mask & (rows >= 0)
            symbols = torch.zeros_like(means)
            symbols[coded] = self.entropy_model.get(decoder, rows[coded]).to(symbols.dtype)
            return symbols

        return self.passes(params, scales, means, get) * step

    def split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``params`` -> ``step``, ``scales``, ``means``."""
        step, scales, means = self.on_grid(params).chunk(3, 1)
        return self.step_bound(step), scales, means

    def on_grid(self, parameters: Tensor) -> Tensor:
        """In evaluation, entropy parameters on the grid that the fixed-point networks work on."""
        return parameters if self.training else fixed(parameters)

    def passes(self, params: Tensor, scales: Tensor, means: Tensor, code: Callable) -> Tensor:
        """Run the coding order; ``code(mask, scales, means)`` gives the symbols of a pass, zero outside its mask."""
        reduced = self.context.reduce(params)
        y_hat = torch.zeros_like(means)
        for k, mask in enumerate(self.context.masks(means)):
            if k > 0:
                scales, means = map(self.on_grid, self.context(k, y_hat, reduced))
            y_hat = y_hat + code(mask, scales, means) + means * mask
        return y_hat

    # -- sizes --------------------------------------------------------------------------------------------------

    def check_pictures(self, x: Tensor) -> Tensor:
        """``x`` (B, 3, H, W) in [0, 1] as float32. Raises :class:`PictureError` for anything else."""
        if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape:
            raise PictureError(f"x has to be (B, 3, H, W), not {tuple(x.shape)}")
        if x.is_meta:
            raise PictureError("x is on the device meta, and has no values")
        if not x.is_floating_point():
            raise PictureError(f"x has to be floats in [0, 1], not {x.dtype}")
        low, high = map(float, x.detach().aminmax())
        if not (low >= 0 and high <= 1):  # nor with NaN
            raise PictureError(f"x has to lie in [0, 1], not from {low:g} to {high:g}")
        return x.float()

    def pad(self, x: Tensor) -> Tensor:
        """Repeat the last row and column up to a multiple of ``downsampling_factor``."""
        height, width = x.shape[-2:]
        factor = self.downsampling_factor
        return F.pad(x, (0, -width % factor, 0, -height % factor), mode="replicate")

    # -- backbone -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def analysis(self, x: Tensor) -> Tensor:
        """``x`` (B, 3, H, W) of any size -> ``l`` of the padded picture."""
        return self.backbone_analysis(self.pad(x.float()))

    def picture(self, l_hat: Tensor, shape: tuple[int, int]) -> Tensor:
        """``l_hat`` of a stream -> ``x_hat`` (B, 3, H, W) in [0, 1] of ``shape`` (H, W)."""
        x_hat = self.backbone_synthesis(l_hat)[..., : shape[0], : shape[1]]
        if not torch.isfinite(x_hat).all():
            raise BitstreamError("the stream decodes to latents that give no picture: no encoder wrote it")
        return x_hat.clamp(0, 1)

    def backbone_analysis(self, x: Tensor) -> Tensor:
        """In evaluation, in the model's precision, and of large pictures in tiles."""
        if self.training:
            return self.backbone.analysis(x)
        return tiled(self.in_precision(self.backbone.analysis), x, self.backbone.downsampling, 1, self.tile_overlap)

    def backbone_synthesis(self, l: Tensor) -> Tensor:
        """Likewise."""
        if self.training:
            return self.backbone.synthesis(l.float())
        half, cell = self.in_precision(self.backbone.synthesis), self.backbone.downsampling
        return tiled(half, l.float(), 1, cell, self.tile_overlap)

    @property
    def tile_overlap(self) -> int:
        """Latents that two tiles of a large picture share."""
        return trait(self.backbone, "tile_overlap")

    def in_precision(self, half: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Half of the backbone in its own precision and layout."""
        if self.precision == "float32":
            return half
        return lambda t: half(t.to(torch.bfloat16, memory_format=torch.channels_last)).float()

    def set_precision(self, precision: str) -> "GLCModel":
        """Run the backbone in ``"float32"`` or, faster and for coding alone, in ``"bf16"`` or ``"int8"``.

        The last is bf16 with residual blocks and upsampling in 8-bit integers (:mod:`glc_toolkit.components.int8`).
        ``"auto"`` is the fastest that the processor multiplies in. The entropy path stays exact: a stream has the same
        symbols for each, and pictures that differ by what is rounded. Of one picture they may write different streams.
        Raises ``ValueError`` for a way back, since the weights are rounded, and for ``"int8"`` where there is none.
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
            self.backbone.to(torch.bfloat16, memory_format=torch.channels_last)
            if precision == "int8":
                to_int8(self.backbone)
            self.precision = precision
        return self

    def plain(self) -> "GLCModel":
        """A copy all of whose networks run in float32: for comparison, and for runtimes that have no float64.

        What it writes is not portable: to be read in the same place alone.
        """
        self._only_float32("be copied in float32")
        model = copy.deepcopy(self)
        for part in model.modules():  # an image model within a video model, too
            for module in part.exact if isinstance(part, GLCModel) else ():
                to_floating_point(module)
        return model

    def _only_float32(self, wish: str) -> None:
        if self.precision != "float32":
            raise ValueError(f"a model in {self.precision} is for coding alone and cannot {wish}; load it anew")

    # -- quality ------------------------------------------------------------------------------------------------

    def qualities(self, quality: float | Tensor | None, batch: int, device: torch.device) -> Tensor:
        """``quality`` as (B,) floats. Raises ``ValueError`` beyond the levels, unless compiled."""
        if quality is None:
            quality = self.default_quality
        try:
            quality = torch.as_tensor(quality, dtype=torch.float32, device=device).expand(batch)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"quality is a number, or one for each of {batch} pictures, not {quality!r}") from error
        if torch.compiler.is_compiling():  # a graph does not stop at a value
            return quality
        if not bool(((quality >= 0) & (quality <= self.levels - 1)).all()):
            wrong = ", ".join(f"{q:g}" for q in quality.tolist())
            raise ValueError(f"quality has to be between 0 and {self.levels - 1}, not {wrong}")
        return quality

    def quality_code(self, quality: float | None) -> int:
        """``quality`` as the byte a stream holds: evenly spaced, whole levels exact."""
        quality = float(self.qualities(quality, 1, torch.device("cpu")))
        return round(quality * self._code_steps)

    def quality_codes(self, quality: float | Tensor | None, batch: int) -> list[int]:
        """The same of one quality for all, or (B,)."""
        return [self.quality_code(q) for q in self.qualities(quality, batch, torch.device("cpu")).tolist()]

    def quality_of(self, code: int) -> float:
        """The quality that a byte of a stream stands for."""
        if code > self._code_steps * (self.levels - 1):
            raise BitstreamError(f"quality byte {code} is beyond the {self.levels} levels of the model")
        return code / self._code_steps

    @property
    def _code_steps(self) -> int:
        return 255 // max(self.levels - 1, 1)

    def check_ready(self, encoder: bool = False) -> None:
        """Raise ``RuntimeError`` if bytes are asked of a model in training, or with tables of other weights.

        ``encoder``: the networks of the hyper module that only an encoder runs have to be those of the tables, too.
        """
        if self.training:
            raise RuntimeError("call eval() before coding: training and coding run in different precision")
        if not self.is_sealed(encoder):
            raise RuntimeError("call update() before coding: the weights have changed since the tables were made")

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
            for name, tensor in getattr(self, slot).state_dict(keep_vars=True).items()
        }
        return {n: t for n, t in tensors.items() if isinstance(t, Tensor) and not n.startswith(left_out)}

    @property
    def is_ready(self) -> bool:
        """Whether the model could code in evaluation: there are tables, and they are of the weights as they are now."""
        tables = [part.tables_ready for part in self.modules() if isinstance(part, TableCoding)]
        return all(tables) and all(part.is_sealed() for part in self.modules() if isinstance(part, GLCModel))

    # -- state --------------------------------------------------------------------------------------------------

    @property
    def exact(self) -> list[nn.Module]:
        """What symbols are decoded with, and so runs in fixed point."""
        return [*self.hyper.exact, self.context]

    def train(self, mode: bool = True) -> "GLCModel":
        """As in PyTorch; evaluation also moves the networks of the entropy decoder to fixed point (see
        :mod:`glc_toolkit.components.fixed_point`)."""
        if mode:
            self._only_float32("be trained")
        super().train(mode)
        for module in self.exact:
            (to_floating_point if mode else to_fixed_point)(module)
        return self

    def _apply(self, fn: Callable, recurse: bool = True) -> "GLCModel":
        """What ``to``, ``float``, ``half`` and the like do. Symbols come from fixed point, which no cast may leave."""

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
            for module in part.exact if isinstance(part, GLCModel) else ():
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
        updated = any([part.update(force=force) for part in (self.hyper, self.entropy_model)])
        if updated:
            self.seal()
        return updated

    def aux_loss(self) -> Tensor:
        """As in CompressAI, of the quantiles of every ``EntropyBottleneck``; without one zero, with a gradient."""
        return super().aux_loss() + self.auxiliary.quantiles.sum()

    def load_state_dict(self, state_dict: dict, strict: bool = True, assign: bool = False):
        """As in PyTorch: here every entropy model sizes its own tables. Takes the names of ``DataParallel``, too."""
        keys = nn.Module.load_state_dict(self, without_wrapper(state_dict), strict=strict, assign=assign)
        self.train(self.training)  # the integers of evaluation are made of the weights
        for part in self.modules():
            if isinstance(part, GLCModel):  # an image model within a video model, too
                part.seal()
        return keys

    def state_dict(self, *args, **kwargs) -> dict:
        """As in PyTorch. Raises ``ValueError`` once the weights are rounded to bf16."""
        self._only_float32("be saved")
        return super().state_dict(*args, **kwargs)

    def get_extra_state(self) -> Tensor:
        """The config, as bytes in a tensor, so that a state dict alone rebuilds the model."""
        return torch.frombuffer(bytearray(json.dumps(self.config, sort_keys=True).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        pass  # read by from_state_dict, before there is a model

    @classmethod
    def from_state_dict(cls, state_dict: dict) -> "GLCModel":
        """A model from what ``state_dict()`` gave."""
        state_dict = without_wrapper(state_dict)
        if "_extra_state" not in state_dict:
            raise ModelFileError("this state dict holds no glc-toolkit config (key '_extra_state')")
        config = json.loads(bytes(state_dict["_extra_state"].cpu().numpy()))
        model = cls(config)  # pyright: ignore[reportCallIssue]  a model proper knows its slots
        model.load_state_dict(state_dict)
        return model

    @classmethod
    def from_pretrained(
        cls, model: str | os.PathLike, revision: str | None = None, device: str = "cpu", precision: str = "float32"
    ) -> "GLCModel":
        """As in Hugging Face's libraries: a zoo name, a folder, or ``owner/name`` on the hub, see
        :func:`glc_toolkit.zoo.load`. Raises ``ValueError`` for a model of another class."""
        zoo = import_module("glc_toolkit.zoo")  # which stands on this module
        name = os.fspath(model)
        if name not in zoo.folders() and not os.path.isdir(name) and re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            name = f"hf://{name}"
        loaded = zoo.load(f"{name}@{revision}" if revision else name, device, precision)
        if not isinstance(loaded, cls):
            raise ValueError(f"{name} is a {type(loaded).__name__}, not a {cls.__name__}")
        return loaded

    def save_pretrained(self, folder: str | os.PathLike, card: str = "") -> None:
        """Write the model as a zoo folder, under its own name or else that of the folder; see
        :func:`glc_toolkit.zoo.save`."""
        zoo = import_module("glc_toolkit.zoo")
        zoo.save(self, folder, self.config.get("name", Path(folder).resolve().name), card)

    @property
    def encoder_only(self) -> tuple[str, ...]:
        """Prefixes of the tensors a decoder never looks at, as the components declare them."""
        return self._declared("encoder_only")

    @property
    def pixels_only(self) -> tuple[str, ...]:
        """Likewise, of the tensors that no symbol depends on, but pixels do."""
        return self._declared("pixels_only")

    def _declared(self, attribute: Trait) -> tuple[str, ...]:
        names = {slot: trait(getattr(self, slot), attribute) for slot in self.slots}
        if wrong := [slot for slot, prefixes in names.items() if isinstance(prefixes, str)]:
            raise ValueError(f"{attribute} of the {wrong[0]} is a string; it has to be a tuple of prefixes")
        return tuple(f"{slot}.{prefix}" for slot, prefixes in names.items() for prefix in prefixes)

    def fingerprint(self) -> bytes:
        """32 bytes that name every weight and table a decoder uses, and how it computes with them."""
        if self.precision != "float32":
            return self._fingerprint
        kept = {
            name: tensor
            for name, tensor in self.state_dict().items()
            if not name.startswith(self.encoder_only) and not name.endswith("_extra_state")
        }
        return digest(kept, ARITHMETIC)

    # -- words --------------------------------------------------------------------------------------------------

    def summary(self) -> Facts:
        """Name, size, levels, the component in each slot with its parameters, and the fingerprint."""

        def part(slot: str) -> str:
            return f"{self.config[slot]['name']}, {_parameters(getattr(self, slot)):,} parameters"

        return Facts(
            {
                "name": self.config.get("name", "unnamed"),
                "parameters": _parameters(self),
                "levels": self.levels,
                "default quality": self.default_quality,
                "components": {slot: part(slot) for slot in self.slots},
                "fingerprint": self.fingerprint().hex(),
            }
        )

    def extra_repr(self) -> str:
        """The line that stands above the module tree when PyTorch prints a model."""
        name = self.config.get("name", "unnamed")
        return f"{name!r}, levels={self.levels}, parameters={_parameters(self):,}"

    def _repr_html_(self) -> str:
        """In a notebook: the summary, and the module tree to unfold."""
        tree = f"<details><summary>modules</summary><pre>{escape(repr(self))}</pre></details>"
        return self.summary()._repr_html_() + tree


def has_bf16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bf16 numbers faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def dtype_of(part: nn.Module, default: torch.dtype) -> torch.dtype:
    """Of its weights; one without any works in ``default``."""
    return next((parameter.dtype for parameter in part.parameters()), default)


def without_wrapper(state_dict: dict) -> dict:
    """A state dict with the names that the model itself has, not those of ``DataParallel`` around it."""
    if state_dict and all(name.startswith("module.") for name in state_dict):
        return {name.removeprefix("module."): value for name, value in state_dict.items()}
    return state_dict


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


class Sections(CountingDecoder):
    """A decoder that notes where each section of a stream ends."""

    def __init__(self, stream: bytes):
        super().__init__(stream)
        self._length = len(stream)
        self._ends: list[int] = []

    def get(self, *args):
        symbols = super().get(*args)
        self._ends.append(self.position())
        return symbols

    def sizes(self) -> dict[str, int]:
        """Bytes of z and of each pass of y; they add up to the stream's length."""
        ends = [*self._ends[:-1], self._length]
        for i in reversed(range(len(ends) - 1)):  # a stream that ended earlier may have needed more bytes to end in
            ends[i] = min(ends[i], ends[i + 1])
        names = ["z", *(f"y pass {k}" for k in range(len(ends) - 1))]
        return {name: end - start for name, start, end in zip(names, [0, *ends[:-1]], ends, strict=True)}
