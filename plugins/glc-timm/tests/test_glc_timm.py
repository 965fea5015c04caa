"""The checks that the built-ins pass, a smoke test of training, and what only this backbone promises."""

import pytest
import torch
from glc_timm import backbone as b

from glc_toolkit import zoo
from glc_toolkit.conformance import smoke
from glc_toolkit.conformance.test_components import *  # noqa: F403
from glc_toolkit.conformance.tiny import model_config
from glc_toolkit.models.image import GLCImage

PLUGIN = "glc_timm"
SMALL = {"name": "timm", "args": {"encoder": "test_convnext", "width": 16, "blocks": 1}}


def test_a_recipe_trains_with_it(tmp_path):
    model = smoke.train(tmp_path, model={"backbone": SMALL})
    assert isinstance(model.backbone, b.TimmBackbone)
    x = torch.rand(1, 3, 60, 70)
    assert model.decompress(*model.compress(x).values())["x_hat"].shape == x.shape


@pytest.mark.parametrize("encoder, downsampling", [("test_resnet", 16), ("test_efficientnet", 8), ("resnet18", 2)])
def test_other_encoders_and_strides(encoder, downsampling):
    backbone = b.TimmBackbone(encoder, downsampling=downsampling, latent_channels=4, width=16)
    l = backbone.eval().analysis(torch.rand(1, 3, 64, 96))
    assert l.shape == (1, 4, 64 // downsampling, 96 // downsampling)
    assert backbone.synthesis(l).shape == (1, 3, 64, 96)


def test_a_stride_that_is_not_there_is_explained():
    with pytest.raises(ValueError, match="test_convnext has features at 4, none at 64"):
        b.TimmBackbone("test_convnext", downsampling=64)


@pytest.mark.parametrize("encoder", ["convnext_atto", "resnet18"])
def test_a_file_of_weights_is_loaded_whatever_timm_builds_on_the_way(encoder, tmp_path):
    config = model_config(backbone={"name": "timm", "args": {"encoder": encoder}})
    zoo.load(zoo.save(GLCImage(config), tmp_path / "model", "model"))


def test_pretrained_weights_are_fetched_once_and_only_to_train(monkeypatch):
    fetched = []

    def features(name, downsampling, pretrained=False):
        fetched.extend([name] * pretrained)
        return plain(name, downsampling)

    plain = b.features
    monkeypatch.setattr(b, "features", features)
    backbone = b.TimmBackbone("test_convnext", pretrained=True, width=16, blocks=1)
    x = torch.rand(1, 3, 32, 32)
    backbone.eval().analysis(x)
    assert fetched == []
    backbone.train().analysis(x)
    backbone.analysis(x)
    assert fetched == ["test_convnext"]
    again = b.TimmBackbone("test_convnext", pretrained=True, width=16, blocks=1)
    again.load_state_dict(backbone.state_dict())
    again.analysis(x)
    assert fetched == ["test_convnext"]
