"""GLC-image: transform coding in the latent of a VQ-VAE (Jia et al., CVPR 2024), read from top to bottom.

x --backbone--> l --transform--> y --hyper--> z, params
y / step, in passes: residual = y / step - means, symbols = round(residual) under N(0, scales)
y_hat = (symbols + means) * step --transform--> l_hat --backbone--> x_hat
"""

import copy
import hashlib
import json
from collections.abc import Callable

import torch
import torch.nn.functional as F
from compressai.models import CompressionModel
from compressai.ops import LowerBound
from compressai.registry import register_model
from torch import Tensor

from glc_toolkit import registry
from glc_toolkit.coder import CountingDecoder, Decoder, Encoder, NoSymbols
from glc_toolkit.components.layers import fixed, to_fixed_point
from glc_toolkit.models.tiles import tiled
from glc_toolkit.types import BitstreamError, ModelFileError

PRECISIONS = ("float32", "bf16", "auto")
SLOTS = ("backbone", "transform", "hyper", "context", "entropy_model")


@register_model("glc-image")
class GLCImage(CompressionModel):
    """A GLC image codec made of registry components.

    Args:
        config: ``{"model": "image", "channels": C, "levels": n, "default_quality": q}`` and one component for each of
            ``backbone``, ``transform``, ``hyper``, ``context``, ``entropy_model``, as in :func:`registry.build`.

    ``quality`` is a float in [0, levels - 1] everywhere, 0 the lowest rate; ``None`` is ``default_quality``.
    """

    def __init__(self, config: dict):
        super().__init__()
        missing = [slot for slot in (*SLOTS, "channels") if slot not in config]
        if missing:
            raise ValueError(f"the model config lacks {', '.join(missing)}")
        self.config = config
        channels = config["channels"]
        self.levels = config.get("levels", 4)
        self.default_quality = float(config.get("default_quality", (self.levels - 1) / 2))
        self.backbone = registry.build("backbone", config["backbone"])
        self.transform = registry.build(
            "transform",
            config["transform"],
            latent_channels=self.backbone.latent_channels,
            channels=channels,
            levels=self.levels,
        )
        self.hyper = registry.build("hyper", config["hyper"], channels=channels)
        self.context = registry.build("context", config["context"], channels=channels)
        self.entropy_model = registry.build("entropy_model", config["entropy_model"], channels=channels)
        self.step_bound = LowerBound(0.5)
        self.precision = "float32"

    @property
    def downsampling_factor(self) -> int:
        """Sides of ``x`` are padded to multiples of this."""
        return self.backbone.downsampling * self.hyper.downsampling

    # -- tensors ------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor, quality: float | Tensor | None = None) -> dict:
        """Code ``x`` (B, 3, H, W) in [0, 1], any size, without writing bytes.

        Returns ``x_hat`` (clamped in evaluation), ``likelihoods`` {"y", "z"}, and what losses look at: ``l``,
        ``l_hat``, ``y_hat``, ``hyper_loss``, ``indices`` (of z, if it has any), ``quality`` (B,).
        """
        quality = self._quality(quality, len(x), x.device)
        out = self.code_latent(self._backbone_analysis(self.pad(x)), quality)
        x_hat = self._backbone_synthesis(out["l_hat"])[..., : x.shape[-2], : x.shape[-1]]
        return {"x_hat": x_hat if self.training else x_hat.clamp(0, 1), **out}

    def code_latent(self, l: Tensor, quality: Tensor) -> dict:
        """The part of :meth:`forward` between the two halves of the backbone."""
        y = self.transform.analysis(l, quality)
        hyper = self.hyper(y)
        step, scales, means = self._split(hyper["params"])
        all_scales, all_symbols = torch.zeros_like(means), torch.zeros_like(means)

        def quantize(mask: Tensor, scales: Tensor, means: Tensor) -> Tensor:
            nonlocal all_scales, all_symbols
            symbols = self.entropy_model.quantize_residual(y / step - means, scales) * mask
            all_scales, all_symbols = all_scales + scales * mask, all_symbols + symbols
            return symbols

        y_hat = self._passes(hyper["params"], scales, means, quantize) * step
        return {
            "l": l,
            "l_hat": self._synthesis(y_hat, quality),
            "y_hat": y_hat,
            "likelihoods": {"y": self.entropy_model.likelihood(all_symbols, all_scales), **hyper["likelihoods"]},
            "hyper_loss": hyper["loss"],
            "indices": hyper.get("indices"),
            "quality": quality,
        }

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        step, scales, means = self._fixed(params).chunk(3, 1)
        return self.step_bound(step), scales, means

    def _fixed(self, parameters: Tensor) -> Tensor:
        """In evaluation, entropy parameters on the grid that the fixed-point networks work on."""
        return parameters if self.training else fixed(parameters)

    def _passes(self, params: Tensor, scales: Tensor, means: Tensor, code: Callable) -> Tensor:
        """Run the coding order; ``code(mask, scales, means)`` gives the symbols of a pass, zero outside its mask."""
        reduced = self.context.reduce(params)
        y_hat = torch.zeros_like(means)
        for k, mask in enumerate(self.context.masks(means)):
            if k > 0:
                scales, means = map(self._fixed, self.context(k, y_hat, reduced))
            y_hat = y_hat + code(mask, scales, means) + means * mask
        return y_hat

    def _synthesis(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        return self.transform.synthesis(y_hat.to(self._dtype), quality)

    def _backbone_analysis(self, x: Tensor) -> Tensor:
        if self.training:
            return self.backbone.analysis(x)
        return tiled(self.in_precision(self.backbone.analysis), x, self.backbone.downsampling, 1)

    def _backbone_synthesis(self, l: Tensor) -> Tensor:
        if self.training:
            return self.backbone.synthesis(l)
        return tiled(self.in_precision(self.backbone.synthesis), l, 1, self.backbone.downsampling)

    def in_precision(self, half: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Half of the backbone in its own precision and layout."""
        if self.precision == "float32":
            return half
        return lambda t: half(t.to(torch.bfloat16, memory_format=torch.channels_last)).float()

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.transform.parameters()).dtype

    def _quality(self, quality: float | Tensor | None, batch: int, device: torch.device) -> Tensor:
        if quality is None:
            quality = self.default_quality
        quality = torch.as_tensor(quality, dtype=torch.float32, device=device).expand(batch)
        if not bool(((quality >= 0) & (quality <= self.levels - 1)).all()):
            wrong = ", ".join(f"{q:g}" for q in quality.tolist())
            raise ValueError(f"quality has to be between 0 and {self.levels - 1}, not {wrong}")
        return quality

    def pad(self, x: Tensor) -> Tensor:
        """Repeat the last row and column up to a multiple of ``downsampling_factor``."""
        height, width = x.shape[-2:]
        factor = self.downsampling_factor
        return F.pad(x, (0, -width % factor, 0, -height % factor), mode="replicate")

    # -- bytes --------------------------------------------------------------------------------------------------

    def compress(self, x: Tensor, quality: float | None = None) -> dict:
        """``x`` (B, 3, H, W) in [0, 1], any size -> ``strings`` [[one for each image]], ``shape`` of the images.

        A string is the quality in one byte and then the coder's stream: z, and the passes of y. Pictures are coded
        one by one, so that the bytes do not depend on the batch.
        """
        code = self.quality_code(quality)
        strings = [bytes([code]) + self.encode_payload(self.analysis(image[None]), code) for image in x]
        return {"strings": [strings], "shape": x.shape[-2:]}

    def decompress(self, strings: list[list[bytes]], shape: torch.Size) -> dict:
        """What :meth:`compress` gave -> ``{"x_hat": (B, 3, H, W) in [0, 1]}``."""
        images = []
        for string in strings[0]:
            if not string:
                raise BitstreamError("a string is empty; each has at least its quality byte")
            images.append(self.decode_payload(string[1:], string[0], shape))
        return {"x_hat": torch.cat(images)}

    def quality_code(self, quality: float | None) -> int:
        """``quality`` as the byte a stream holds: evenly spaced, whole levels exact."""
        quality = float(self._quality(quality, 1, torch.device("cpu")))
        return round(quality * self._code_steps)

    def quality_of(self, code: int) -> float:
        """The quality that a byte of a stream stands for."""
        if code > self._code_steps * (self.levels - 1):
            raise BitstreamError(f"quality byte {code} is beyond the {self.levels} levels of the model")
        return code / self._code_steps

    @property
    def _code_steps(self) -> int:
        return 255 // max(self.levels - 1, 1)

    @torch.no_grad()
    def analysis(self, x: Tensor) -> Tensor:
        """``x`` (B, 3, H, W) of any size -> ``l`` of the padded picture."""
        return self._backbone_analysis(self.pad(x))

    @torch.no_grad()
    def encode_payload(self, l: Tensor, quality_code: int) -> bytes:
        """One latent (1, C, h, w) of :meth:`analysis` -> the coder's stream: z, then the passes of y."""
        self._check_ready()
        y = self.transform.analysis(l, self._quality(self.quality_of(quality_code), 1, l.device))
        encoder = Encoder()
        params = self.hyper.encode(encoder, y)
        step, scales, means = self._split(params)
        y = y.to(params.dtype) / step

        def write(mask: Tensor, scales: Tensor, means: Tensor) -> Tensor:
            symbols = self.entropy_model.quantize_residual(y - means, scales) * mask
            rows = self.entropy_model.rows(scales)
            coded = mask & (rows >= 0)
            self.entropy_model.put(encoder, symbols[coded], rows[coded])
            return symbols

        self._passes(params, scales, means, write)
        return encoder.bytes()

    @torch.no_grad()
    def decode_payload(self, stream: bytes, quality_code: int, shape: tuple[int, int], preview: bool = False) -> Tensor:
        """What :meth:`encode_payload` wrote for an image of ``shape`` (H, W) -> ``x_hat`` (1, 3, H, W) in [0, 1].

        ``preview`` reads z alone and takes every residual as zero.
        """
        quality = self._quality(self.quality_of(quality_code), 1, next(self.parameters()).device)
        l_hat = self._synthesis(self.decode_latent(Decoder(stream), shape, preview), quality)
        return self._backbone_synthesis(l_hat)[..., : shape[0], : shape[1]].clamp_(0, 1)

    @torch.no_grad()
    def decode_latent(self, decoder: Decoder, shape: tuple[int, int], preview: bool = False) -> Tensor:
        """The entropy decoder alone -> ``y_hat`` (1, C, h, w) for an image of ``shape``, the same bits as encoded."""
        self._check_ready()
        factor = self.downsampling_factor
        params = self.hyper.decode(decoder, tuple(-(-side // factor) for side in shape))
        step, scales, means = self._split(params)
        source = NoSymbols() if preview else decoder

        def read(mask: Tensor, scales: Tensor, means: Tensor) -> Tensor:
            rows = self.entropy_model.rows(scales)
            coded = mask & (rows >= 0)
            symbols = torch.zeros_like(means)
            symbols[coded] = self.entropy_model.get(source, rows[coded]).to(symbols.dtype)
            return symbols

        return self._passes(params, scales, means, read) * step

    def sections(self, stream: bytes, shape: tuple[int, int]) -> dict[str, int]:
        """Bytes of z and of each pass of y in the stream of an image of ``shape``; they add up to its length."""
        ends: list[int] = []

        class Sections(CountingDecoder):
            def get(self, *args):
                symbols = super().get(*args)
                ends.append(self.position())
                return symbols

        self.decode_latent(Sections(stream), shape)
        ends[-1] = len(stream)
        for i in reversed(range(len(ends) - 1)):  # a stream that ended earlier may have needed more bytes to end in
            ends[i] = min(ends[i], ends[i + 1])
        names = ["z", *(f"y pass {k}" for k in range(len(ends) - 1))]
        return {name: end - start for name, start, end in zip(names, [0, *ends[:-1]], ends, strict=True)}

    def _check_ready(self) -> None:
        if self.training:
            raise RuntimeError("call eval() before coding: training and coding run in different precision")

    # -- precision ----------------------------------------------------------------------------------------------

    def set_precision(self, precision: str) -> "GLCImage":
        """Run the backbone in ``"float32"`` or, faster and for coding alone, in ``"bf16"``.

        ``"auto"`` is ``"bf16"`` where the processor multiplies in it. The entropy path stays exact: a stream has the
        same symbols for either, and pictures that differ by what bf16 rounds. Of one picture the two may write
        different streams. Raises ``ValueError`` for a way back, since the weights are rounded.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
        if precision == "auto":
            precision = "bf16" if has_bf16(next(self.parameters()).device) else "float32"
        if precision != self.precision:
            self._only_float32("go back to float32")
            self._fingerprint = self.fingerprint()
            self.backbone.to(torch.bfloat16, memory_format=torch.channels_last)
            self.precision = precision
        return self

    def plain(self) -> "GLCImage":
        """A copy all of whose networks run in float32: for comparison, and for runtimes that have no float64.

        What it writes is not portable: to be read in the same place alone.
        """
        self._only_float32("be copied in float32")
        model = copy.deepcopy(self)
        for module in (*model.hyper.exact, model.context):
            module.float()
        return model

    def _only_float32(self, wish: str) -> None:
        if self.precision != "float32":
            raise ValueError(f"a model in {self.precision} is for coding alone and cannot {wish}; load it anew")

    # -- state --------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> "GLCImage":
        """As in PyTorch; evaluation also moves the networks of the entropy decoder to fixed point (see
        :mod:`glc_toolkit.components.layers`), which rounds their weights to multiples of 2**-16."""
        if mode:
            self._only_float32("be trained")
        super().train(mode)
        for module in (*self.hyper.exact, self.context):
            if mode:
                module.float()
            else:
                to_fixed_point(module)
        return self

    def update(self, scale_table: Tensor | None = None, force: bool = False, update_quantiles: bool = False) -> bool:
        """Fill the coding tables of every entropy model after training; True if any was filled."""
        return any([part.update(force=force) for part in (self.hyper, self.entropy_model)])

    def load_state_dict(self, state_dict: dict, strict: bool = True):
        """As in PyTorch: here every entropy model sizes its own tables."""
        keys = torch.nn.Module.load_state_dict(self, state_dict, strict=strict)
        self.train(self.training)  # what was loaded may be off the grid of evaluation
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
    def from_state_dict(cls, state_dict: dict) -> "GLCImage":
        """A model from what ``state_dict()`` gave."""
        if "_extra_state" not in state_dict:
            raise ModelFileError("this state dict holds no glc-toolkit config (key '_extra_state')")
        model = cls(json.loads(bytes(state_dict["_extra_state"].cpu().numpy())))
        model.load_state_dict(state_dict)
        return model

    @property
    def encoder_only(self) -> tuple[str, ...]:
        """Prefixes of the tensors a decoder never looks at, as the components declare them."""
        return tuple(f"{slot}.{name}" for slot in SLOTS for name in getattr(getattr(self, slot), "encoder_only", ()))

    def fingerprint(self) -> bytes:
        """32 bytes that name every weight and table a decoder uses."""
        if self.precision != "float32":
            return self._fingerprint
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            if name.startswith(self.encoder_only) or name == "_extra_state":
                continue
            exact = tensor.detach().cpu()
            exact = exact.float() if exact.is_floating_point() else exact.long()
            digest.update(f"{name}{tuple(exact.shape)}".encode())
            digest.update(exact.contiguous().numpy().astype(exact.numpy().dtype.newbyteorder("<")).tobytes())
        return digest.digest()


def has_bf16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bf16 numbers faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
