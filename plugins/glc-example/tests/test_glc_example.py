import torch

from glc_toolkit import registry


def test_both_components_are_registered_under_this_plugin():
    assert registry.plugin_of("loss", "focal_frequency") == "glc_example"
    assert registry.plugin_of("quantizer", "cosine") == "glc_example"


def test_focal_frequency_is_zero_for_equal_pictures_and_grows():
    loss = registry.build("loss", {"name": "focal_frequency"})
    x = torch.rand(1, 3, 32, 32)
    near, far = (loss({"x": x, "x_hat": x + step}) for step in (0.01, 0.1))
    assert loss({"x": x, "x_hat": x}) == 0
    assert 0 < near < far


def test_cosine_codes_have_the_stated_length():
    quantizer = registry.build("quantizer", {"name": "cosine"}, channels=16)
    values = quantizer(torch.randn(1, 16, 4, 4)).values
    torch.testing.assert_close(values.norm(dim=1), torch.full((1, 4, 4), 4.0))
