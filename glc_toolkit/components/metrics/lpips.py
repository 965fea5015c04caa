"""LPIPS v0.1 (Zhang et al., CVPR 2018) on AlexNet or VGG16, with the weights of the shipped zoo."""

import math
from functools import reduce

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from glc_toolkit.paths import shipped_zoo

# inputs, outputs, kernel, stride, padding; None is a 3x3 (AlexNet) or 2x2 (VGG16) max-pooling with stride 2.
ALEX = (
    (3, 64, 11, 4, 2),
    None,
    (64, 192, 5, 1, 2),
    None,
    (192, 384, 3, 1, 1),
    (384, 256, 3, 1, 1),
    (256, 256, 3, 1, 1),
)
VGG_WIDTHS = (64, 64, None, 128, 128, None, 256, 256, 256, None, 512, 512, 512, None, 512, 512, 512)
TAPS = {"alex": (0, 1, 2, 3, 4), "vgg": (1, 3, 6, 9, 12)}
SHORTEST = {"alex": 31, "vgg": 16}  # side; of less, the poolings leave nothing
VGG_PIXELS = 2**22  # VGG16 takes 1.5 kB for each


class Features(nn.Module):
    """The convolutions of AlexNet or VGG16; gives the activations LPIPS compares."""

    def __init__(self, net: str, weights: dict[str, Tensor]):
        super().__init__()
        self.taps = TAPS[net]
        self.plan: tuple = ALEX if net == "alex" else VGG_WIDTHS
        self.pool = 3 if net == "alex" else 2
        self.convs = nn.ModuleList()
        width = 3
        for layer in self.plan:
            if layer is None:
                continue
            if isinstance(layer, tuple):
                inputs, outputs, kernel, stride, padding = layer
                conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
            else:
                conv = nn.Conv2d(width, layer, 3, padding=1)
                width = layer
            i = len(self.convs)
            conv.load_state_dict({k: weights[f"conv{i}.{k}"].float() for k in ("weight", "bias")})
            self.convs.append(conv)

    def downsample(self, h: Tensor) -> Tensor:
        return F.max_pool2d(h, self.pool, stride=2)

    def forward(self, h: Tensor, stages: int = 5) -> list[Tensor]:
        taps, i = [], 0
        for layer in self.plan:
            if len(taps) == stages:
                break
            if layer is None:
                h = self.downsample(h)
                continue
            h = F.relu(self.convs[i](h))
            if i in self.taps:
                taps.append(h)
            i += 1
        return taps


class LPIPS(nn.Module):
    """Learned perceptual distance; 0 for equal images. Differentiable; the network itself is frozen."""

    higher_is_better = False
    shift: Tensor
    scale: Tensor

    def __init__(self, net: str = "alex"):
        super().__init__()
        weights = load_file(shipped_zoo() / f"lpips-{net}" / "model.safetensors")
        self.shortest_side = SHORTEST[net]
        self.most_pixels = VGG_PIXELS if net == "vgg" else math.inf
        self.features = Features(net, weights)
        self.heads = nn.ParameterList(weights[f"lin{i}"].float() for i in range(5))
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def unit_features(self, x: Tensor) -> list[Tensor]:
        taps = self.features((2 * x - 1 - self.shift) / self.scale)
        return [f.float() * (f.float().square().sum(1, keepdim=True) + 1e-20).rsqrt() for f in taps]

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        pairs = zip(self.unit_features(x_hat), self.unit_features(x), self.heads, strict=True)
        return reduce(torch.add, [((a - b).square() * head).sum(1).mean((1, 2)) for a, b, head in pairs])


def lpips_alex() -> LPIPS:
    """LPIPS on AlexNet, the one papers report."""
    return LPIPS("alex")


def lpips_vgg() -> LPIPS:
    """LPIPS on VGG16."""
    return LPIPS("vgg")
