"""What hyper modules share: CompressAI's interface of a latent codec, and the networks of those for images."""

import torch
from compressai.latent_codecs import LatentCodec
from torch import Tensor, nn

from glc_toolkit.coder import Decoder, Encoder
from glc_toolkit.components.layers import DepthConvBlock, ResidualUpsample
from glc_toolkit.types import Component, EntropyCoder


class HyperModule(Component, LatentCodec):
    """Side information of ``y``. Subclasses say how z is quantized and coded (``forward``, ``encode``, ``decode``), and
    ``exact``, the modules that run in the entropy decoder. Those for images have the methods of ``types.Exportable``,
    too."""

    downsampling = 4  #: of z against y
    entropy_model: EntropyCoder

    def encode(self, encoder: Encoder, y: Tensor) -> Tensor:
        raise NotImplementedError

    def decode(self, decoder: Decoder, shape: tuple[int, int]) -> Tensor:
        raise NotImplementedError

    def update(self, force: bool = False) -> bool:
        """Fill the coding tables; True if that was needed."""
        return self.entropy_model.update(force=force)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the entropy path: float64 when the model is in evaluation."""
        return next(self.exact[0].parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.exact[0].parameters()).device

    def compress(self, y: Tensor) -> dict:
        """As ``compressai.latent_codecs``: ``strings`` [[one a sample]], the ``shape`` of z, and ``params``."""
        strings, params = [], []
        for sample in y:
            encoder = Encoder()
            params.append(self.encode(encoder, sample[None]))
            strings.append(encoder.bytes())
        shape = torch.Size(-(-side // self.downsampling) for side in y.shape[-2:])
        return {"strings": [strings], "shape": shape, "params": torch.cat(params)}

    def decompress(self, strings: list[list[bytes]], shape: torch.Size) -> dict:
        """The ``params`` that :meth:`compress` had."""
        return {"params": torch.cat([self.decode(Decoder(string), (shape[0], shape[1])) for string in strings[0]])}


class SpatialHyper(HyperModule):
    """The networks of a hyper module whose z is a map.

    Args:
        channels: of ``y``.
    """

    encoder_only = ("h_a.",)

    def __init__(self, channels: int):
        super().__init__()
        self.h_a = hyper_analysis(channels)
        self.h_s = HyperSynthesis(channels)

    @property
    def exact(self) -> list[nn.Module]:
        return [self.h_s]


def hyper_analysis(channels: int) -> nn.Sequential:
    """y (C at /16) -> z (C at /64) (GLC, section 1.4)."""
    return nn.Sequential(
        DepthConvBlock(channels, channels),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        nn.LeakyReLU(0.01),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1),
    )


class HyperSynthesis(nn.Sequential):
    """z_hat (C at /64) -> params (3C at /16): [step | scales | means] (GLC, sections 1.4 and 1.5)."""

    def __init__(self, channels: int):
        super().__init__(
            ResidualUpsample(channels, channels),
            ResidualUpsample(channels, channels),
            DepthConvBlock(channels, channels),
            DepthConvBlock(channels, 2 * channels),
            DepthConvBlock(2 * channels, 3 * channels),
        )
        with torch.no_grad():  # start from a step and a scale of one
            self[-1][-1].conv_out.bias[: 2 * channels] += 1.0  # pyright: ignore[reportIndexIssue]
