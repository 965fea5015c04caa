import pytest
import torch
import torch.nn.functional as F

from glc_toolkit.components.losses.gan import PatchGAN, ProjectedGAN


@pytest.fixture
def pictures() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    x = F.interpolate(torch.rand(2, 3, 24, 24), (48, 48), mode="bilinear")
    crosshatch = 0.1 * (-1) ** (torch.arange(48)[:, None] + torch.arange(48))
    return {"x": x, "x_hat": (x + crosshatch).clamp(0, 1)}


@pytest.fixture
def projected() -> ProjectedGAN:
    torch.manual_seed(0)
    return ProjectedGAN(width=16)


def test_heads_tell_a_pattern_within_a_few_steps(projected, pictures):
    learning = [p for p in projected.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-3)
    before = {key: value.clone() for key, value in projected.vgg.state_dict().items()}
    for _ in range(30):
        optimizer.zero_grad()
        loss = projected.discriminator_loss(pictures)
        loss.backward()
        optimizer.step()
    assert loss < 1.2  # 2 where nothing is told apart
    assert all(torch.equal(value, before[key]) for key, value in projected.vgg.state_dict().items())


def test_the_generator_is_told_what_looks_more_real(projected, pictures):
    test_heads_tell_a_pattern_within_a_few_steps(projected, pictures)
    x_hat = pictures["x_hat"].clone().requires_grad_()
    worse = projected({**pictures, "x_hat": x_hat})
    worse.backward()
    with torch.no_grad():
        better = projected({**pictures, "x_hat": x_hat - 0.02 * x_hat.grad.sign()})
    assert better < worse


def test_sizes_are_those_of_the_first_pictures(projected, pictures):
    projected.judge(pictures["x"])
    sizes = projected.sizes.clone()
    assert (sizes > 0).all()
    projected.judge(0.5 * pictures["x"])
    assert torch.equal(projected.sizes, sizes)


@pytest.mark.parametrize("kind", [PatchGAN, ProjectedGAN])
def test_the_adaptive_weight_has_a_limit(kind):
    gan = kind(limit=2.0)
    reconstruction, adversarial = torch.full((3,), 0.3), torch.full((3,), 0.2)
    torch.testing.assert_close(gan.adaptive_weight(reconstruction, adversarial), torch.tensor(1.5), atol=1e-3, rtol=0)
    assert gan.adaptive_weight(reconstruction, 0 * adversarial) == 2.0


def test_a_part_of_a_batch_may_be_judged(pictures):
    gan = ProjectedGAN(width=16, fraction=0.5, side=32)
    seen = {key: value.clone().requires_grad_() for key, value in pictures.items()}
    gan(seen).backward()
    touched = seen["x_hat"].grad != 0
    assert touched[0].any() and not touched[1].any()
    rows = touched[0].any(0).any(1).nonzero()
    assert rows.max() - rows.min() < 32
    with pytest.raises(ValueError, match="fraction"):
        ProjectedGAN(fraction=0.0)
