import pytest
import torch

from glc_toolkit import io, registry
from glc_toolkit.components.metrics.lpips import LPIPS


@pytest.fixture
def pair(photo):
    """A real picture and a noisy one, both (1, 3, 256, 256)."""
    x = io.to_tensor(photo)[..., 100:356, 100:356]
    return (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1), x


# What the reference packages give for this pair: lpips 0.1.4, DISTS_pytorch 0.1 with the same weights, pytorch_msssim.
REFERENCE = {"lpips-alex": 0.5109138, "lpips-vgg": 0.5105019, "dists": 0.3142776, "ms-ssim": 0.7814820}


@pytest.mark.parametrize("name", REFERENCE)
def test_agrees_with_its_reference_package(name, pair):
    value = float(registry.build("metric", {"name": name})(*pair))
    assert value == pytest.approx(REFERENCE[name], rel=1e-4)


def test_psnr_is_its_formula():
    psnr = registry.build("metric", {"name": "psnr"})
    assert float(psnr(torch.full((1, 3, 8, 8), 0.6), torch.full((1, 3, 8, 8), 0.5))) == pytest.approx(20, abs=1e-4)


def test_small_images_have_no_ms_ssim():
    assert registry.build("metric", {"name": "ms-ssim"})(*torch.rand(2, 1, 3, 64, 64)).isnan().all()


def test_lpips_has_a_gradient_at_equal_images():
    x = torch.rand(1, 3, 64, 64)
    x_hat = x.clone().requires_grad_()
    LPIPS("alex")(x_hat, x).sum().backward()
    assert torch.isfinite(x_hat.grad).all()
