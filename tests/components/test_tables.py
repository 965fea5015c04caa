"""CompressAI's signatures and errors of entropy models."""

import pytest
import torch
from compressai.entropy_models import EntropyBottleneck

from glc_toolkit.components.entropy.factorized import FactorizedTable
from glc_toolkit.components.entropy.gaussian import GaussianTable
from glc_toolkit.components.entropy.tables import TableCoding


@pytest.fixture
def factorized() -> FactorizedTable:
    torch.manual_seed(0)
    model = FactorizedTable(3, max_symbol=20)
    model.update()
    return model


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 7), (4, 3), (0, 3, 4, 5), (2, 3, 0, 5)])
def test_a_factorized_model_is_called_as_an_entropy_bottleneck(factorized, shape):
    x = 5 * torch.randn(shape)
    strings = factorized.compress(x)
    assert len(strings) == len(x) and all(isinstance(string, bytes) for string in strings)
    x_hat = factorized.decompress(strings, x.shape[2:])
    assert x_hat.shape == x.shape
    torch.testing.assert_close(x_hat, factorized.quantize(x, "dequantize", torch.zeros(())))  # medians of zero


def test_what_is_beyond_the_tables_is_clamped(factorized):
    x = torch.full((1, 3, 2, 2), 1000.0)
    assert torch.equal(factorized.decompress(factorized.compress(x), (2, 2)), torch.full_like(x, 20.0))


def test_means_are_added(factorized):
    with torch.no_grad():
        factorized.quantiles[:, 0, 1] = torch.tensor([0.25, -0.5, 3.125])
    factorized.update(force=True)
    x = torch.randn(2, 3, 4)
    expected = EntropyBottleneck.forward(factorized.eval(), x)[0]
    torch.testing.assert_close(factorized.decompress(factorized.compress(x), (4,)), expected)


def test_gaussian_tables_are_called_with_indexes():
    model = GaussianTable()
    model.update()
    y, scales, means = 2 * torch.randn(2, 8, 4, 4), torch.rand(2, 8, 4, 4) + 0.2, torch.randn(2, 8, 1, 1)
    rows = model.rows(scales)
    y_hat = model.decompress(model.compress(y, rows, means), rows, means=means)
    torch.testing.assert_close(y_hat, (y - means).round() + means)
    assert model.compress(y[:0], rows[:0]) == [] and model.decompress([], rows[:0]).shape == (0, 8, 4, 4)
    with pytest.raises(ValueError, match="outside table"):
        model.compress(y + 1000, rows)


@pytest.mark.parametrize("shapes", [((1, 3), (2, 3)), ((1, 3, 1, 1), (2, 3)), ((3,), (3,))])
def test_shapes_that_do_not_go_together(shapes):
    with pytest.raises(ValueError, match="one shape of at least two dimensions"):
        TableCoding().compress(*map(torch.rand, shapes))


def test_mistakes_raise_what_they_raise_in_compressai(factorized):
    x, rows = torch.rand(1, 3, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.long)
    with pytest.raises(TypeError):
        TableCoding().compress(x)
    for empty in (TableCoding(), FactorizedTable(3)):
        with pytest.raises(ValueError, match=r"call update\(\)"):
            TableCoding.compress(empty, x, rows)
        with pytest.raises(ValueError, match=r"call update\(\)"):
            TableCoding.decompress(empty, [b"abc"], rows)
    for strings, means in (("abc", None), ([b"a", b"b"], None), ([b"a"], torch.rand(2, 3, 4, 4)), ([b"a"], x[0])):
        with pytest.raises(ValueError):
            TableCoding.decompress(factorized, strings, rows, means=means)
