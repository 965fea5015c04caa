"""GLC-image: transform coding in the latent of a VQ-VAE (Jia et al., CVPR 2024), read from top to bottom.

x --backbone--> l --transform--> y --hyper--> z, params
y --passes of the context, entropy model--> y_hat --transform--> l_hat --backbone--> x_hat
"""

import torch
from compressai.registry import register_model
from torch import Tensor

from glc_toolkit import registry
from glc_toolkit.coder import Decoder, Encoder, NoSymbols
from glc_toolkit.models.base import ZEROS, GLCModel, dtype_of
from glc_toolkit.models.passes import Sections
from glc_toolkit.types import BitstreamError, Hyper, ImageOutput, LatentOutput, Transform, trait

SLOTS = ("backbone", "transform", "hyper", "context", "entropy_model")


@register_model("glc-image")
class GLCImage(GLCModel):
    """A GLC image codec made of registry components.

    Args:
        config: ``{"model": "image", "channels": C, "levels": n, "default_quality": q}`` and one component for each of
            ``backbone``, ``transform``, ``hyper``, ``context``, ``entropy_model``, as in :func:`registry.build`.
    """

    transform: Transform
    hyper: Hyper

    def __init__(self, config: dict):
        super().__init__(config, SLOTS)
        channels = config["channels"]
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
        self.check_parts()

    @property
    def downsampling_factor(self) -> int:
        """Sides of ``x`` are padded to multiples of this."""
        return self.backbone.downsampling * self.hyper.downsampling

    # -- tensors ------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor, quality: float | Tensor | None = None) -> ImageOutput:
        """Code ``x`` (B, 3, H, W) in [0, 1], any size, without writing bytes."""
        quality = self.qualities(quality, len(x), x.device)
        out = self.code_latent(self.backbone_analysis(self.pad(x)), quality)
        x_hat = self.backbone_synthesis(out["l_hat"])[..., : x.shape[-2], : x.shape[-1]]
        return {"x_hat": x_hat if self.training else x_hat.clamp(0, 1), **out}

    def code_latent(self, l: Tensor, quality: Tensor) -> LatentOutput:
        """The part of :meth:`forward` between the two halves of the backbone."""
        y = self.transform.analysis(l, quality)
        hyper = self.hyper(y)
        y_hat, _, likelihoods = self.estimate(y, hyper["params"])
        return {
            "l": l,
            "l_hat": self.synthesis(y_hat, quality),
            "y_hat": y_hat,
            "likelihoods": {"y": likelihoods, **hyper["likelihoods"]},
            "hyper_loss": hyper["loss"],
            "indices": hyper.get("indices"),
            "quality": quality,
        }

    def synthesis(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """``y_hat`` -> ``l_hat``, in the precision of the transform's decoder."""
        decoder = trait(self.transform, "exact") or [self.get_submodule("transform")]
        return self.transform.synthesis(y_hat.to(dtype_of(decoder[0], torch.float32)), quality)

    # -- bytes --------------------------------------------------------------------------------------------------

    def compress(self, x: Tensor, quality: float | Tensor | None = None) -> dict:
        """``x`` (B, 3, H, W) in [0, 1], any size -> ``strings`` [[one for each image]], ``shape`` of the images.

        ``quality`` is one for all, or (B,). A string is the quality in one byte and then the coder's stream: z, and the
        passes of y. Pictures are coded one by one, so that the bytes do not depend on the batch. Raises ``ValueError``
        if ``x`` holds no pictures, or for a quality beyond the levels.
        """
        x, codes = self.check_pictures(x), self.quality_codes(quality, len(x))
        pairs = zip(x, codes, strict=True)
        strings = [bytes([code]) + self.encode_payload(self.analysis(image[None]), code) for image, code in pairs]
        return {"strings": [strings], "shape": x.shape[-2:]}

    def decompress(self, strings: list[list[bytes]], shape: torch.Size) -> dict:
        """What :meth:`compress` gave -> ``{"x_hat": (B, 3, H, W) in [0, 1]}``."""
        images = []
        for string in strings[0]:
            if not string:
                raise BitstreamError("a string is empty; each has at least its quality byte")
            images.append(self.decode_payload(string[1:], string[0], (shape[0], shape[1])))
        return {"x_hat": torch.cat(images)}

    def encode_payload(self, l: Tensor, quality_code: int) -> bytes:
        """One latent (1, C, h, w) of :meth:`analysis` -> the coder's stream: z, then the passes of y."""
        encoder = Encoder()
        self.encode_latent(encoder, l, quality_code)
        return encoder.bytes()

    @torch.no_grad()
    def encode_latent(self, encoder: Encoder, l: Tensor, quality_code: int) -> Tensor:
        """Run the entropy encoder alone on one latent -> the ``y_hat`` that :meth:`decode_latent` will give."""
        self.check_ready(encoder=True)
        y = self.transform.analysis(l, self.qualities(self.quality_of(quality_code), 1, l.device))
        y_hat, _ = self.write(encoder, y, self.hyper.encode(encoder, y))
        return y_hat

    @torch.no_grad()
    def decode_payload(
        self,
        stream: bytes,
        quality_code: int,
        shape: tuple[int, int],
        preview: bool = False,
        artist: GLCModel | None = None,
    ) -> Tensor:
        """What :meth:`encode_payload` wrote for an image of ``shape`` (H, W) -> ``x_hat`` (1, 3, H, W) in [0, 1].

        ``preview`` reads z alone and takes every residual as zero. ``artist`` draws the picture in the place of this
        model; its latent has to be the same.
        """
        quality = self.qualities(self.quality_of(quality_code), 1, next(self.parameters()).device)
        l_hat = self.synthesis(self.decode_latent(Decoder(stream), shape, preview), quality)
        return (artist or self).picture(l_hat, shape)

    @torch.no_grad()
    def decode_latent(self, decoder: Decoder, shape: tuple[int, int], preview: bool = False) -> Tensor:
        """The entropy decoder alone -> ``y_hat`` (1, C, h, w) for an image of ``shape``, the same bits as encoded."""
        self.check_ready()
        factor = self.downsampling_factor
        params = self.hyper.decode(decoder, (-(-shape[0] // factor), -(-shape[1] // factor)))
        y_hat, _ = self.read(NoSymbols() if preview else decoder, params)
        return y_hat

    def sections(self, stream: bytes, shape: tuple[int, int]) -> dict[str, int]:
        """Bytes of z and of each pass of y in the stream of an image of ``shape``; they add up to its length."""
        decoder = Sections(stream)
        self.decode_latent(decoder, shape)
        return decoder.sizes()

    def dry_run(self) -> None:
        """Decode an empty stream, which raises an error if the parts of the entropy decoder do not fit together."""
        self.decode_latent(Decoder(ZEROS), (1, 1))
