"""Encoding with more effort: gradient descent on the latent of the picture at hand, for the decoder as it is.

A trained encoder gives a latent that is good for pictures on average. Descent makes a better latent for one picture,
for the same decoder and as many bits (Campos et al., CVPRW 2019; Yang et al., NeurIPS 2020). The stream gets no new
element, and decoding costs what it did.
"""

import copy
import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from glc_toolkit import registry
from glc_toolkit.components.fixed_point import to_floating_point
from glc_toolkit.components.losses.rate import bpp_estimate
from glc_toolkit.models import GLCImage, GLCModel, GLCVideo
from glc_toolkit.models.modes import has_bf16
from glc_toolkit.models.tiles import spans
from glc_toolkit.models.video import Reference
from glc_toolkit.types import Backbone, InterOutput, LatentOutput

Model = TypeVar("Model", bound=GLCModel)
LEARNING_RATE = 0.35  # of Adam, in standard deviations of what coding changes in a channel of the latent
LEARNING_RATE_P = 0.1  # of a P frame, in standard deviations of the latent: it starts from what the last frame found
P_SHARE = 1 / 32  # steps of a P frame for each step of an intra frame: a P frame goes on where the last one stopped
LMBDA = 16.0  # distortion that a bit a pixel is worth, to begin with
VGG = 2.0  # weight of LPIPS-VGG for pictures
MEMORY = 0.9  # how much the bytes of a frame count one frame later, when the bytes of P frames are held
BETAS = (0.8, 0.9)  # forgets soon, and with Nesterov's momentum: steps are few, and each has to count
SIDE, OVERLAP = 64, 8  # of the windows that distortion is measured in, in latents: what keeps memory within bounds
PART_SIDE, PART_SHARE = 16, 1 / 3  # VGG16 costs more than all else: each step looks at other parts, a third in all
MOVED = 1.0  # change of a latent, in variances, that leaves a third of what was found for it
CENTRES = (0.7548777, 0.5698403)  # from one part to the next, so that all of a picture has its turn (Roberts, 2018: R2)


class Distortion(nn.Module):
    """3 L1 + 2 LPIPS-Alex + 3 DISTS + ``vgg`` LPIPS-VGG + 20 grid, of the pictures that ``backbone`` draws.

    DISTS and LPIPS-VGG look at parts of a picture. Clips leave LPIPS-VGG out: the few steps of a P frame cannot follow
    one more metric."""

    def __init__(self, backbone: Backbone, device: torch.device, vgg: float = 0.0):
        super().__init__()
        self.synthesis = backbone.synthesis
        self.cell = backbone.downsampling
        self.turn = 0
        self.lpips = registry.build("metric", {"name": "lpips-alex"}).to(device)
        self.dists = registry.build("metric", {"name": "dists"}).to(device)
        self.vgg = vgg
        self.lpips_vgg = registry.build("metric", {"name": "lpips-vgg"}).to(device) if vgg else None
        self.grid = registry.build("metric", {"name": "grid", "args": {"period": self.cell}})

    def forward(self, l_hat: Tensor, x: Tensor) -> Tensor:
        """-> the gradient, with respect to ``l_hat``, of the distortion of ``x`` in the picture that it gives."""
        l_hat = l_hat.detach().requires_grad_()
        height, width = l_hat.shape[-2:]
        for top, bottom in spans(height, SIDE, OVERLAP):
            for left, right in spans(width, SIDE, OVERLAP):
                window = self.cut(x, top, bottom, left, right)
                with torch.autocast(x.device.type, torch.bfloat16, enabled=has_bf16(x.device)):
                    window_hat = self.synthesis(l_hat[..., top:bottom, left:right]).float().clamp(0, 1)
                    loss = self.of_window(window_hat, window) * window.numel() / x.numel()
                loss.backward()
        assert l_hat.grad is not None
        return l_hat.grad

    def of_window(self, x_hat: Tensor, x: Tensor) -> Tensor:
        count = max(1, round(PART_SHARE * x[0, 0].numel() / (PART_SIDE * self.cell) ** 2))
        of_parts = sum(self.of_part(x_hat, x) for _ in range(count)) / count
        loss = 3 * (x_hat - x).abs().mean() + 2 * self.lpips(x_hat, x).mean() + of_parts
        if min(x.shape[-2:]) > self.cell:  # there is something that can repeat
            loss = loss + 20 * self.grid(x_hat, x).mean()
        return loss

    def of_part(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """What VGG16 minds in the part of this turn."""
        self.turn += 1
        top, left = (self.place(side // self.cell, step) for side, step in zip(x.shape[-2:], CENTRES, strict=True))
        part_hat, part = (self.cut(t, top, top + PART_SIDE, left, left + PART_SIDE) for t in (x_hat, x))
        loss = 3 * self.dists(part_hat, part).mean()
        if self.lpips_vgg is not None and min(part.shape[-2:]) >= self.cell:  # its poolings leave something
            loss = loss + self.vgg * self.lpips_vgg(part_hat, part).mean()
        return loss

    def place(self, length: int, step: float) -> int:
        """Where the part of this turn begins: its centre may lie anywhere, or edges would have fewer turns."""
        centre = self.turn * step % 1 * length
        return max(0, min(int(centre - PART_SIDE / 2), length - PART_SIDE))

    def cut(self, x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
        return x[..., top * self.cell : bottom * self.cell, left * self.cell : right * self.cell]


def check_effort(steps: int) -> None:
    if steps < 0:
        raise ValueError(f"effort has to be a number of steps, not {steps}")


@torch.inference_mode(False)
@torch.enable_grad()
def refine(
    model: GLCImage,
    x: Tensor,
    quality: float,
    steps: int,
    progress: Callable[[float], object] = lambda share: None,
    distortion: Distortion | None = None,
) -> Tensor:
    """The latent of ``x`` (1, 3, H, W) in [0, 1], made better in ``steps`` of gradient descent.

    Lambda is steered so that the rate at ``quality`` stays what it was. ``distortion`` is what is descended on, by
    default that of pictures. Returns (1, C, h, w), what
    :meth:`GLCImage.encode_payload` takes.
    """
    check_effort(steps)
    network = differentiable(model)
    qualities = network.qualities(quality, 1, x.device)
    distortion = distortion or Distortion(network.backbone, x.device, VGG)

    def code(l: Tensor) -> LatentOutput:
        return network.code_latent(l, qualities)

    l = model.analysis(x).float()
    with torch.no_grad():
        changed = code(l)["l_hat"].float() - l
    rate = LEARNING_RATE * changed.square().mean((0, 2, 3), keepdim=True).sqrt()  # sizes may differ a hundredfold
    return descend(l, code, distortion, model.pad(x), steps, rate, hold=True, progress=progress)


class VideoRefiner:
    """Finds the latents of a video's frames, one after another, each by a descent.

    An intra frame has ``effort`` steps, a P frame a few, from what was found for the frame before: where nothing moves,
    the descent goes on through the clip. Lambda is steered so that P frames take as many bytes as without.
    """

    @torch.inference_mode(False)
    def __init__(self, model: GLCVideo, effort: int):
        check_effort(effort)
        self.model, self.network = model, differentiable(model)
        self.effort, self.steps = effort, math.ceil(effort * P_SHARE)
        self.distortion = Distortion(self.network.backbone, next(model.parameters()).device)
        self.lmbda = LMBDA
        self.plain_bytes = 0  # of the frame at hand without the descent
        self.spent = self.budget = 0.0  # bytes of P frames: with the descent and without

    @torch.inference_mode(False)
    @torch.enable_grad()
    def latent(
        self, x: Tensor, l: Tensor, reference: Reference | None, quality_code: int, motion: Tensor | None
    ) -> Tensor:
        """A frame (1, 3, H, W) in [0, 1], its latent from the encoder and its motion -> a better latent for
        :meth:`GLCVideo.encode_payload`, given the same motion."""
        quality = self.model.quality_of(quality_code)
        if reference is None:
            self.plain, _ = self.model.encode_payload(l, quality_code, None)
            level = self.model.image_quality(quality)
            refined = refine(self.model.image, x, level, self.effort, distortion=self.distortion)
            self.found = Found(l, refined - l)
            return self.found.added_to(l)
        refined = self.refine_inter(self.found.added_to(l), x, reference, quality, motion)
        self.found = Found(l, refined - l)
        self.plain, plain = self.model.encode_payload(l, quality_code, self.plain, motion)
        self.plain_bytes = len(plain)
        return refined

    def steer(self, payload_bytes: int) -> None:
        """Take note of what the latent of a P frame took."""
        self.spent, self.budget = MEMORY * self.spent + payload_bytes, MEMORY * self.budget + self.plain_bytes
        if self.budget:  # frames in which nothing happens may take none
            self.lmbda = steered(self.lmbda, self.spent, self.budget)

    def refine_inter(self, l: Tensor, x: Tensor, reference: Reference, quality: float, motion: Tensor | None) -> Tensor:
        """The latent of a P frame, from ``l`` on."""
        qualities = self.network.qualities(quality, 1, x.device)

        def code(l: Tensor) -> InterOutput:
            return self.network.code_inter(l, reference, qualities, motion)

        rate = LEARNING_RATE_P * l.std(correction=0)
        return descend(l, code, self.distortion, self.model.pad(x), self.steps, rate, self.lmbda)


def descend(
    l: Tensor,
    code: Callable[[Tensor], LatentOutput] | Callable[[Tensor], InterOutput],
    distortion: Distortion,
    x: Tensor,
    steps: int,
    rate: Tensor,
    lmbda: float = LMBDA,
    hold: bool = False,
    progress: Callable[[float], object] = lambda share: None,
) -> Tensor:
    """``l``, better by ``steps`` for the padded picture ``x``.

    ``code`` is a model's ``code_latent``; ``rate``, of the first step, is one number or one a channel; ``hold`` steers
    ``lmbda`` so that the bits stay what they are at the start.
    """
    x = x.clone()  # a copy takes part in gradients, though x may come from inference mode
    l = l.float()
    offset = torch.zeros_like(l).requires_grad_()  # in rates of the first step
    optimizer = torch.optim.NAdam([offset], betas=BETAS)
    budget = 0.0
    for step in range(steps):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=has_bf16(x.device)):
            out = code(l + offset * rate)
        l_hat = out["l_hat"].float()
        bpp = bpp_estimate(out["likelihoods"], x.shape[-2] * x.shape[-1])
        slope = distortion(l_hat, x)
        optimizer.zero_grad()
        (lmbda * bpp + (l_hat * slope).sum()).backward()
        for group in optimizer.param_groups:
            group["lr"] = (1 - step / steps) ** 0.7
        optimizer.step()
        budget = budget or bpp.item()
        if hold:
            lmbda = steered(lmbda, bpp.item(), budget)
        progress((step + 1) / steps)
    return (l + offset * rate).detach()


def steered(lmbda: float, spent: float, budget: float) -> float:
    """Up where more is ``spent`` than the ``budget``, down where less is."""
    return lmbda * (1 + 0.5 * max(-0.3, min(spent / budget - 1, 0.3)))


class Found(NamedTuple):
    """What a descent found for a frame. The frame after it starts from that; otherwise it would have to undo it."""

    l: Tensor  #: what the encoder gave for the frame
    offset: Tensor  #: from there to what was found

    def added_to(self, l: Tensor) -> Tensor:
        """The latent of this or the next frame with the offset, where that still has the same to show."""
        change = (l - self.l).square().mean(1, keepdim=True) / self.l.var(correction=0).clamp(min=1e-12)
        return l + self.offset * torch.exp(-change / MOVED)


def differentiable(model: Model) -> Model:
    """A copy in float32 whose symbols pass gradients on. Its hyper module and backbone stay in evaluation: z follows y,
    but gets no gradient."""
    network = copy.deepcopy(model).requires_grad_(False)
    for module in network.modules():
        if isinstance(module, GLCModel):  # a video model has an image model in it
            module.training = True  # or it would go back to fixed point
    to_floating_point(network)
    for slot in ("transform", "context", "entropy_model"):
        network.get_submodule(slot).train()
    return network
