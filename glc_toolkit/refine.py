"""Encoding with more effort: gradient descent on the latent of one picture, for the decoder as it is.

A trained encoder gives what is good for pictures on average. The latent of this one can be made better for the same
decoder and the same number of bits (Campos et al., CVPRW 2019; Yang et al., NeurIPS 2020): the stream gets no new
element, and decoding costs what it did.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from glc_toolkit import registry
from glc_toolkit.components.fixed_point import to_floating_point
from glc_toolkit.components.losses.rate import bpp_estimate
from glc_toolkit.models import GLCImage
from glc_toolkit.models.base import has_bf16
from glc_toolkit.models.tiles import spans

LEARNING_RATE = 0.2  # of Adam, in standard deviations of the latent
BETAS = (0.8, 0.9)  # forgets soon, and with Nesterov's momentum: steps are few, and each has to count
SIDE, OVERLAP = 64, 8  # of the windows that distortion is measured in, in latents: what keeps memory within bounds
DISTS_SIDE, DISTS_SHARE = 16, 1 / 3  # VGG16 costs more than all else: each step looks at other parts, a third in all
MOVED = 1.0  # change of a latent, in variances, that leaves a third of what was found for it
CENTRES = (0.7548777, 0.5698403)  # from one part to the next, so that all of a picture has its turn (Roberts, 2018: R2)


class Distortion(nn.Module):
    """3 L1 + 2 LPIPS-Alex + 3 DISTS + 20 grid; DISTS on parts of the picture."""

    def __init__(self, network: GLCImage, x: Tensor):
        super().__init__()
        self.synthesis = network.backbone.synthesis
        self.cell = network.backbone.downsampling
        self.x = x
        self.turn = 0
        self.lpips = registry.build("metric", {"name": "lpips-alex"}).to(x.device)
        self.dists = registry.build("metric", {"name": "dists"}).to(x.device)
        self.grid = registry.build("metric", {"name": "grid", "args": {"period": self.cell}})

    def forward(self, l_hat: Tensor) -> Tensor:
        """-> the gradient, with respect to ``l_hat``, of the distortion of the picture that it gives."""
        l_hat = l_hat.detach().requires_grad_()
        height, width = l_hat.shape[-2:]
        for top, bottom in spans(height, SIDE, OVERLAP):
            for left, right in spans(width, SIDE, OVERLAP):
                x = self.cut(self.x, top, bottom, left, right)
                with torch.autocast(x.device.type, torch.bfloat16, enabled=has_bf16(x.device)):
                    x_hat = self.synthesis(l_hat[..., top:bottom, left:right]).float().clamp(0, 1)
                    loss = self.of_window(x_hat, x) * x.numel() / self.x.numel()
                loss.backward()
        assert l_hat.grad is not None
        return l_hat.grad

    def of_window(self, x_hat: Tensor, x: Tensor) -> Tensor:
        count = max(1, round(DISTS_SHARE * x[0, 0].numel() / (DISTS_SIDE * self.cell) ** 2))
        dists = sum(self.dists_of_part(x_hat, x) for _ in range(count)) / count
        loss = 3 * (x_hat - x).abs().mean() + 2 * self.lpips(x_hat, x).mean() + 3 * dists
        if min(x.shape[-2:]) > self.cell:  # there is something that can repeat
            loss = loss + 20 * self.grid(x_hat, x).mean()
        return loss

    def dists_of_part(self, x_hat: Tensor, x: Tensor) -> Tensor:
        self.turn += 1
        top, left = (self.place(side // self.cell, step) for side, step in zip(x.shape[-2:], CENTRES, strict=True))
        part_hat, part = (self.cut(t, top, top + DISTS_SIDE, left, left + DISTS_SIDE) for t in (x_hat, x))
        return self.dists(part_hat, part).mean()

    def place(self, length: int, step: float) -> int:
        """Where the part of this turn begins: its centre may lie anywhere, or edges would have fewer turns."""
        centre = self.turn * step % 1 * length
        return max(0, min(int(centre - DISTS_SIDE / 2), length - DISTS_SIDE))

    def cut(self, x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
        return x[..., top * self.cell : bottom * self.cell, left * self.cell : right * self.cell]


@torch.inference_mode(False)
@torch.enable_grad()
def refine(
    model: GLCImage,
    x: Tensor,
    quality: float,
    steps: int,
    progress: Callable[[float], object] = lambda share: None,
) -> Tensor:
    """The latent of ``x`` (1, 3, H, W) in [0, 1], made better in ``steps`` of gradient descent.

    Lambda is steered so that the rate at ``quality`` stays what it was. Returns (1, C, h, w), what
    :meth:`GLCImage.encode_payload` takes.
    """
    if steps < 0:
        raise ValueError(f"effort has to be a number of steps, not {steps}")
    network = differentiable(model)
    qualities = network.qualities(quality, 1, x.device)
    x = model.pad(x.clone())  # a copy takes part in gradients, though x may come from inference mode
    distortion = Distortion(network, x)
    l = model.analysis(x).float().requires_grad_()
    rate_of_step = LEARNING_RATE * float(l.detach().std())
    optimizer = torch.optim.NAdam([l], betas=BETAS)
    budget, lmbda = 0.0, 16.0
    for step in range(steps):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=has_bf16(x.device)):
            y = network.transform.analysis(l, qualities)
            with torch.no_grad():  # z follows y, but is not descended on
                hyper = network.hyper(y)
            y_hat, likelihoods = network.estimate(y, hyper["params"])
            l_hat = network.transform.synthesis(y_hat, qualities).float()
        rate = bpp_estimate({"y": likelihoods, **hyper["likelihoods"]}, x.shape[-2] * x.shape[-1])
        slope = distortion(l_hat)
        optimizer.zero_grad()
        (lmbda * rate + (l_hat * slope).sum()).backward()
        for group in optimizer.param_groups:
            group["lr"] = rate_of_step * (1 - step / steps) ** 0.7
        optimizer.step()
        budget = budget or rate.item()
        lmbda *= 1 + 0.5 * max(-0.3, min(rate.item() / budget - 1, 0.3))
        progress((step + 1) / steps)
    return l.detach()


class Found(NamedTuple):
    """What a descent came to for an intra frame. The frames after it need it, too, or they would have to undo it."""

    l: Tensor  #: what the encoder gave for the intra frame
    offset: Tensor  #: from there to what was found

    def added_to(self, l: Tensor) -> Tensor:
        """The latent of this or a later frame with the offset, where that still has the same to show."""
        change = (l - self.l).square().mean(1, keepdim=True) / self.l.var(correction=0).clamp(min=1e-12)
        return l + self.offset * torch.exp(-change / MOVED)


def differentiable(model: GLCImage) -> GLCImage:
    """A copy in float32 whose symbols pass gradients on; its hyper module and backbone stay as in use."""
    network = copy.deepcopy(model).requires_grad_(False)
    network.training = True  # or it would go back to fixed point
    to_floating_point(network)
    for part in (network.transform, network.context, network.entropy_model):
        part.train()
    return network
