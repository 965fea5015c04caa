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
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from glc_toolkit import registry, zoo
from glc_toolkit.components.losses.rate import bpp_estimate
from glc_toolkit.models.image import GLCImage
from glc_toolkit.training.data import Crops, find_pictures, split
from glc_toolkit.training.recipe import Recipe, Stage
from glc_toolkit.training.state import load_facts, load_state, save_state

COLUMNS = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
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
        parts = dict(model.named_children())
        if unknown := set(stage.trains) - set(parts):
            raise ValueError(f"stage {stage.name!r} trains {', '.join(unknown)}, which is not among {', '.join(parts)}")
        if stage.crop % model.downsampling_factor:
            raise ValueError(
                f"stage {stage.name!r}: a crop of {stage.crop} is no multiple of {model.downsampling_factor}"
            )
        for part, module in parts.items():
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
    """Run a recipe, or go on with it from ``folder/state.safetensors``; returns the averaged model, evaluating.

    Writes that state every ``save_every`` seconds and a line of numbers to ``folder/log.jsonl`` every 50 steps.
    """
    fabric = fabric or Fabric(accelerator="auto", devices=1, precision=recipe.precision)
    fabric.seed_everything(recipe.seed, verbose=False)
    folder.mkdir(parents=True, exist_ok=True)
    pictures, _ = split(find_pictures(recipe.data.sources), recipe.data.holdout)
    model = GLCImage(recipe.model)
    if recipe.start is not None:
        model.load_state_dict(zoo.load(recipe.start).train().state_dict())
    average = AveragedModel(model)
    state = folder / "state.safetensors"
    facts = {"stage": 0, "step": 0, "seconds": 0.0, "images": 0}
    if state.exists():
        facts = load_facts(state)
        load_state(state, {"model": model, "average": average}, {})
    for number in range(facts["stage"], len(recipe.stages)):
        facts["stage"] = number
        run_stage(fabric, recipe, model, average, pictures, folder, facts, save_every)
        facts.update(stage=number + 1, step=0, seconds=0.0)
        if fabric.is_global_zero:
            save_state(state, {"model": model, "average": average}, {}, facts)
    return average.module.eval()


def run_stage(fabric, recipe: Recipe, model, average, pictures, folder: Path, facts: dict, save_every: float) -> None:
    """Stage ``facts["stage"]`` of a recipe, from step ``facts["step"]`` to its end."""
    stage = recipe.stages[facts["stage"]]
    state = folder / "state.safetensors"
    if facts["step"] == 0:
        model.load_state_dict(average.module.state_dict())  # a stage starts from the average of the one before

    module = StageModule(model, stage).train().to(memory_format=torch.channels_last)
    weights = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=stage.lr, betas=(0.9, 0.99), weight_decay=0.01)
    modules = {"model": model, "average": average, "losses": module.losses}
    optimizers = {"optimizer": optimizer}
    gan = judge = None
    if "gan" in stage.losses:
        gan = registry.build("loss", {"name": "gan", "args": stage.losses["gan"].args}).train()
        judge = torch.optim.AdamW(gan.parameters(), lr=stage.lr, betas=(0.5, 0.9), weight_decay=0.0)
        modules["gan"], optimizers["judge"] = gan, judge
    if facts["step"]:
        load_state(state, modules, optimizers)
    engine, optimizer = fabric.setup(module, optimizer)
    if gan is not None:
        gan, judge = fabric.setup(gan, judge)
        gan.mark_forward_method("discriminator_loss")

    loader = batches(fabric, recipe, stage, pictures, model.levels, facts)
    started = time.monotonic() - facts["seconds"]
    saved = time.monotonic()
    with Progress(*COLUMNS, disable=not fabric.is_global_zero, transient=True) as bar:
        task = bar.add_task(stage.name, total=1.0)
        for step, (pixels, quality) in enumerate(loader, facts["step"]):
            progress = step / stage.steps
            if stage.minutes:
                progress = max(progress, (time.monotonic() - started) / 60 / stage.minutes)
            if progress >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = stage.lr * schedule(step, progress, stage.warmup)

            x = (pixels.float() / 255).contiguous(memory_format=torch.channels_last)
            out, terms = engine(x, quality)
            total = sum(stage.losses[name].weight * term for name, term in terms.items())
            if gan is not None and step >= stage.gan_start:
                gan.requires_grad_(False)
                terms["gan"] = gan(out)
                terms["gan_weight"] = adaptive_weight(module, gan, out, terms, stage)
                total = total + stage.losses["gan"].weight * terms["gan_weight"] * terms["gan"]
                gan.requires_grad_(True)
            numbers = {name: round(float(term.detach()), 5) for name, term in terms.items()}
            if not torch.isfinite(total):
                raise TrainingError(
                    f"stage {stage.name!r}, step {step}: the loss is {float(total.detach())} ({numbers})"
                )
            optimizer.zero_grad()
            fabric.backward(total)
            numbers["grad_norm"] = round(float(nn.utils.clip_grad_norm_(weights, stage.clip)), 5)
            optimizer.step()
            if "gan_weight" in terms:
                judgement = gan.discriminator_loss(out)
                judge.zero_grad()
                fabric.backward(judgement)
                judge.step()
                numbers["discriminator"] = round(float(judgement.detach()), 5)
            # young averages forget faster, or the weights that a stage began with would linger in a short one
            average.multi_avg_fn = get_ema_multi_avg_fn(min(stage.ema, (1 + step) / (10 + step)))
            average.update_parameters(model)

            facts["images"] += stage.batch
            if "likelihoods" in out:
                numbers["bpp"] = round(float(bpp_estimate(out["likelihoods"], stage.crop**2).detach().mean()), 5)
            seconds = time.monotonic() - started
            bar.update(task, completed=progress, description=f"{stage.name} {step}: {float(total.detach()):.4f}")
            if step % 50 == 0 and fabric.is_global_zero:
                line = {"stage": stage.name, "step": step, "seconds": round(seconds, 1), "images": facts["images"]}
                with (folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line | numbers) + "\n")
            if time.monotonic() - saved > save_every and fabric.is_global_zero:
                facts.update(step=step + 1, seconds=seconds)
                save_state(state, modules, optimizers, facts)
                saved = time.monotonic()


def batches(fabric, recipe: Recipe, stage: Stage, pictures, levels: int, facts: dict) -> DataLoader:
    """Batches from step ``facts["step"]`` on, this process's share of each: sample numbers follow from the step."""
    data = Crops(pictures, stage.crop, recipe.data.scales, levels, recipe.seed + facts["stage"])
    share = stage.batch // fabric.world_size
    steps = range(facts["step"], stage.steps)
    numbers = [s * stage.batch + fabric.global_rank * share + i for s in steps for i in range(share)]
    return fabric.setup_dataloaders(DataLoader(data, share, sampler=numbers), use_distributed_sampler=False)


def schedule(step: int, progress: float, warmup: int) -> float:
    """Linear warm-up, then half a cosine down to 2 %."""
    return min((step + 1) / warmup, 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * progress)))


def adaptive_weight(module: StageModule, gan: nn.Module, out: dict, terms: dict, stage: Stage) -> Tensor:
    """The published balance: gradient norms of both losses at the generator's last weight."""
    pixels = sum(stage.losses[name].weight * terms[name] for name in PERCEPTUAL if name in terms)
    last = module.model.backbone.last_weight
    norms = [torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in (pixels, terms["gan"])]
    return gan.module.adaptive_weight(*norms)
