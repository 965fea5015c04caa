"""The checks that the built-ins pass, a smoke test of training, and what only this loss promises.

The ViT has random weights here: its own have to be downloaded.
"""

import json

import pytest
import torch

from glc_toolkit import registry
from glc_toolkit.conformance import smoke
from glc_toolkit.conformance.test_components import *  # noqa: F403

PLUGIN = "glc_vit_gan"
ARGS = {"vit": "test_vit", "pretrained": False, "depths": [1, -1], "width": 16}


@pytest.fixture
def loss():
    return registry.build("loss", {"name": "dists_vit_gan", "args": ARGS})


def test_a_recipe_trains_with_it(tmp_path):
    smoke.train(tmp_path, losses={"dists_vit_gan": {"weight": 0.5, "args": ARGS}})
    last = json.loads((tmp_path / "run" / "smoke" / "log.jsonl").read_text().splitlines()[-1])
    assert {"dists_vit_gan", "discriminator"} < set(last)


def test_in_a_run_the_heads_learn_and_the_vit_does_not(tmp_path, monkeypatch):
    built, build = [], registry.build

    def keep(kind, config, **defaults):
        part = build(kind, config, **defaults)
        if config["name"] == "dists_vit_gan":
            built.append((part, {k: v.clone() for k, v in part.state_dict().items()}))
        return part

    monkeypatch.setattr(registry, "build", keep)
    smoke.train(tmp_path, losses={"dists_vit_gan": {"args": ARGS}})
    assert len(built) == 2  # one for each stage
    for part, before in built:
        moved = {name for name, value in part.state_dict().items() if not torch.equal(value, before[name])}
        assert moved and all(name.startswith("discriminator.heads.") for name in moved)


def test_the_heads_learn_to_tell_noise_from_pictures(loss):
    x = torch.linspace(0, 1, 64).expand(4, 3, 64, 64)
    out = {"x": x, "x_hat": torch.rand(4, 3, 64, 64)}
    optimizer = torch.optim.Adam(loss.discriminator.heads.parameters(), 0.01)
    first = loss.discriminator_loss(out).item()
    for _ in range(20):
        optimizer.zero_grad()
        value = loss.discriminator_loss(out)
        value.backward()
        optimizer.step()
    assert value.item() < 0.5 * first
    assert loss({**out, "x_hat": x}) < loss(out)


def test_pictures_are_judged_one_by_one_and_at_any_size(loss):
    loss.eval()
    x = torch.rand(3, 3, 70, 100)
    with torch.no_grad():
        together, alone = loss.discriminator(x), loss.discriminator(x[:1])
    assert together.shape == (3, 2 * 4 * 6)
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)
