"""The spatio-temporal categorical hyper module of GLC-video: side information as a few global tokens.

Source: Qi et al., TCSVT 2025 (GLC-video, sections 2.4 and 2.5). The tokens say what a frame has, the temporal context
says where: each token is a mean of features under weight maps, and is spread out again under weight maps that the
decoder makes of the context alone. So z costs the same number of indices at any resolution.
"""

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.components.fixed_point import fixed
from glc_toolkit.components.hypers.base import HyperModule
from glc_toolkit.components.hypers.codes import CategoricalCodes
from glc_toolkit.components.layers import FixedSigmoid, SumDepthConvBlock, conv1x1, conv3x3
from glc_toolkit.types import HyperOutput


class SpatioTemporalCategoricalHyper(CategoricalCodes, HyperModule):
    """y, given the context -> tokens -> nearest codes -> params.

    Args:
        channels: of ``y`` and of the context; a multiple of ``heads``.
        tokens: global tokens a frame.
        heads: groups of channels with weight maps of their own.
        fusion: blocks of the last network of the entropy parameters.
        quantizer: registry config of the tokens' codebook.
        entropy_model: registry config of the model of its indices.
    """

    conditional = True
    encoder_only = ("condition.", "combine.", "guide.", "enhancement.", "features.", "out.", "quantizer.")

    def __init__(
        self,
        channels: int,
        tokens: int = 16,
        heads: int = 8,
        fusion: int = 2,
        quantizer: dict | None = None,
        entropy_model: dict | None = None,
    ):
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared by {heads} heads")
        self.tokens, self.heads = tokens, heads
        maps, mixed = tokens * heads, channels + channels // 2
        block = SumDepthConvBlock
        # both sides: what the context says
        self.temporal_prior = conv3x3(channels, channels)
        self.weights = nn.Sequential(
            *(layer for _ in range(3) for layer in (block(channels, channels), nn.LeakyReLU(0.01))),
            conv1x1(channels, maps),
        )
        # the encoder: a frame to tokens
        self.condition = conv3x3(channels, channels // 2)
        self.combine = nn.Sequential(block(mixed, mixed), block(mixed, mixed))
        self.guide = block(mixed, channels)
        self.enhancement = nn.Sequential(block(channels + maps, mixed), nn.LeakyReLU(0.01), block(mixed, maps))
        self.features = nn.Sequential(block(mixed, channels), nn.LeakyReLU(0.01), conv1x1(channels, channels))
        self.out = nn.Linear(channels, channels)
        # the decoder: tokens to entropy parameters
        self.values = conv1x1(channels, channels)
        self.spread = nn.Sequential(block(channels, channels), nn.LeakyReLU(0.01), conv1x1(channels, channels))
        self.adaptors = nn.ModuleList(
            nn.Sequential(block(2 * channels, 2 * channels), conv1x1(2 * channels, 3 * channels)) for _ in range(2)
        )
        self.fusion = nn.Sequential(*(block(3 * channels, 3 * channels) for _ in range(fusion)))
        with torch.no_grad():  # start from a step and a scale of one
            self.fusion[-1][-1].conv_out.bias[: 2 * channels] += 1.0  # pyright: ignore[reportIndexIssue]
        self.sigmoid = FixedSigmoid()
        self.build_codes(channels, quantizer, entropy_model)

    @property
    def exact(self) -> list[nn.Module]:
        return [self.temporal_prior, self.weights, self.values, self.spread, self.adaptors, self.fusion, self.sigmoid]

    def forward(self, y: Tensor, context: Tensor, fresh: bool) -> HyperOutput:
        """``y`` and ``context`` (B, C, h, w) -> likelihoods of z, ``params``, the codebook ``loss`` and ``indices``.

        ``fresh`` frames have entropy parameters of their own: their context comes from an intra frame, or is refreshed.
        """
        prior = self.temporal_prior(context)
        maps = self._maps(prior)
        z_hat, indices, loss = self.quantizer(self._tokens(y, context, maps))
        if not self.training:
            with torch.autocast(y.device.type, enabled=False):  # in bf16 these would not be the decoder's codes
                z_hat = self.z_hat(indices)
        return {
            "likelihoods": {"z": self.entropy_model(indices)},
            "params": self._params(z_hat, prior, maps, fresh),
            "loss": loss,
            "indices": indices,
        }

    def encode(self, encoder: Encoder, y: Tensor, context: Tensor, fresh: bool) -> Tensor:
        """Code one frame's z and return ``params``."""
        prior = self.temporal_prior(context)
        maps = self._maps(prior)
        indices = self.quantizer(self._tokens(y, context, maps)).indices
        self.put(encoder, indices)
        return self._params(self.z_hat(indices, self.codes), prior, maps, fresh)

    def decode(self, decoder: Decoder, context: Tensor, fresh: bool) -> Tensor:
        """Read z and return the very ``params`` that the encoder had, given the same context."""
        prior = self.temporal_prior(context)
        z_hat = self.z_hat(self.get(decoder, (self.tokens, 1)), self.codes)
        return self._params(z_hat, prior, self._maps(prior), fresh)

    def _maps(self, prior: Tensor) -> Tensor:
        """Weight of every token and head at every position, (B, tokens * heads, h, w), from the context alone."""
        return self.sigmoid(self.weights(prior))

    def _tokens(self, y: Tensor, context: Tensor, maps: Tensor) -> Tensor:
        """z (B, C, tokens, 1)."""
        context, maps = context.to(y.dtype), maps.to(y.dtype)
        u = self.combine(torch.cat([y, self.condition(context)], 1))
        maps = torch.sigmoid(self.enhancement(torch.cat([self.guide(u), maps], 1)))
        maps = rearrange(maps, "b (k head) h w -> b k head h w", head=self.heads)
        features = rearrange(self.features(u), "b (head c) h w -> b head c h w", head=self.heads)
        tokens = einsum(features, maps, "b head c h w, b k head h w -> b k head c") / (y.shape[-2] * y.shape[-1])
        return rearrange(self.out(rearrange(tokens, "b k head c -> b k (head c)")), "b k c -> b c k 1")

    def _params(self, z_hat: Tensor, prior: Tensor, maps: Tensor, fresh: bool) -> Tensor:
        """(B, 3 * C, h, w): [step | scales | means]."""
        values = rearrange(self.values(z_hat), "b (head c) k 1 -> b k head c", head=self.heads)
        if values.dtype == torch.float64:  # products of grids, whose sums are exact in any order
            values = fixed(values)
        maps = rearrange(maps, "b (k head) h w -> b k head h w", head=self.heads)
        tokens = zip(values[..., None, None].unbind(1), maps[:, :, :, None].unbind(1), strict=True)
        h = sum(value * where for value, where in tokens) / self.tokens
        h = self.spread(rearrange(h, "b head c h w -> b (head c) h w"))
        return self.fusion(self.adaptors[0 if fresh else 1](torch.cat([h, prior], 1)))
