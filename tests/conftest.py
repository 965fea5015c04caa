import copy
import json
import types
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image

from glc_toolkit import api, hookimpl, models, progress, registry, zoo
from glc_toolkit.conformance import tiny
from glc_toolkit.models.image import GLCImage

# The same examples on every run, and no time limit on each: machines differ.
hypothesis.settings.register_profile("glc", deadline=None, derandomize=True)
hypothesis.settings.load_profile("glc")

ROOT = Path(__file__).parent.parent
progress.EVERY = 1e6  # on a slow machine a line of progress would come between those that tests read


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """The photograph that comes with the project."""
    return Image.open(ROOT / "docs" / "images" / "lake.png").convert("RGB")


@pytest.fixture(scope="session")
def model() -> GLCImage:
    """The default model."""
    return zoo.load(api.DEFAULT_MODEL)


@pytest.fixture(scope="session")
def known() -> dict:
    """What docs/results says of the default model's file of ``photo``: ``bytes bpp psnr lpips-alex`` and more."""
    folder = zoo.locate(api.DEFAULT_MODEL).name
    return json.loads((ROOT / "docs" / "results" / folder / "demo.json").read_text())[0]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A tiny untrained model as a zoo folder."""
    torch.manual_seed(0)
    return zoo.save(GLCImage(tiny.MODEL), tmp_path_factory.mktemp("zoo") / "tiny", "tiny")


@pytest.fixture(scope="session")
def tiny_model(tiny_folder) -> GLCImage:
    return zoo.load(tiny_folder)


@pytest.fixture(scope="session")
def tiny_video_folder(tmp_path_factory) -> Path:
    """A tiny untrained video model, likewise."""
    torch.manual_seed(0)
    return zoo.save(models.build(tiny.VIDEO), tmp_path_factory.mktemp("zoo") / "tiny-video", "tiny-video")


@pytest.fixture
def noise() -> np.ndarray:
    """A small picture (40, 56, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.fixture
def plugin():
    """Registers plugins made from functions, and takes them out again."""
    added = []

    def add(name, **hooks):
        module = types.SimpleNamespace(**{hook: hookimpl(function) for hook, function in hooks.items()})
        registry.register(module, name)
        added.append(name)

    yield add
    for name in added:
        registry.unregister(name)


def moving_config() -> dict:
    """The config of a tiny video model that follows motion, on a latent of thumbnails."""
    config = copy.deepcopy(tiny.VIDEO) | {"channels": 64}
    config["temporal"], config["transform"] = {"name": "moved_context"}, {"name": "predicted"}
    backbone = tiny.config("backbone", "thumbnail")
    config["image"] |= {"channels": 64, "backbone": backbone, "transform": {"name": "scaled"}}
    return config
