"""Transform coding in the latent: two pairs of blocks around the gain of the quality level (GLC, section 1.3)."""

from torch import Tensor, nn

from glc_toolkit.components.layers import GatedDepthConvBlock, conv1x1, conv3x3
from glc_toolkit.components.transforms.gains import Gain
from glc_toolkit.types import Block, Component


class GatedTransform(Component, nn.Module):
    """The paper's transform: gated depth-wise blocks.

    Args:
        latent_channels: width of ``l``.
        channels: width of ``y``.
        levels: quality levels.
        blocks: blocks on each side of each gain.
        spread: ratio of the last to the first gain before training.
    """

    encoder_only = ("enc_1.", "q_enc.", "enc_2.")
    block = GatedDepthConvBlock

    def __init__(self, latent_channels: int, channels: int, levels: int = 4, blocks: int = 2, spread: float = 1.0):
        super().__init__()
        self.levels = levels

        def stack(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(*(self.block(inputs if i == 0 else outputs, outputs) for i in range(blocks)))

        self.enc_1 = stack(latent_channels, channels)
        self.q_enc = Gain(levels, channels, spread)
        self.enc_2 = stack(channels, channels)
        self.dec_1 = stack(channels, channels)
        self.q_dec = Gain(levels, channels, 1 / spread)
        self.dec_2 = stack(channels, latent_channels)

    @property
    def exact(self) -> list[nn.Module]:
        """What decoding runs; the pictures of a video stand on it, so it has to have a fixed-point form."""
        return [self.dec_1, self.q_dec, self.dec_2]

    def analysis(self, l: Tensor, quality: Tensor) -> Tensor:
        """``l`` -> ``y`` on the same grid; ``quality`` (B,)."""
        return self.enc_2(self.q_enc(self.enc_1(l), quality))

    def synthesis(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """``y_hat`` -> ``l_hat``."""
        return self.dec_2(self.q_dec(self.dec_1(y_hat), quality))


class ConvBlock(Block):
    """Residual: 3x3, leaky ReLU, 3x3."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.body = nn.Sequential(conv3x3(inputs, outputs), nn.LeakyReLU(0.01), conv3x3(outputs, outputs))
        self.adaptor = conv1x1(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.adaptor(x)


class PlainTransform(GatedTransform):
    """The same shape with plain residual 3x3 blocks, for comparison."""

    block = ConvBlock
