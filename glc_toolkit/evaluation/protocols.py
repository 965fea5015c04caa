"""What exactly was measured, written into each result, so that two people get the same number."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from glc_toolkit import __version__

# The files of a protocol, as the sha256 of their sorted sha256.
PINNED = {"glc-kodak-v1": "c6c8e5aaf02cf314aaa490dcf178a54c263f93b70a9d8914cb56b55488cd3013"}
FREE = "glc-images-v1"  # the same rules on any pictures

RULES = {
    "colour": "8-bit RGB as Pillow reads it; EXIF turned, alpha over white, ICC profiles brought to sRGB",
    "size": "whole pictures, each alone; padding does not count as pixels",
    "rounding": "reconstructions are clamped and rounded to 8 bits before any metric",
    "bytes": "of the whole file that the decoder was given",
    "mean": "of the values of the pictures, bpp too",
}
METRICS = {
    "psnr": "RGB, of each picture, at most 100 dB",
    "ms-ssim": "pytorch_msssim, RGB, five scales; none for sides up to 160",
    "lpips-alex": "LPIPS v0.1, AlexNet",
    "lpips-vgg": "LPIPS v0.1, VGG16, convolutions in float16 precision",
    "dists": "DISTS, [0, 1], no resizing, VGG16 in float16 precision",
    "grid": "cells of 16 x 16 from the top left; sign and log size of steps between neighbours, in grey",
    "fid": "Inception of torch-fidelity, 2048 features, torchmetrics",
    "kid": "as fid; mean of 100 subsets of 1000, seed 0, or all patches where there are fewer",
    "fd-efflite0": "Frechet distance on the 1280 pooled features of EfficientNet-Lite0, patches unresized",
    "kd-efflite0": "as fd-efflite0; kernel distance, subsets as in kid",
}
PATCHES = "256 x 256, grid from the top left and one shifted by half where both sides have 1.5 patches"
PACKAGES = ("torch", "pytorch-msssim", "torchmetrics", "pillow", "numpy")


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def describe(digests: Iterable[str], metrics: Iterable[str], name: str | None = None) -> dict:
    """The protocol of a run on files with these digests.

    Raises ``ValueError`` if the files are not those of the protocol ``name``.
    """
    digests, metrics = sorted(digests), list(metrics)
    images = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    found = next((known for known, pinned in PINNED.items() if pinned == images), FREE)
    if name not in (None, found, FREE):
        raise ValueError(f"these are not the pictures of {name}: the sha256 of their set is {images}")
    facts = {"name": name or found, "images": len(digests), "images_sha256": images, **RULES}
    if any(m in metrics for m in ("fid", "kid", "fd-efflite0", "kd-efflite0")):
        facts["patches"] = PATCHES
    facts["metrics"] = {m: METRICS.get(m, "of a plugin") for m in metrics}
    facts["versions"] = {"glc-toolkit": __version__, **{p: v for p in PACKAGES if (v := _version(p))}}
    return facts


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
