"""The training loop: one explicit loop for every stage, on Lightning Fabric.

stage I   "vqvae"   x -> l -> codes -> x_hat            learns the backbone
stage II  "latent"  l -> y -> y_hat -> l_hat            learns the codec in the latent, backbone frozen
stage III "joint"   x -> ... -> x_hat                   learns everything from pixels
"""

import json
import math
import time
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from glc_toolkit import registry
from glc_toolkit.components.losses.rate import bpp_estimate
from glc_toolkit.models.image import GLCImage
from glc_toolkit.training.data import Crops, find_pictures, split
from glc_toolkit.training.recipe import Recipe, Stage
from glc_toolkit.training.state import load_facts, load_state, save_state

PERCEPTUAL = ("l1", "lpips", "dists")  # what the adversarial term is balanced against


class TrainingError(RuntimeError):
    """A run that must not go on."""


class StageModule(nn.Module):
    """A model with the losses of a stage: one forward computes every term, as distributed engines want it."""

    def __init__(self, model: GLCImage, stage: Stage):
        super().__init__()
        self.model = model
        self.objective = stage.objective
        self.losses = nn.ModuleDict(
            {
                name: registry.build("loss", {"name": name, "args": term.args})
                for name, term in stage.losses.items()
                if name != "gan"
            }
        )
        for part, module in model.named_children():
            module.requires_grad_(part in stage.trains)

    def forward(self, x: Tensor, quality: Tensor) -> tuple[dict, dict[str, Tensor]]:
        out = {"x": x, **getattr(self, self.objective)(x, quality)}
        return out, {name: loss(out) for name, loss in self.losses.items()}

    def vqvae(self, x: Tensor, quality: Tensor) -> dict:
        l = self.model.backbone.analysis(x)
        l_hat, codes, loss = self.model.backbone.quantize(l)
        return {
            "l": l,
            "l_hat": l_hat,
            "codes": codes,
            "codebook_loss": loss,
            "x_hat": self.model.backbone.synthesis(l_hat),
        }

    def latent(self, x: Tensor, quality: Tensor) -> dict:
        self.model.backbone.eval()
        with torch.no_grad():
            l = self.model.backbone.analysis(x)
            codes = self.model.backbone.quantize(l).indices
        return {**self.model.code_latent(l, quality), "codes": codes}

    def joint(self, x: Tensor, quality: Tensor) -> dict:
        self.model.backbone.quantizer.eval()  # frozen: it only names the target codes
        out = self.model(x, quality)
        if "code_prediction" in self.losses:
            with torch.no_grad():
                out["codes"] = self.model.backbone.quantize(out["l"]).indices
        return out


def train(recipe: Recipe, folder: Path, fabric: Fabric | None = None, save_every: float = 300.0) -> GLCImage:
    """Run (or resume, from ``folder/state.safetensors``) a recipe; returns the averaged model in evaluation mode.

    Writes ``folder/state.safetensors`` every ``save_every`` seconds and ``folder/log.jsonl``.
    """
    fabric = fabric or Fabric(accelerator="auto", devices=1, precision=recipe.precision)
    fabric.seed_everything(recipe.seed, verbose=False)
    folder.mkdir(parents=True, exist_ok=True)
    pictures, _ = split(find_pictures(recipe.data.sources), recipe.data.holdout)
    model = GLCImage(recipe.model)
    average = AveragedModel(model)
    state = folder / "state.safetensors"
    facts = load_facts(state) if state.exists() else {"stage": 0, "step": 0, "seconds": 0.0, "images": 0}
    for number, stage in enumerate(recipe.stages):
        if number < facts["stage"]:
            continue
        run_stage(fabric, recipe, stage, number, model, average, pictures, folder, facts, save_every)
        facts.update(stage=number + 1, step=0, seconds=0.0)
        if fabric.is_global_zero:
            save_state(state, {"model": model, "average": average}, {}, facts)
    if facts["stage"] == len(recipe.stages) and state.exists():
        load_state(state, {"model": model, "average": average}, {})
    return average.module.eval()


def run_stage(fabric, recipe, stage: Stage, number, model, average, pictures, folder, facts, save_every):
    """One stage, from ``facts["step"]`` to its end."""
    state = folder / "state.safetensors"
    module = StageModule(model, stage).train()
    gan = registry.build("loss", {"name": "gan", "args": stage.losses["gan"].args}) if "gan" in stage.losses else None
    weights = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=stage.lr, betas=(0.9, 0.99), weight_decay=0.01)
    modules, optimizers = {"model": model, "average": average}, {}
    if state.exists() and facts["step"] == 0:
        load_state(state, modules, {})
        model.load_state_dict(average.module.state_dict())  # a stage starts from the averaged weights of the one before
    average.multi_avg_fn = get_ema_multi_avg_fn(stage.ema)
    modules["losses"], optimizers["optimizer"] = module.losses, optimizer
    if gan is not None:
        judge = torch.optim.AdamW(gan.parameters(), lr=stage.lr, betas=(0.5, 0.9), weight_decay=0.0)
        modules["gan"], optimizers["judge"] = gan, judge
    if facts["step"]:
        load_state(state, modules, optimizers)
    bare = module
    bare.to(memory_format=torch.channels_last)
    module, optimizer = fabric.setup(module, optimizer)
    if gan is not None:
        gan, judge = fabric.setup(gan.train(), judge)
        gan.mark_forward_method("discriminator_loss")
    data = Crops(pictures, stage.crop, recipe.data.scales, model.levels, recipe.seed + number)
    share = stage.batch // fabric.world_size
    first = [
        n
        for step in range(facts["step"], stage.steps)
        for n in range(
            step * stage.batch + fabric.global_rank * share, step * stage.batch + (fabric.global_rank + 1) * share
        )
    ]
    loader = fabric.setup_dataloaders(DataLoader(data, share, sampler=first), use_distributed_sampler=False)
    started = time.monotonic() - facts["seconds"]
    saved = time.monotonic()
    for step, (pixels, quality) in enumerate(loader, facts["step"]):
        progress = step / stage.steps
        if stage.minutes:
            progress = max(progress, (time.monotonic() - started) / 60 / stage.minutes)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = stage.lr * min(
                (step + 1) / stage.warmup, 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * progress))
            )
        x = (pixels.float() / 255).contiguous(memory_format=torch.channels_last)
        out, terms = module(x, quality)
        total = sum(stage.losses[name].weight * term for name, term in terms.items())
        if gan is not None and step >= stage.gan_start:
            gan.requires_grad_(False)
            terms["gan"] = gan(out)
            terms["gan_weight"] = adaptive_weight(bare, gan, out, terms, stage)
            total = total + stage.losses["gan"].weight * terms["gan_weight"] * terms["gan"]
            gan.requires_grad_(True)
        if not torch.isfinite(total):
            values = {name: float(term.detach()) for name, term in terms.items()}
            raise TrainingError(f"stage {stage.name!r}, step {step}: the loss is {float(total)} ({values})")
        optimizer.zero_grad()
        fabric.backward(total)
        terms["grad_norm"] = nn.utils.clip_grad_norm_(weights, stage.clip)
        optimizer.step()
        if "gan_weight" in terms:
            terms["discriminator"] = gan.discriminator_loss(out)
            judge.zero_grad()
            fabric.backward(terms["discriminator"])
            judge.step()
        average.update_parameters(model)
        facts["images"] += stage.batch
        if step % 50 == 0 and fabric.is_global_zero:
            elapsed = time.monotonic() - started
            line = {"stage": stage.name, "step": step, "seconds": round(elapsed, 1), "images": facts["images"]}
            line |= {name: round(float(term.detach()), 5) for name, term in terms.items()}
            if "likelihoods" in out:
                line["bpp"] = round(float(bpp_estimate(out["likelihoods"], stage.crop**2).mean()), 5)
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
        if time.monotonic() - saved > save_every and fabric.is_global_zero:
            facts.update(stage=number, step=step + 1, seconds=time.monotonic() - started)
            save_state(state, modules, optimizers, facts)
            saved = time.monotonic()


def adaptive_weight(module: StageModule, gan: nn.Module, out: dict, terms: dict, stage: Stage) -> Tensor:
    """The published balance: gradient norms of both losses at the generator's last weight."""
    pixels = sum(stage.losses[name].weight * terms[name] for name in PERCEPTUAL if name in terms)
    last = module.model.backbone.last_weight
    norms = [torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in (pixels, terms["gan"])]
    return gan.module.adaptive_weight(*norms) if hasattr(gan, "module") else gan.adaptive_weight(*norms)
