import copy

import pytest
import torch
from torch import nn

from glc_toolkit.components.backbones.vqgan import ResBlock
from glc_toolkit.conformance import tiny
from glc_toolkit.models.image import GLCImage
from glc_toolkit.training.grow import grow, state_from


def with_backbone(**args) -> GLCImage:
    config = copy.deepcopy(tiny.MODEL)
    config["backbone"]["args"].update(args)
    return GLCImage(config)


@pytest.mark.parametrize("norm", ["none", "group"])
def test_a_deeper_model_begins_as_the_shallower_one(norm):
    shallow = with_backbone(norm=norm, channels=32, encoder_blocks=1, decoder_blocks=[1, 2, 1])
    deep = with_backbone(norm=norm, channels=32, encoder_blocks=[1, 3, 2], decoder_blocks=[2, 3, 1])
    deep.load_state_dict(grow(deep, shallow))
    x = torch.rand(1, 3, 64, 64)
    l = shallow.backbone.analysis(x)
    assert torch.equal(deep.backbone.analysis(x), l)
    assert torch.equal(deep.backbone.synthesis(l), shallow.backbone.synthesis(l))
    assert sum(p.numel() for p in deep.parameters()) > sum(p.numel() for p in shallow.parameters())


@pytest.mark.parametrize("patch", [2, 4])
def test_a_residual_head_begins_as_the_plain_one(patch):
    plain, headed = with_backbone(norm="none", patch=patch), with_backbone(norm="none", patch=patch, head=16)
    headed.load_state_dict(grow(headed, plain))
    l = torch.randn(1, 16, 4, 4)
    torch.testing.assert_close(headed.backbone.synthesis(l), plain.backbone.synthesis(l))


def test_a_head_too_narrow_for_the_pixels_is_refused():
    plain, narrow = with_backbone(norm="none", patch=4), with_backbone(norm="none", patch=4, head=8)
    with pytest.raises(ValueError, match="8 features for the 12 pixels"):
        grow(narrow, plain)


def test_a_block_that_began_as_nothing_learns():
    deep = with_backbone(encoder_blocks=3)
    deep.load_state_dict(grow(deep, with_backbone(encoder_blocks=1)))
    deep.backbone.analysis(torch.rand(1, 3, 64, 64)).square().mean().backward()
    assert all(block.conv2.weight.grad.any() for block in deep.backbone.encoder.blocks if hasattr(block, "conv2"))


def test_the_same_depth_gives_the_same_weights(tiny_model):
    state = grow(GLCImage(tiny.MODEL), tiny_model)
    assert all(torch.equal(value, state[key]) for key, value in tiny_model.state_dict().items())


def test_a_shallower_model_lacks_the_last_blocks_of_a_level():
    deep = with_backbone(norm="none", patch=4, head=16, channels=32, decoder_blocks=[3, 3, 3])
    shallow = with_backbone(norm="none", patch=4, head=16, head_blocks=1, channels=32, decoder_blocks=[2, 3, 3])
    shallow.load_state_dict(grow(shallow, deep))
    generator = deep.backbone.generator
    blocks = [i for i, layer in enumerate(generator.blocks) if isinstance(layer, ResBlock)]
    generator.blocks[blocks[-1]] = nn.Identity()
    generator.head[3] = nn.Identity()
    l = torch.randn(1, 16, 4, 4)
    assert torch.equal(shallow.backbone.synthesis(l), deep.backbone.synthesis(l))


def test_a_block_that_changes_the_width_cannot_be_left_out():
    start = with_backbone(multipliers=[1, 1, 2], decoder_blocks=[1, 1, 1])
    model = with_backbone(multipliers=[1, 1, 2], decoder_blocks=[1, 0, 1])
    with pytest.raises(ValueError, match=r"generator\.blocks is not that of the model to start from"):
        grow(model, start)


def test_a_wider_model_is_refused():
    with pytest.raises(ValueError, match=r"encoder\.blocks is not that of the model to start from"):
        grow(with_backbone(encoder_blocks=3, channels=32), with_backbone(encoder_blocks=2))


def test_a_slot_differs_only_where_it_begins_anew(tiny_folder):
    model = GLCImage(tiny.model_config(hyper={"name": "factorized"}))
    with pytest.raises(ValueError, match=r"hyper\..*: not as in .*, which the recipe starts from; .* under anew"):
        state_from(model, str(tiny_folder), [])
    with pytest.raises(ValueError, match="anew names head; the model has backbone, "):
        state_from(model, str(tiny_folder), ["head"])


@pytest.mark.parametrize(
    ("part", "changes"), [("hyper", {"hyper": {"name": "factorized"}}), ("backbone.generator", {})]
)
def test_a_part_begins_anew(part, changes, tiny_folder, tiny_model):
    torch.manual_seed(1)
    model = GLCImage(tiny.model_config(**changes))
    state = state_from(model, str(tiny_folder), [part])
    begins = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    for name, value in model.named_parameters():
        if name.startswith("auxiliary."):  # of no state dict
            continue
        from_start = not name.startswith(f"{part}.")
        assert torch.equal(value, tiny_model.state_dict()[name].float() if from_start else begins[name]), name
