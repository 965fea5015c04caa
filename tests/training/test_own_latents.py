import torch

from glc_toolkit.training.own_latents import FIRST, OwnLatents
from glc_toolkit.training.recipe import Stage


def own(count: int) -> OwnLatents:
    told = {"name": "s", "objective": "joint", "trains": [], "steps": 1, "losses": {}}
    return OwnLatents(Stage.model_validate({**told, "own_latents": count, "own_lr": 0.1}), 3, 2, seed=4)


def test_each_is_seen_once_in_a_turn():
    latents = own(5)
    rows = latents.rows(0, 20)
    turns = [rows[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(turn) == [0, 1, 2, 3, 4] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
    assert [latents.rows(first, 3) for first in (0, 4, 13)] == [rows[0:3], rows[4:7], rows[13:16]]


def test_they_begin_where_the_encoder_is():
    latents = own(4)
    samples = {FIRST + row: (torch.full((3, 8, 8), row, dtype=torch.uint8), 0.0) for row in range(4)}
    latents.begin(samples, lambda x: x[:, :, ::4, ::4] * 255)  # pyright: ignore
    assert torch.equal(latents.l, torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 3, 2, 2))


def test_each_takes_the_steps_of_its_own_adam():
    torch.manual_seed(0)
    latents = own(4)
    latents.l.normal_()
    seen = latents.l[[3, 1]].clone().requires_grad_()
    adam = torch.optim.Adam([seen], lr=0.0, betas=(latents.mean_decay, latents.square_decay), eps=1e-12)
    others = latents.l[[0, 2]].clone()
    for share in (1.0, 0.7, 0.2):
        grad = torch.randn(2, 3, 2, 2)
        adam.param_groups[0]["lr"] = float(share * 0.1 * latents.l.std())
        seen.grad = grad
        adam.step()
        latents.step([3, 1], grad, share)
        torch.testing.assert_close(latents.l[[3, 1]], seen.detach())
    assert torch.equal(latents.l[[0, 2]], others)
