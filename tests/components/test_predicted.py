import pytest
import torch

from glc_toolkit.components.transforms.predicted import PredictedTransform


@torch.no_grad()
def test_it_begins_as_a_scaled_difference():
    transform = PredictedTransform(16, 12, levels=2, spread=4.0)
    l, context, quality = torch.randn(2, 16, 4, 5), torch.randn(2, 12, 4, 5), torch.tensor([0.0, 1.0])
    y = transform.analysis(l, quality, context)
    torch.testing.assert_close(y, (l[:, :12] - context) * torch.tensor([0.5, 2.0])[:, None, None, None])
    l_hat = transform.synthesis(y, quality, context)
    assert l_hat.shape == l.shape
    torch.testing.assert_close(l_hat[:, :12], l[:, :12])


def test_a_latent_narrower_than_the_context_is_refused():
    with pytest.raises(ValueError, match="16 channels, so it cannot have 20"):
        PredictedTransform(16, 20)
