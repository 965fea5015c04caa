"""What types promise is what there is."""

from typing import get_type_hints

import pytest
import torch
from torch import nn

from glc_toolkit import models, registry, types
from glc_toolkit.components.losses.rate import Rate
from glc_toolkit.conformance import tiny
from glc_toolkit.models import GLCImage, tiles


def keys(output: type) -> set[str]:
    return set(get_type_hints(output))


def test_an_image_model_gives_the_keys_that_its_types_have(tiny_model):
    out = tiny_model(torch.rand(1, 3, 64, 64))
    assert set(out) == keys(types.ImageOutput) and set(out["likelihoods"]) == keys(types.Likelihoods)
    assert keys(types.ImageOutput) - {"x_hat"} == keys(types.LatentOutput)


def test_a_video_model_gives_the_keys_that_its_types_have():
    model = models.build(tiny.VIDEO).eval()
    frames = [torch.rand(1, 3, 64, 64) for _ in range(2)]
    with torch.no_grad():
        out = model(frames)
        latents = model.code_latents([model.image.analysis(frames[0]), model.analysis(frames[1])], out["quality"])
    assert set(out) == keys(types.ClipOutput) and set(latents) == keys(types.ClipLatents)
    assert all(set(one) == keys(types.Likelihoods) for one in out["likelihoods"])


@pytest.mark.parametrize("name", registry.names("hyper"))
def test_a_hyper_module_gives_the_keys_that_its_type_has(name):
    hyper = tiny.build("hyper", name)
    y = torch.randn(1, tiny.CHANNELS, 16, 16)
    out = hyper(y, y, True) if types.trait(hyper, "conditional") else hyper(y)
    assert keys(types.HyperOutput) - {"indices"} <= set(out) <= keys(types.HyperOutput)
    assert set(out["likelihoods"]) == keys(types.HyperLikelihoods)


def test_what_a_component_does_not_say_has_a_default():
    silent, said = nn.Identity(), tiny.build("backbone", "vqgan")
    assert types.trait(silent, "encoder_only") == () == types.trait(silent, "exact")
    assert types.trait(said, "encoder_only") == ("encoder.", "quantizer.")
    assert types.trait(Rate, "example_args")["lmbda"] == [4.0, 2.0, 1.0]
    assert set(types.PROMISES) == set(registry.KINDS) - {"codec"}


def test_a_component_that_lacks_a_promise_is_refused(plugin):
    plugin("tried", glc_metrics=lambda: {"bare": nn.Identity}, glc_entropy_models=lambda: {"none": nn.Identity})
    with pytest.raises(ValueError, match=r"metric 'bare' lacks higher_is_better of glc_toolkit\.types\.Metric"):
        registry.build("metric", {"name": "bare"})
    with pytest.raises(ValueError, match="entropy_model 'none' lacks put, get, update"):
        registry.build("entropy_model", {"name": "none"})


@pytest.mark.parametrize("overlap", [8, 16, 42])
def test_tiles_overlap_as_much_as_a_backbone_says(overlap, monkeypatch):
    """Blended tiles of what no tile changes are the whole."""
    monkeypatch.setattr(tiles, "SIDE", 64)
    model = GLCImage(tiny.MODEL).eval()
    assert model.tile_overlap == 32
    model.backbone.tile_overlap, model.backbone.synthesis = overlap, lambda l: seen.append(l.shape) or l.clone()
    model.backbone.downsampling, seen = 1, []
    l = torch.rand(1, tiny.CHANNELS, 70, 90)
    torch.testing.assert_close(model.backbone_synthesis(l), l)
    assert len(seen) == len(range(0, 90 - overlap, 64 - overlap)) * len(range(0, 70 - overlap, 64 - overlap))
    model.backbone.tile_overlap = 43
    with pytest.raises(ValueError, match="tiles of 64 latents overlap by 1 to 42, not by 43"):
        model.backbone_synthesis(l)
