"""What the image and the video model share: their slots, pictures, the backbone, and levels of quality.

How a latent is coded is in :mod:`glc_toolkit.models.passes`, training and coding in :mod:`glc_toolkit.models.modes`,
config, state and fingerprint in :mod:`glc_toolkit.models.identity`.
"""

from typing import cast

import torch
import torch.nn.functional as F
from compressai.models import CompressionModel
from compressai.ops import LowerBound
from torch import Tensor, nn

from glc_toolkit import registry
from glc_toolkit.models.modes import Modes
from glc_toolkit.models.passes import Passes
from glc_toolkit.models.seal import Seal
from glc_toolkit.models.tiles import tiled
from glc_toolkit.types import Backbone, BitstreamError, InterTransform, PictureError, ResidualModel, Transform, trait

COMMON = ("model", "name", "channels", "levels", "default_quality")  # keys of a config, besides those of components
ZEROS = bytes(2**20)  # a stream that is longer than the symbols of one pixel can be


class NoQuantiles(nn.Module):
    """An empty parameter of the name that CompressAI's loops give an optimizer of its own, which takes no empty list.

    No state dict holds it: a model without an ``EntropyBottleneck`` has no quantiles to learn.
    """

    def __init__(self):
        super().__init__()
        self.quantiles = nn.Parameter(torch.empty(0))

    def _save_to_state_dict(self, *args):
        pass

    def _load_from_state_dict(self, *args):
        pass


class GLCModel(Passes, Modes, CompressionModel):
    """A codec made of registry components; ``quality`` is a float in [0, levels - 1] everywhere, 0 the lowest rate,
    and ``None`` is ``default_quality``.

    Args:
        config: what rebuilds the model.
        slots: the keys of it that name a component.
        more: other keys that this kind of model knows.

    Raises ``ValueError`` for a config that lacks something, or has what no model of this kind knows.
    """

    backbone: Backbone  #: the other slots are declared where they are used
    transform: Transform | InterTransform

    def __init__(self, config: dict, slots: tuple[str, ...], more: tuple[str, ...] = ()):
        super().__init__()
        missing = [key for key in (*slots, "channels") if key not in config]
        if missing:
            raise ValueError(f"the model config lacks {', '.join(missing)}")
        if unknown := set(config) - {*COMMON, *slots, *more}:
            raise ValueError(f"the model config has unknown keys: {', '.join(sorted(unknown))}")
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

    @property
    def downsampling_factor(self) -> int:
        """Sides of ``x`` are padded to multiples of this."""
        raise NotImplementedError

    def dry_run(self) -> None:
        """Decode an empty stream, which raises an error if the parts of the entropy decoder do not fit together."""
        raise NotImplementedError

    def check_parts(self) -> None:
        """Raise ``ValueError`` for components that do not go with this model."""
        name = self.config["entropy_model"]["name"]
        registry.check(self.entropy_model, ResidualModel, f"as entropy model of y, {name!r}")
        if self.transform.levels != self.levels:
            raise ValueError(f"the transform has {self.transform.levels} levels, the model {self.levels}")

    def aux_loss(self) -> Tensor:
        """As in CompressAI, of the quantiles of every ``EntropyBottleneck``; without one zero, with a gradient."""
        return super().aux_loss() + self.auxiliary.quantiles.sum()

    # -- pictures -----------------------------------------------------------------------------------------------

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

    @torch.no_grad()
    def analysis(self, x: Tensor) -> Tensor:
        """``x`` (B, 3, H, W) of any size -> ``l`` of the padded picture."""
        return self.backbone_analysis(self.pad(x.float()))

    def picture(self, l_hat: Tensor, shape: tuple[int, int]) -> Tensor:
        """``l_hat`` of a stream -> ``x_hat`` (B, 3, H, W) in [0, 1] of ``shape`` (H, W)."""
        x_hat = self.backbone_synthesis(l_hat)[..., : shape[0], : shape[1]]
        if not torch.isfinite(torch.stack(x_hat.aminmax())).all():  # a quarter of the time that every pixel would take
            raise BitstreamError("the stream decodes to latents that give no picture: no encoder wrote it")
        return x_hat.clamp(0, 1)

    def backbone_analysis(self, x: Tensor) -> Tensor:
        """``x`` -> ``l``. In evaluation it runs in the model's precision, and large pictures go through in tiles."""
        if self.training:
            return self.backbone.analysis(x)
        return tiled(self.in_precision(self.backbone.analysis), x, self.backbone.downsampling, 1, self.tile_overlap)

    def backbone_synthesis(self, l: Tensor) -> Tensor:
        """``l`` -> ``x_hat``, in the same way."""
        if self.training:
            return self.backbone.synthesis(l.float())
        half, cell = self.in_precision(self.backbone.synthesis), self.backbone.downsampling
        return tiled(half, l.float(), 1, cell, self.tile_overlap)

    def has_latent_of(self, other: "GLCModel") -> bool:
        """Whether the encoders of the two backbones are the same, so that each can draw what the other decodes. The
        precisions and devices may differ."""

        def encoder(model: GLCModel) -> dict[str, Tensor]:
            prefixes = trait(model.backbone, "encoder_only")
            tensors = nn.Module.state_dict(cast(nn.Module, model.backbone))
            return {name: tensor.cpu().float() for name, tensor in tensors.items() if name.startswith(prefixes)}

        own, its = encoder(self), encoder(other)
        shared = own.keys() & its.keys()  # int8 gives some tensors other names
        return bool(shared) and all(
            own[name].shape == its[name].shape and torch.allclose(own[name], its[name], rtol=2**-7) for name in shared
        )

    @property
    def tile_overlap(self) -> int:
        """Latents that two tiles of a large picture share."""
        return trait(self.backbone, "tile_overlap")

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
        """The byte of each picture; ``quality`` is one number for all, or (B,)."""
        return [self.quality_code(q) for q in self.qualities(quality, batch, torch.device("cpu")).tolist()]

    def quality_of(self, code: int) -> float:
        """The quality that a byte of a stream stands for."""
        if code > self._code_steps * (self.levels - 1):
            raise BitstreamError(f"quality byte {code} is beyond the {self.levels} levels of the model")
        return code / self._code_steps

    @property
    def _code_steps(self) -> int:
        return 255 // max(self.levels - 1, 1)


def dtype_of(part: nn.Module, default: torch.dtype) -> torch.dtype:
    """The type of the weights of ``part``, or ``default`` if it has none."""
    return next((parameter.dtype for parameter in part.parameters()), default)
