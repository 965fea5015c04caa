import itertools

import pytest
import torch
import torch.nn.functional as F

from glc_toolkit.conformance import tiny
from glc_toolkit.models import tiles
from glc_toolkit.models.image import GLCImage


@pytest.mark.parametrize("length", [1, 31, 128, 129, 159, 160, 161, 224, 300, 1000])
def test_tiles_cover_a_side_once(length):
    spans = tiles.spans(length)
    total = torch.zeros(3 * length)
    for start, end in spans:
        total[3 * start : 3 * end] += tiles.share(start, end, length, 3)
        assert end - start <= tiles.SIDE and start % 32 == 0
    torch.testing.assert_close(total, torch.ones(3 * length))
    assert all(end > after[0] for (_, end), after in itertools.pairwise(spans))


def test_tiles_of_a_map_that_sees_little_around_are_the_whole():
    kernel = torch.ones(1, 1, 9, 9) / 81
    t = torch.rand(1, 1, 2 * 140, 2 * 200)
    calls = []

    def half(t):
        calls.append(t.shape)
        return F.conv2d(t, kernel, padding=4)[..., ::2, ::2]

    torch.testing.assert_close(tiles.tiled(half, t, 2, 1), F.conv2d(t, kernel, padding=4)[..., ::2, ::2])
    assert len(calls) == 4 and max(shape.numel() for shape in calls) == (2 * tiles.SIDE) ** 2


def test_a_large_picture_goes_through_the_backbone_in_tiles(monkeypatch):
    """Whole and tiled: the same symbols but for rounding, the same picture."""
    torch.manual_seed(0)
    model = GLCImage(tiny.MODEL).eval()
    model.update()
    monkeypatch.setattr(tiles, "SIDE", 64)
    x = F.interpolate(torch.rand(1, 3, 30, 30), (16 * 64, 16 * 72), mode="bicubic").clamp(0, 1)
    with torch.no_grad():
        l = model.analysis(x)
        whole = model.backbone.analysis(x)
        assert (l - whole).abs().max() < 1e-4 * whole.abs().max()
        assert (model.backbone_synthesis(l) - model.backbone.synthesis(l)).abs().max() < 1e-4
