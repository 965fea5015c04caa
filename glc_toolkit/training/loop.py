"""The training loop: one explicit loop for every stage, on Lightning Fabric.

stage I   "vqvae"   x -> l -> codes -> x_hat            learns the backbone
stage II  "latent"  l -> y -> y_hat -> l_hat            learns the codec in the latent, backbone frozen
       or "thumbnail"  x -> ... -> l_hat -> t_hat       and what draws thumbnails, for a backbone that has these
stage III "joint"   x -> ... -> x_hat                   learns everything from pixels

A video model learns the last two on clips: the first frame is an intra frame of its image model, of which losses see
the pixels alone, and the others are so many pictures. Errors of a frame are felt in those after it. Through many frames
gradients explode, so that a clip may be several steps, a chunk of its frames each.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import TensorBoardLogger
from lightning.fabric.plugins.precision import MixedPrecision, Precision
from lightning.fabric.strategies import DDPStrategy
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch._functorch import config as functorch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset
from torchvision.utils import make_grid

from glc_toolkit import models, registry, zoo
from glc_toolkit.components.losses.rate import bpp_estimate
from glc_toolkit.models import GLCModel, GLCVideo
from glc_toolkit.models.video import Reference
from glc_toolkit.progress import shown
from glc_toolkit.training.data import ClipCrops, Crops, decode_clip, find_clips, find_pictures, split
from glc_toolkit.training.grow import begun, grown
from glc_toolkit.training.own_latents import FIRST, OwnLatents
from glc_toolkit.training.recipe import Recipe, Stage
from glc_toolkit.training.state import STATE, load_facts, load_state, save_state
from glc_toolkit.training.window import Window

COLUMNS = (BarColumn(20), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
LOG_EVERY = 50  # steps
SAY_EVERY = 1.0  # seconds; numbers have to be waited for
BALANCE_EVERY = 10  # steps; measuring it costs a second pass back through the perceptual networks
PERCEPTUAL = ("l1", "lpips", "dists")  # what the adversarial term is balanced against


RUNAWAY = 1e6  # of a loss, or of a latent: what is trained here stays far below
REMEDY = {
    "vqvae": "lower its lr, or the weight of the loss that grew",
    "latent": "lower its lr, or give latent_mse more weight",
    "thumbnail": "lower its lr, or give latent_mse and thumbnail_mse more weight",
    "joint": "let a stage of objective latent come before, in which a transform learns to repeat the latent (the "
    "products of one that has not run away), take the transform plain, or lower its lr",
}


class TrainingError(RuntimeError):
    """A run that must not go on."""


class StageModule(nn.Module):
    """A model with the losses of a stage: one forward computes every term, as distributed engines want it."""

    def __init__(self, model: GLCModel, stage: Stage):
        super().__init__()
        self.model: Any = model
        self.objective = "clip" if isinstance(model, GLCVideo) else stage.objective
        self.pixels = stage.objective == "joint"
        self.own: OwnLatents | None = None  # where every second sample brings its latent
        rival = adversary(stage)
        self.losses = nn.ModuleDict(
            {
                name: registry.build("loss", {"name": term.loss or name, "args": term.args}, levels=model.levels)
                for name, term in stage.losses.items()
                if name != rival
            }
        )
        if unknown := (set(stage.trains) | set(stage.lr_scale)) - {name for name, _ in model.named_modules()}:
            raise ValueError(
                f"stage {stage.name!r} names {', '.join(unknown)}; the model has "
                f"{', '.join(name for name, _ in model.named_children())} and what is in these"
            )
        if stage.crop % model.downsampling_factor:
            raise ValueError(
                f"stage {stage.name!r}: a crop of {stage.crop} is no multiple of {model.downsampling_factor}"
            )
        if stage.own_latents and self.objective != "joint":
            raise ValueError(f"stage {stage.name!r}: the latents of a video are not learned themselves")
        model.requires_grad_(False)
        for part in stage.trains:
            model.get_submodule(part).requires_grad_(True)
        if rival:
            check_adversary(model, stage, rival)
        for block in model.modules():
            block.__dict__.pop("forward", None)  # what an earlier stage may have put there
            block._compiled_call_impl = None
            if stage.checkpointing and type(block).__name__.endswith("Block"):
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)

    def forward(self, x: Tensor, quality: Tensor, first: int, step: int) -> tuple[dict, dict[str, Tensor]]:
        """``first`` is the number of ``x``'s first frame in its clip."""
        self.step = step
        if self.objective == "clip":
            out = self.clip(x, quality, first)
        else:
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

    def thumbnail(self, x: Tensor, quality: Tensor) -> dict:
        out = self.model.code_latent(self.model.backbone.analysis(x), quality)
        return {**out, **self.thumbnails(x, out["l_hat"])}

    def thumbnails(self, x: Tensor, l_hat: Tensor) -> dict:
        return {"t": self.model.backbone.thumbnail(x), "t_hat": self.model.backbone.draw(l_hat)}

    def joint(self, x: Tensor, quality: Tensor) -> dict:
        if self.own is None:
            out = self.model(x, quality)
        else:
            l = torch.stack([self.model.backbone.analysis(x[::2]).float(), self.own.taken], 1).flatten(0, 1)
            out = self.model.code_latent(l, quality)
            out["x_hat"] = self.model.backbone.synthesis(out["l_hat"])
        if "thumbnail_mse" in self.losses:
            out |= self.thumbnails(x, out["l_hat"])
        if "code_prediction" in self.losses:
            self.model.backbone.eval()  # the codebook is frozen: it only names the target codes
            with torch.no_grad():
                out["codes"] = self.model.backbone.quantize(out["l"]).indices
            self.model.backbone.train()
        return out

    def clip(self, x: Tensor, quality: Tensor, first: int) -> dict:
        """A chunk of clips from frame ``first`` on, which is the intra frame, or the last frame of the step before."""
        model, frames = self.model, x.unbind(1)
        with torch.no_grad():
            if first == 0:
                intra = model.image.code_latent(model.image.analysis(frames[0]), model.image_quality(quality))
                self.reference = Reference(intra["l_hat"], 0)
            latents = [model.analysis(frame) for frame in frames[1:]]
        outs = model.code_inters(latents, self.reference, quality)
        l_hats = [self.reference.l_hat] * (first == 0) + [out["l_hat"] for out in outs]
        self.reference = Reference(outs[-1]["l_hat"].detach(), self.reference.age + len(outs))
        likelihoods = {key: torch.cat([out["likelihoods"][key] for out in outs]) for key in ("y", "z")}
        seen = {key: torch.cat([out[key] for out in outs]) for key in ("l", "l_hat", "indices")}
        seen |= {"likelihoods": likelihoods, "hyper_loss": sum(out["hyper_loss"] for out in outs) / len(outs)}
        # pixels cost most: those of one frame of each clip, all frames taking turns
        drawn = [((self.step + i) % len(l_hats), i) for i in range(len(x))]
        seen |= {"x": torch.stack([frames[k - len(l_hats)][i] for k, i in drawn]), "quality": quality.repeat(len(outs))}
        if self.pixels:
            seen["x_hat"] = model.backbone.synthesis(torch.stack([l_hats[k][i] for k, i in drawn]))
        if "code_prediction" in self.losses:
            with torch.no_grad():
                seen["codes"] = model.backbone.quantize(seen["l"]).indices
        return seen


def still(model: GLCModel, stage: Stage) -> None:
    """What a stage does not train works as it will in use: a codebook would go on learning by itself. So does what a
    video model is given, its image model with the backbone."""
    learning = {name.partition(".")[0] for name in stage.trains}
    for name, part in model.named_children():
        if name not in learning:
            part.eval()
    if isinstance(model, GLCVideo):
        model.image.eval()
        model.backbone.eval()


def adversary(stage: Stage) -> str | None:
    """The loss of a stage that has a discriminator to train, if one has."""
    known = registry.components("loss")
    found = [name for name in stage.losses if name in known and hasattr(known[name][0], "discriminator_loss")]
    if len(found) > 1:
        raise ValueError(f"stage {stage.name!r}: {' and '.join(found)} each have a discriminator; one is possible")
    return found[0] if found else None


def check_adversary(model: GLCModel, stage: Stage, rival: str) -> None:
    """Raise ``ValueError`` for what would stop the run at step ``stage.gan_start``."""
    if stage.objective == "latent":
        raise ValueError(f"stage {stage.name!r}: {rival} judges pictures, and objective latent makes none")
    if not hasattr(registry.components("loss")[rival][0], "adaptive_weight"):
        return
    if not model.backbone.last_weight.requires_grad:
        raise ValueError(f"stage {stage.name!r}: {rival} is balanced at the generator, which this stage does not train")
    if not set(PERCEPTUAL) & set(stage.losses):
        raise ValueError(f"stage {stage.name!r}: {rival} is balanced against {', '.join(PERCEPTUAL)}; give one of them")


class BF16(MixedPrecision):
    """Autocast, which casts what wants it: pictures in bf16 would be half a grey level brighter. Fabric refuses
    gradients other than by ``fabric.backward`` where precision has a say in them; without a scale of the loss it has
    none, and an adaptive weight asks for two."""

    convert_input = Precision.convert_input
    pre_backward, backward, post_backward = Precision.pre_backward, Precision.backward, Precision.post_backward


def start(precision: str, folder: Path, device: str) -> Fabric:
    """Fabric on ``"cpu"`` or ``"cuda"``: one process, or the processes and machines that ``torchrun`` started."""
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    bf16 = precision == "bf16-mixed"
    fabric = Fabric(
        accelerator=device,  # others have no float64, which fixed point needs
        devices=local,
        num_nodes=world // local,
        strategy=DDPStrategy(find_unused_parameters=True) if world > 1 else "auto",
        precision=None if bf16 else precision,  # pyright: ignore[reportArgumentType]
        plugins=BF16("bf16-mixed", device) if bf16 else None,
        loggers=TensorBoardLogger(folder, name="", version="tensorboard"),
    )
    fabric.launch()
    return fabric


class Material:
    """What a recipe trains on, read once."""

    def __init__(self, recipe: Recipe, folder: Path):
        self.recipe = recipe
        sources = recipe.data.sources
        self.pictures, _ = split(find_pictures(sources), recipe.data.holdout) if sources else ([], [])
        found = find_clips(recipe.data.clips) if recipe.data.clips else []
        if unknown := set(recipe.data.holdout_clips) - {path.name for path in found}:
            raise FileNotFoundError(f"holdout_clips names {', '.join(sorted(unknown))}, which clips has not")
        kept = [path for path in found if path.name not in recipe.data.holdout_clips]
        self.clips = [decode_clip(path, recipe.data.clip_side, folder) for path in kept]

    def samples(self, stage: Stage, model: GLCModel, seed: int, device: torch.device) -> Dataset:
        scales = self.recipe.data.scales
        if not isinstance(model, GLCVideo):
            return Crops(self.pictures, stage.crop, scales, model.levels, seed, device, stage.turns)
        share = 1.0 if not self.clips else self.recipe.data.synthetic if self.pictures else 0.0
        return ClipCrops(self.clips, self.pictures, share, stage.frames, stage.crop, scales, model.levels, seed)


def untrained(recipe: Recipe) -> GLCModel:
    """The model of a recipe; that of a video with the image model it is given."""
    if recipe.image is None:
        return models.build(recipe.model)
    image = zoo.load(recipe.image).train()
    model = models.build({**recipe.model, "image": merged(image.config, recipe.model.get("image", {}))})
    own = cast(GLCVideo, model).image
    own.load_state_dict(grown(own, image))
    return model


def begin(recipe: Recipe) -> GLCModel:
    """The model that a run begins with."""
    model = untrained(recipe)
    for part, pretrained in recipe.pretrained.items():
        network: Any = model.get_submodule(part)
        network.load_pretrained(zoo.network(pretrained.network), **pretrained.args)
    if recipe.start is not None:
        model.load_state_dict(begun(model, recipe.start, recipe.anew))
    return model


def merged(config: dict, changes: dict) -> dict:
    """``config`` with what ``changes`` says otherwise, dicts within them likewise."""
    changed = dict(config)
    for key, value in changes.items():
        changed[key] = merged(config.get(key, {}), value) if isinstance(value, dict) else value
    return changed


def train(recipe: Recipe, folder: Path, save_every: float = 300.0, device: str = "auto") -> GLCModel:
    """Run a recipe, or go on with it from ``folder/state.safetensors``; returns the averaged model, evaluating.

    Writes that state and a grid of pictures every ``save_every`` seconds, and means of the losses every 50 steps, to
    ``folder/log.jsonl`` and for TensorBoard. Started by ``torchrun``, the processes share each batch. ``device`` is
    ``"cpu"``, ``"cuda"``, or ``"auto"`` for a GPU where there is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    fabric = start(recipe.precision, folder, device)
    fabric.seed_everything(recipe.seed, verbose=False)
    for stage in recipe.stages:
        share_of(stage, fabric.world_size)
    data = Material(recipe, folder)
    model = begin(recipe)
    average = AveragedModel(model)
    state = folder / STATE
    facts = {"stage": 0, "step": 0, "seconds": 0.0, "images": 0}
    if state.exists():
        facts = load_facts(state)
        if facts["recipe"] != recipe.identity(facts["stage"] + (facts["step"] > 0)):
            raise TrainingError(f"{state} is of another recipe; train into another folder, or delete it to start over")
        load_state(state, {"model": model, "average": average}, {})
        if facts["stage"] == len(recipe.stages):
            fabric.print("every stage of this recipe is finished: nothing is left to train")
    if fabric.broadcast(facts) != facts:
        raise TrainingError(f"{folder} is not the same for all processes: each has to read what the first one writes")
    for number in range(facts["stage"], len(recipe.stages)):
        facts.update(stage=number, recipe=recipe.identity(number + 1))
        run_stage(fabric, recipe, model, average, data, folder, facts, save_every)
        facts.update(stage=number + 1, step=0, seconds=0.0)
        if fabric.is_global_zero:
            save_state(state, {"model": model, "average": average}, {}, facts)
    return cast(GLCModel, average.module.eval())


def run_stage(fabric, recipe: Recipe, model, average, data, folder: Path, facts: dict, save_every: float) -> None:
    """Stage ``facts["stage"]`` of a recipe, from step ``facts["step"]`` to its end."""
    stage = recipe.stages[facts["stage"]]
    state = folder / STATE
    if facts["step"] == 0:
        model.load_state_dict(average.module.state_dict())  # a stage starts from the average of the one before

    module = StageModule(model, stage).train().to(memory_format=torch.channels_last)
    weights = [p for p in module.parameters() if p.requires_grad]
    optimizer = create_optimizer_v2(groups(module, stage), stage.optimizer.name, stage.lr, **stage.optimizer.args)
    rival = adversary(stage)
    if stage.compile:
        functorch.donated_buffer = not rival  # whose weight goes through the graph twice
        halves = [part for name, part in model.backbone.named_children() if name in ("encoder", "generator")]
        for part in (*halves, *module.losses.values()):
            part.compile(dynamic=False)
    modules, optimizers = {"model": model, "average": average, "losses": module.losses}, {"optimizer": optimizer}
    engine, optimizer = fabric.setup(module, optimizer)
    average.to(fabric.device)
    gan = judge = None
    if rival:
        modules["gan"] = registry.build("loss", {"name": rival, "args": stage.losses[rival].args}).train()
        learning = [p for p in modules["gan"].parameters() if p.requires_grad]
        optimizers["judge"] = torch.optim.AdamW(learning, lr=stage.lr, betas=(0.5, 0.9), weight_decay=0.0)
        gan, judge = fabric.setup(modules["gan"], optimizers["judge"])
        gan.mark_forward_method("discriminator_loss")
        balance = torch.tensor(facts.get("balance", 0.0), device=fabric.device)  # the adaptive weight, as last measured
    seed = recipe.seed + facts["stage"]
    samples = data.samples(stage, model, seed, fabric.device)
    if stage.own_latents:
        latent = (model.backbone.latent_channels, stage.crop // model.backbone.downsampling)
        modules["own"] = module.own = OwnLatents(stage, *latent, recipe.seed).to(fabric.device)
        if facts["step"] == 0:
            module.own.begin(samples, model.backbone.analysis)
    if facts["step"]:  # after the engine has put everything on its device
        load_state(state, modules, optimizers)
    still(model, stage)  # after loading, which puts every part in the mode of the whole
    still(average.module, stage)

    chunks = stage.chunks if isinstance(model, GLCVideo) else 1
    loader = batches(fabric, stage, samples, facts["step"], chunks, module.own)
    window = Window()
    started = time.monotonic() - facts["seconds"]
    saved = time.monotonic()
    said = -math.inf
    with shown(*COLUMNS, quiet=not fabric.is_global_zero) as bar:
        task = bar.add_task(stage.name, total=1.0)
        for step, (pixels, quality, first) in enumerate(steps_of(loader, stage), facts["step"]):
            progress = step / stage.most_steps
            if stage.minutes:  # one clock for all processes, or some would wait for ever
                progress = fabric.broadcast(max(progress, (time.monotonic() - started) / 60 / stage.minutes))
            if progress >= 1:
                break
            share = schedule(step, progress, stage)
            for group in optimizer.param_groups:
                group["lr"] = group["lr_scale"] * stage.lr * share
            # random numbers of a step follow from its number: nothing of them has to be kept to go on
            torch.manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1)[0]))

            x = pixels.float() / 255
            if x.ndim == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            if stage.all_levels:
                quality = torch.arange(model.levels, device=x.device).repeat(len(x)).float()
                x = x.repeat_interleave(model.levels, 0)
            if module.own is not None:
                mine = len(x) // 2
                module.own.take(module.own.rows(step * stage.batch // 2 + fabric.global_rank * mine, mine))
            out, terms = engine(x, quality, first, step)
            total = cast(Tensor, sum(stage.losses[name].weight * term for name, term in terms.items()))
            if gan is not None and rival is not None and step >= stage.gan_start:
                for parameter in learning:
                    parameter.requires_grad_(False)
                terms[rival] = gan(out)
                if (step - stage.gan_start) % BALANCE_EVERY == 0:
                    balance = adaptive_weight(module, gan, out, terms, stage, rival)
                terms["gan_weight"] = balance
                total = total + stage.losses[rival].weight * terms["gan_weight"] * terms[rival]
                for parameter in learning:
                    parameter.requires_grad_(True)
            largest = out["l_hat"].detach().float().abs().amax()
            if not torch.maximum(total.detach().abs(), largest) < RUNAWAY:  # NaN is not, either
                values = {name: float(term.detach()) for name, term in terms.items()}
                raise TrainingError(
                    f"stage {stage.name!r}, step {step}: the loss is {float(total.detach())} ({values}), and the "
                    f"latent reaches {float(largest):.3g}; {REMEDY[stage.objective]}"
                )
            optimizer.zero_grad()
            fabric.backward(total)
            terms["grad_norm"] = nn.utils.clip_grad_norm_(weights, stage.clip)
            optimizer.step()
            if module.own is not None:
                rows = module.own.rows(step * stage.batch // 2, stage.batch // 2)
                grad = cast(Tensor, fabric.all_gather(module.own.taken.grad))
                module.own.step(rows, grad.reshape(-1, *module.own.l.shape[1:]), share)
            if gan is not None and judge is not None and "gan_weight" in terms:
                terms["discriminator"] = gan.discriminator_loss(out)
                judge.zero_grad()
                fabric.backward(terms["discriminator"])
                judge.step()
            # young averages forget faster, or the weights that a stage began with would linger in a short one
            average.multi_avg_fn = get_ema_multi_avg_fn(min(stage.ema, (1 + step) / (10 + step)))
            average.update_parameters(model)

            facts["images"] += stage.batch
            if "likelihoods" in out:
                terms["bpp"] = bpp_estimate(out["likelihoods"], stage.crop**2).mean()
            window.add(terms, out)
            seconds = time.monotonic() - started
            if seconds - said > SAY_EVERY:
                numbers = window.numbers(stage.batch)
                text = " ".join(f"{name} {value:.3g}" for name, value in numbers.items())
                bar.update(task, completed=progress, description=f"{stage.name} {step}: {text}")
                said = seconds
            if window.steps == LOG_EVERY or step == stage.most_steps - 1:
                if fabric.is_global_zero:
                    where = {"stage": stage.name, "step": step, "seconds": seconds, "images": facts["images"]}
                    write_log(fabric, folder, where, window.numbers(stage.batch))
                collapse = window.collapsed(stage.least_codes)
                if collapse and step >= stage.warmup and window.steps == LOG_EVERY:
                    raise TrainingError(f"stage {stage.name!r}, step {step}: {collapse} in {LOG_EVERY} steps")
                window.clear()
            due = time.monotonic() - saved > save_every and (step + 1) % chunks == 0  # no clip is half way
            if due and fabric.is_global_zero:
                facts.update(step=step + 1, seconds=seconds)
                if gan is not None:
                    facts["balance"] = balance.item()
                save_state(state, modules, optimizers, facts)
                if "x_hat" in out:
                    write_samples(fabric, out, stage.name, facts["images"])
                saved = time.monotonic()


def groups(module: StageModule, stage: Stage) -> list[dict]:
    """What learns, by the multiple of the stage's rate that it learns at: that of the longest name in ``lr_scale``."""
    found: dict[float, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parts = [part for part in stage.lr_scale if name.startswith(f"model.{part}.")]
            found.setdefault(stage.lr_scale[max(parts, key=len)] if parts else 1.0, []).append(parameter)
    return [{"params": parameters, "lr_scale": scale} for scale, parameters in found.items()]


def write_log(fabric: Fabric, folder: Path, where: dict, numbers: dict[str, float]) -> None:
    """A line of ``log.jsonl``, and the scalars of TensorBoard against images seen."""
    numbers = {name: round(value, 5) for name, value in numbers.items()}
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps({**where, "seconds": round(where["seconds"], 1), **numbers}) + "\n")
    fabric.log_dict({f"{where['stage']}/{name}": value for name, value in numbers.items()}, step=where["images"])


def write_samples(fabric: Fabric, out: dict, stage: str, images: int) -> None:
    """Up to eight pictures of the batch over their reconstructions."""
    pairs = torch.cat([out["x"][:8], out["x_hat"][:8].detach().float().clamp(0, 1)]).cpu()
    board = cast(TensorBoardLogger, fabric.logger).experiment
    board.add_image(f"{stage}/x_over_x_hat", make_grid(pairs, len(pairs) // 2), images)


def batches(
    fabric, stage: Stage, samples: Dataset, step: int, chunks: int, own: OwnLatents | None = None
) -> DataLoader:
    """Batches from that of step ``step`` on, this process's share of each: sample numbers follow from the step. With
    ``own``, every second is one of a crop that has a latent of its own."""
    share = share_of(stage, fabric.world_size)

    def drawn() -> Iterator[list[int]]:
        for n in range(step // chunks, -(-stage.most_steps // chunks)):
            first = n * stage.batch + fabric.global_rank * share
            numbers = list(range(first, first + share))
            if own is not None:
                numbers[1::2] = [FIRST + row for row in own.rows(first // 2, share // 2)]
            yield numbers

    loader = DataLoader(samples, batch_sampler=Drawn(drawn))  # pyright: ignore[reportArgumentType]
    return fabric.setup_dataloaders(loader, use_distributed_sampler=False)


class Drawn:
    """What a ``DataLoader`` asks for its batches: a generator, since a stage that ends by the clock has no number."""

    def __init__(self, make: Callable[[], Iterator[list[int]]]):
        self.make = make

    def __iter__(self) -> Iterator[list[int]]:
        return self.make()


def share_of(stage: Stage, processes: int) -> int:
    """What each process has of a batch."""
    share, rest = divmod(stage.batch, processes)
    if rest:
        raise ValueError(f"stage {stage.name!r}: a batch of {stage.batch} cannot be shared by {processes}")
    if stage.own_latents and share % 2:
        raise ValueError(f"stage {stage.name!r}: with own latents each process has an even batch, not {share}")
    return share


def steps_of(loader: DataLoader, stage: Stage) -> Iterator[tuple[Tensor, Tensor, int]]:
    """``x``, quality, and the number of the first frame: a batch of pictures is a step, one of clips ``stage.chunks``,
    each with the last frame of the step before."""
    for x, quality in loader:
        if x.ndim == 4:
            yield x, quality, 0
            continue
        size = stage.chunk or stage.frames - 1
        for first in range(0, stage.frames - 1, size):
            yield x[:, first : first + size + 1], quality, first


def schedule(step: int, progress: float, stage: Stage) -> float:
    """Linear warm-up, then half a cosine down to ``lr_end``."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * progress)
    return min((step + 1) / max(stage.warmup, 1), stage.lr_end + (1 - stage.lr_end) * cosine)


def adaptive_weight(module: StageModule, gan: nn.Module, out: dict, terms: dict, stage: Stage, rival: str) -> Tensor:
    """The published balance: gradient norms of both losses at the generator's last weight; 1 for a loss without one."""
    if not hasattr(gan.module, "adaptive_weight"):
        return terms[rival].new_ones(())
    pixels = cast(Tensor, sum(stage.losses[name].weight * terms[name] for name in PERCEPTUAL if name in terms))
    last = module.model.backbone.last_weight
    norms = [torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in (pixels, terms[rival])]
    return gan.module.adaptive_weight(*norms)  # pyright: ignore
