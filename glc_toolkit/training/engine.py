"""Lightning Fabric on the processes, devices and precision of a run."""

import os
from pathlib import Path

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import TensorBoardLogger
from lightning.fabric.plugins.precision import MixedPrecision, Precision
from lightning.fabric.strategies import DDPStrategy


class BF16(MixedPrecision):
    """Autocast that leaves pictures as they are: in bf16 they would be half a grey level brighter.

    Fabric allows gradients by ``fabric.backward`` alone where the precision has hooks around it, and the adaptive
    weight of an adversarial loss asks for two gradients more. bf16 scales no loss, so that it needs no such hooks.
    """

    convert_input = Precision.convert_input
    pre_backward, backward, post_backward = Precision.pre_backward, Precision.backward, Precision.post_backward


def launch(precision: str, folder: Path, device: str) -> Fabric:
    """Fabric on ``"cpu"``, ``"cuda"`` or ``"auto"``, a GPU where there is one: one process, or the processes and
    machines that ``torchrun`` started. TensorBoard's files go to ``folder``."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
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
