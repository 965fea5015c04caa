import pytest
import torch
import torch.nn.functional as F

from glc_toolkit.components.layers import DepthConvBlock, GatedDepthConvBlock
from glc_toolkit.conformance import tiny


def test_a_fresh_transform_learns_to_repeat_a_large_latent():
    """What a ``vqvae`` stage leaves has any scale, and each block multiplies two branches of it."""
    torch.manual_seed(0)
    transform = tiny.build("transform", "gated").train()
    optimizer = torch.optim.AdamW(transform.parameters(), 1e-3)
    errors = []
    for _ in range(80):
        l = torch.randn(2, tiny.CHANNELS, 2, 2)
        quality = 2 * torch.rand(2)
        loss = F.mse_loss(transform.synthesis(transform.analysis(40 * l, quality), quality) / 40, l)
        errors.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert max(errors) < 5
    assert sum(errors[-10:]) < 0.5 * sum(errors[:10])


@pytest.mark.parametrize("block", [DepthConvBlock, GatedDepthConvBlock])
def test_products_are_bounded_where_they_learn_alone(block):
    torch.manual_seed(0)
    blocks = torch.nn.Sequential(*(block(16, 16) for _ in range(12)))
    x = torch.randn(1, 16, 4, 4)
    assert torch.equal(blocks.train()(x), blocks.eval()(x))
    assert blocks.train()(100 * x).isfinite().all()
    assert not blocks.eval()(100 * x).isfinite().all()
    assert not blocks.train().requires_grad_(False)(100 * x).isfinite().all()
