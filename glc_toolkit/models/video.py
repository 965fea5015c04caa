"""GLC-video: frames coded in the latent of a VQ-VAE, each given the one before (Qi et al., TCSVT 2025).

I frame: the image model, x -> l_hat.
P frame: previous l_hat, moved if the temporal context follows motion --temporal--> c, the context
         x --backbone--> l --transform, given c--> y --hyper, given c--> z, params
         y --passes--> y_hat --transform, given c--> l_hat --backbone--> x_hat
         with skip: where no symbol is sent, l_hat is the previous one, moved

The only memory of a decoder is ``l_hat``. It decides the context of the next frame and so its symbols: in evaluation
everything up to ``l_hat`` runs in fixed point, and a decoder never drifts.
"""

from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from compressai.registry import register_model
from torch import Tensor, nn

from glc_toolkit import registry
from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.models.base import ZEROS, GLCModel, dtype_of
from glc_toolkit.models.image import GLCImage
from glc_toolkit.types import (
    Backbone,
    BitstreamError,
    ClipLatents,
    ClipOutput,
    HasTables,
    InterHyper,
    InterLikelihoods,
    InterOutput,
    InterTransform,
    LatentOutput,
    Moving,
    Temporal,
    Trait,
    trait,
)

Quality = TypeVar("Quality", Tensor, float)
KEYS = ("image", "backbone", "intra_period", "refresh", "cycle", "image_levels", "skip", "bound")
SLOTS = ("temporal", "transform", "hyper", "context", "entropy_model")


class Reference(NamedTuple):
    """What a frame leaves for the next one."""

    l_hat: Tensor  #: (B, latent_channels, h, w)
    age: int  #: frames since the last intra frame; 0 for that itself
    l: Tensor | None = None  #: the encoder's latent in which motion to the next frame is searched; None in a decoder


def sample(reference: Reference, i: int) -> Reference:
    """That of one clip of a batch."""
    l = None if reference.l is None else reference.l[i : i + 1]
    return Reference(reference.l_hat[i : i + 1], reference.age, l)


def stacked(references: list[Reference]) -> Reference:
    """Those of the clips of a batch, at the same frame."""
    latents = [r.l for r in references if r.l is not None]
    l_hat = torch.cat([r.l_hat for r in references])
    return Reference(l_hat, references[0].age, torch.cat(latents) if latents else None)


@register_model("glc-video")
class GLCVideo(GLCModel):
    """A GLC video codec made of registry components.

    Args:
        config: ``{"model": "video", "channels": C, "levels": n, "default_quality": q}``; the image model of the intra
            frames as a config under ``image``; one component for each of ``temporal``, ``transform``, ``hyper``,
            ``context``, ``entropy_model``; and optionally

            * ``backbone``: of the P frames. Without it they use the backbone of the image model. Latents of the two
              have to mean the same.
            * ``intra_period``: frames from one intra frame to the next, 96.
            * ``refresh``: P frames from one that starts afresh to the next, 32.
            * ``cycle``: the temporal adaptor of each frame in turn.
            * ``image_levels``: qualities of the intra frame at the lowest and at the highest ``quality``; by default
              the whole range of the image model. An intra frame may be better than P frames, since many depend on it.
            * ``skip``: whether ``l_hat`` stays what it was, but for motion, at positions whose symbols are zero and
              whose eight neighbours' symbols are zero; by default not. Without it, what the networks of P frames do
              to a still picture adds up from frame to frame.
            * ``bound``: a whole number that no value of a P frame's ``l_hat`` exceeds; by default there is none. The
              networks multiply what they are given with itself, so a value far beyond those of training can grow from
              frame to frame without end.
    """

    temporal: Temporal
    transform: InterTransform
    hyper: InterHyper

    def __init__(self, config: dict):
        super().__init__(config, SLOTS, KEYS)
        if "image" not in config:
            raise ValueError("the model config lacks image, the model of intra frames")
        channels = config["channels"]
        self.intra_period = config.get("intra_period", 96)
        self.refresh = config.get("refresh", 32)
        self.cycle = tuple(config.get("cycle", (0, 1, 0, 2, 0, 2, 0, 2)))
        self.skip = config.get("skip", False)
        self.bound = config.get("bound")
        if not (self.bound is None or (isinstance(self.bound, int) and self.bound > 0)):
            raise ValueError(f"bound is a whole number above zero, not {self.bound!r}")
        if self.intra_period < 1 or self.refresh < 1 or not self.cycle:
            raise ValueError("intra_period and refresh are at least 1, and cycle names an adaptor")
        self.image = GLCImage(config["image"])
        self.image_levels = tuple(config.get("image_levels", (0, self.image.levels - 1)))
        self.own_backbone = registry.build("backbone", config["backbone"]) if "backbone" in config else None
        latent_channels = self.backbone.latent_channels
        if latent_channels != self.image.backbone.latent_channels:
            channels = f"{latent_channels} and {self.image.backbone.latent_channels}"
            raise ValueError(f"the two backbones need equally many latent channels, not {channels}")
        self.temporal = registry.build(
            "temporal",
            config["temporal"],
            latent_channels=latent_channels,
            channels=channels,
            adaptors=1 + max(self.cycle),
        )
        self.transform = registry.build(
            "transform", config["transform"], latent_channels=latent_channels, channels=channels, levels=self.levels
        )
        self.hyper = registry.build("hyper", config["hyper"], channels=channels)
        for slot in ("transform", "hyper"):
            if not trait(self.get_submodule(slot), "conditional"):
                raise ValueError(f"the {slot} {config[slot]['name']!r} takes no temporal context: it is for pictures")
        self.context = registry.build("context", config["context"], channels=channels)
        self.entropy_model = registry.build("entropy_model", config["entropy_model"], channels=channels)
        self.check_parts()
        for slot, transform in (("transform", self.transform), ("image's transform", self.image.transform)):
            if not trait(transform, "exact"):
                raise ValueError(f"the {slot} lacks exact, and cannot run in the entropy decoder of a video")

    @property
    def backbone(self) -> Backbone:
        """The backbone of the P frames."""
        return self.image.backbone if self.own_backbone is None else self.own_backbone

    @property
    def downsampling_factor(self) -> int:
        """Sides of ``x`` are padded to multiples of this."""
        return self.image.downsampling_factor

    @property
    def exact(self) -> list[nn.Module]:
        return [*super().exact, *self.exact_temporal, *self.transform.exact, *trait(self.image.transform, "exact")]

    @property
    def exact_temporal(self) -> list[nn.Module]:
        """What decoding runs of the temporal context: all of one that does not say."""
        return list(trait(self.temporal, "exact")) or [self.get_submodule("temporal")]

    @property
    def with_tables(self) -> list[HasTables]:
        return [*super().with_tables, *([self.temporal] if isinstance(self.temporal, Moving) else [])]

    def image_quality(self, quality: Quality) -> Quality:
        """The level of the image model for intra frames."""
        low, high = self.image_levels
        return low + quality * (high - low) / max(self.levels - 1, 1)

    def image_code(self, quality_code: int) -> int:
        """The quality byte of an intra frame, for the quality byte of a stream."""
        return self.image.quality_code(self.image_quality(self.quality_of(quality_code)))

    # -- tensors ------------------------------------------------------------------------------------------------

    def forward(self, frames: list[Tensor], quality: float | Tensor | None = None) -> ClipOutput:
        """Code ``frames``, each (B, 3, H, W) in [0, 1], as one intra frame and P frames, without writing bytes."""
        quality = self.qualities(quality, len(frames[0]), frames[0].device)
        models = [self.image] + [self] * (len(frames) - 1)
        latents = [m.backbone_analysis(self.pad(x)) for m, x in zip(models, frames, strict=True)]
        out = self.code_latents(latents, quality)
        height, width = frames[0].shape[-2:]
        pictures = [
            m.backbone_synthesis(l_hat)[..., :height, :width] for m, l_hat in zip(models, out["l_hat"], strict=True)
        ]
        return {"x_hat": pictures if self.training else [x_hat.clamp(0, 1) for x_hat in pictures], **out}

    def code_latents(self, latents: list[Tensor], quality: Tensor) -> ClipLatents:
        """The part of :meth:`forward` between the two halves of the backbones."""
        outs: list[LatentOutput | InterOutput] = [self.image.code_latent(latents[0], self.image_quality(quality))]
        outs += self.code_inters(latents[1:], Reference(outs[0]["l_hat"], 0, latents[0]), quality)[0]
        return {
            "l": [out["l"] for out in outs],
            "l_hat": [out["l_hat"] for out in outs],
            "y_hat": [out["y_hat"] for out in outs],
            "likelihoods": [out["likelihoods"] for out in outs],
            "hyper_loss": [out["hyper_loss"] for out in outs],
            "indices": [out["indices"] for out in outs],
            "quality": quality,
        }

    def code_inters(
        self, latents: list[Tensor], reference: Reference, quality: Tensor
    ) -> tuple[list[InterOutput], Reference]:
        """P frames in a row, the first given ``reference``, each as :meth:`code_inter` gives it, and the reference that
        the last one leaves."""
        outs = []
        for l in latents:
            motion = self.motion(l, reference)
            outs.append(self.code_inter(l, reference, quality, motion))
            reference = self.leaves(l, outs[-1]["l_hat"], reference, motion)
        return outs, reference

    def code_inter(self, l: Tensor, reference: Reference, quality: Tensor, motion: Tensor | None = None) -> InterOutput:
        """One P frame's latent, given the frame before, without writing bytes. ``motion`` is what :meth:`motion` gives,
        for a caller that codes a frame more than once."""
        motion = self.motion(l, reference) if motion is None else motion
        context, fresh, moved = self.temporal_context(reference, motion)
        y = self.transform.analysis(l, quality, context.to(l.dtype))
        hyper = self.hyper(y, context, fresh)
        y_hat, sent, of_y = self.estimate(y, hyper["params"])
        likelihoods: InterLikelihoods = {"y": of_y, **hyper["likelihoods"]}
        if motion is not None and isinstance(self.temporal, Moving):
            likelihoods["motion"] = self.temporal.likelihood(motion)
        return {
            "l": l,
            "l_hat": self.synthesis(y_hat, sent, quality, context, moved),
            "y_hat": y_hat,
            "likelihoods": likelihoods,
            "hyper_loss": hyper["loss"],
            "indices": hyper.get("indices"),
        }

    def synthesis(self, y_hat: Tensor, sent: Tensor, quality: Tensor, context: Tensor, moved: Tensor) -> Tensor:
        """``l_hat`` of a P frame: what the transform makes of ``y_hat``, within ``bound``, and with ``skip`` that alone
        where symbols are ``sent``."""
        l_hat = self.transform.synthesis(y_hat, quality, context)
        if self.bound is not None:
            l_hat = l_hat.clamp(-self.bound, self.bound)
        if not self.skip:
            return l_hat
        near = F.max_pool2d(sent.to(l_hat.dtype), 3, 1, 1) > 0
        return torch.where(near, l_hat, moved.to(l_hat.dtype))

    def motion(self, l: Tensor, reference: Reference) -> Tensor | None:
        """The motion from ``reference`` to the frame of ``l``, where the temporal context follows one."""
        if not isinstance(self.temporal, Moving):
            return None
        return self.temporal.estimate(l, reference.l_hat if reference.l is None else reference.l)

    @torch.no_grad()
    def leaves(self, l: Tensor, l_hat: Tensor, reference: Reference, motion: Tensor | None) -> Reference:
        """What the P frame of ``l`` leaves for the next one, once it was coded as ``l_hat`` given ``reference``.

        A frame with the adaptor 0 hardly corrects what motion did. Motion after it is searched from what motion has
        made of an original: what one vector rounds away then counts for the next. After any other frame it is
        searched from that frame's original.
        """
        age, searched = reference.age + 1, reference.l
        if self.adaptor(age) == 0 and motion is not None and searched is not None and isinstance(self.temporal, Moving):
            l = self.temporal.move(searched.to(dtype_of(self.exact_temporal[0], l.dtype)), motion).to(l.dtype)
        return Reference(l_hat, age, l)

    def adaptor(self, age: int) -> int | None:
        """The temporal adaptor of a P frame; None for one that starts afresh."""
        return None if age % self.refresh == 1 % self.refresh else self.cycle[age % len(self.cycle)]

    def temporal_context(self, reference: Reference, motion: Tensor | None = None) -> tuple[Tensor, bool, Tensor]:
        """The context of the frame after ``reference``, whether that starts afresh, and the latent of ``reference``,
        moved."""
        adaptor = self.adaptor(reference.age + 1)
        l_hat = reference.l_hat.to(dtype_of(self.exact_temporal[0], reference.l_hat.dtype))
        if motion is not None and isinstance(self.temporal, Moving):
            l_hat = self.temporal.move(l_hat, motion)
        return self.temporal(l_hat, adaptor), adaptor is None, l_hat

    # -- bytes --------------------------------------------------------------------------------------------------

    def compress(self, frames: list[Tensor], quality: float | Tensor | None = None) -> tuple[list, list]:
        """``frames``, each (B, 3, H, W) in [0, 1] -> ``strings`` and ``shapes``, an entry a frame, as CompressAI's
        video models give them. Each string starts with the quality in one byte; ``quality`` is one for all, or (B,).
        Raises ``ValueError`` if ``frames`` are no pictures, or for a quality beyond the levels."""
        strings, shapes, reference = [], [], None
        for i, x in enumerate(frames):
            intra = i % self.intra_period == 0
            reference, out = self.encode_keyframe(x, quality) if intra else self.encode_inter(x, reference, quality)
            strings.append(out["strings"])
            shapes.append(out["shape"])
        return strings, shapes

    def decompress(self, strings: list, shapes: list) -> list[Tensor]:
        """What :meth:`compress` gave -> ``x_hat`` of each frame, in [0, 1]."""
        frames, reference = [], None
        for i, (string, shape) in enumerate(zip(strings, shapes, strict=True)):
            intra = i % self.intra_period == 0
            reference = self.decode_keyframe(string, shape) if intra else self.decode_inter(reference, string, shape)
            frames.append(self.reconstruct(reference, shape))
        return frames

    def encode_keyframe(self, x: Tensor, quality: float | Tensor | None = None) -> tuple[Reference, dict]:
        """An intra frame -> the reference for the next, and ``strings`` with ``shape``."""
        return self._encode(x, None, quality)

    def encode_inter(
        self, x: Tensor, reference: Reference | None, quality: float | Tensor | None = None
    ) -> tuple[Reference, dict]:
        """A P frame -> the reference for the next, and ``strings`` with ``shape``."""
        return self._encode(x, reference, quality)

    def _encode(self, x: Tensor, reference: Reference | None, quality: float | Tensor | None) -> tuple[Reference, dict]:
        x, codes = self.check_pictures(x), self.quality_codes(quality, len(x))
        strings, references = [], []
        for i, (image, code) in enumerate(zip(x, codes, strict=True)):
            own = None if reference is None else sample(reference, i)
            new, payload = self.encode_payload(self.frame_analysis(image[None], own), code, own)
            references.append(new)
            strings.append(bytes([code]) + payload)
        return stacked(references), {"strings": [strings], "shape": x.shape[-2:]}

    def decode_keyframe(self, strings: list[list[bytes]], shape: torch.Size) -> Reference:
        """What :meth:`encode_keyframe` wrote -> the same reference; :meth:`reconstruct` makes a picture of it."""
        return self._decode(None, strings, shape)

    def decode_inter(self, reference: Reference | None, strings: list[list[bytes]], shape: torch.Size) -> Reference:
        """What :meth:`encode_inter` wrote -> the same reference."""
        return self._decode(reference, strings, shape)

    def _decode(self, reference: Reference | None, strings: list[list[bytes]], shape: torch.Size) -> Reference:
        references = []
        for i, string in enumerate(strings[0]):
            if not string:
                raise BitstreamError("a string is empty; each has at least its quality byte")
            own = None if reference is None else sample(reference, i)
            references.append(self.decode_payload(string[1:], string[0], (shape[0], shape[1]), own))
        return stacked(references)

    def frame_analysis(self, x: Tensor, reference: Reference | None) -> Tensor:
        """A frame (B, 3, H, W) -> ``l``, by the image model if there is no ``reference`` to start from."""
        return (self.image if reference is None else self).analysis(x)

    @torch.no_grad()
    def encode_payload(
        self, l: Tensor, quality_code: int, reference: Reference | None, motion: Tensor | None = None
    ) -> tuple[Reference, bytes]:
        """One latent (1, C, h, w) of :meth:`frame_analysis` -> the reference for the next frame, and the coder's
        stream. ``motion`` is what :meth:`motion` gives, for a caller that searches it ahead. The new reference then has
        no latent to search in: the caller keeps that itself, by :meth:`leaves`."""
        self.check_ready(encoder=True)
        encoder = Encoder()
        if reference is None:
            code = self.image_code(quality_code)
            y_hat = self.image.encode_latent(encoder, l, code)
            return self._intra_reference(y_hat, code)._replace(l=l), encoder.bytes()
        quality = self.qualities(self.quality_of(quality_code), 1, l.device)
        followed = self.motion(l, reference) if motion is None else motion
        if followed is not None and isinstance(self.temporal, Moving):
            self.temporal.put(encoder, followed)
        context, fresh, moved = self.temporal_context(reference, followed)
        y = self.transform.analysis(l, quality, context.to(l.dtype))
        y_hat, sent = self.write(encoder, y, self.hyper.encode(encoder, y, context, fresh))
        l_hat = self.synthesis(y_hat, sent, quality, context, moved)
        new = Reference(l_hat, reference.age + 1) if motion is not None else self.leaves(l, l_hat, reference, followed)
        return new, encoder.bytes()

    @torch.no_grad()
    def decode_payload(
        self, stream: bytes, quality_code: int, shape: tuple[int, int], reference: Reference | None
    ) -> Reference:
        """What :meth:`encode_payload` wrote for frames of ``shape`` (H, W) -> the same reference, bit for bit."""
        self.check_ready()
        decoder = Decoder(stream)
        if reference is None:
            return self._intra_reference(self.image.decode_latent(decoder, shape), self.image_code(quality_code))
        quality = self.qualities(self.quality_of(quality_code), 1, reference.l_hat.device)
        height, width = reference.l_hat.shape[-2:]
        motion = self.temporal.get(decoder, (height, width)) if isinstance(self.temporal, Moving) else None
        context, fresh, moved = self.temporal_context(reference, motion)
        y_hat, sent = self.read(decoder, self.hyper.decode(decoder, context, fresh))
        return Reference(self.synthesis(y_hat, sent, quality, context, moved), reference.age + 1)

    def _intra_reference(self, y_hat: Tensor, image_code: int) -> Reference:
        quality = self.image.qualities(self.image.quality_of(image_code), 1, y_hat.device)
        return Reference(self.image.synthesis(y_hat, quality), 0)

    @torch.no_grad()
    def reconstruct(self, reference: Reference, shape: tuple[int, int], artist: GLCModel | None = None) -> Tensor:
        """The picture (B, 3, H, W) in [0, 1] of a decoded frame. ``artist`` draws it in the place of this model; its
        latent has to be the same."""
        model = artist or (self if reference.age else self.image)
        return model.picture(reference.l_hat, shape)

    def dry_run(self) -> None:
        """Decode empty streams, which raises an error if the parts of the entropy decoder do not fit together."""
        reference = self.decode_payload(ZEROS, 0, (1, 1), None)
        reference = self.decode_payload(ZEROS, 0, (1, 1), reference)
        self.reconstruct(reference._replace(l_hat=torch.zeros_like(reference.l_hat)), (1, 1))

    def set_precision(self, precision: str) -> "GLCVideo":
        if precision == self.precision:
            return self
        image_fingerprint = self.image.fingerprint()  # before the backbone that both share is rounded
        super().set_precision(precision)
        self.image.set_precision(precision)
        self.image._fingerprint = image_fingerprint
        return self

    # -- state --------------------------------------------------------------------------------------------------

    def update(self, scale_table: Tensor | None = None, force: bool = False, update_quantiles: bool = False) -> bool:
        """Fill the coding tables of every entropy model after training; True if any was filled."""
        return any([super().update(force=force), self.image.update(force=force)])

    def _declared(self, attribute: Trait) -> tuple[str, ...]:
        own = () if self.own_backbone is None else trait(self.own_backbone, attribute)
        image = self.image._declared(attribute)
        return (*super()._declared(attribute), *(f"own_backbone.{n}" for n in own), *(f"image.{n}" for n in image))
