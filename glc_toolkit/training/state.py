"""A training run on disk: one safetensors file, written whole or not at all, and no pickle."""

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

STATE = "state.safetensors"  # its name in the folder of a run


def save_state(path: Path, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer], facts: dict):
    """Write modules, optimizers and ``facts``, which go into JSON. Random numbers need no state: those of a step follow
    from its number.

    Raises ``ValueError`` for an optimizer that remembers anything but tensors and numbers.
    """
    tensors, numbers = {}, {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        known = optimizer.state_dict()
        for i, state in known["state"].items():
            if odd := [key for key, value in state.items() if not isinstance(value, (Tensor, int, float))]:
                raise ValueError(
                    f"{type(optimizer).__name__} remembers {', '.join(odd)}, which a state cannot hold; "
                    "a run with it could not go on after a stop: take another optimizer"
                )
            tensors |= {f"{name}/{i}/{key}": torch.as_tensor(value) for key, value in state.items()}
        for i, group in enumerate(known["param_groups"]):  # some optimizers count their steps there
            numbers[f"{name}/{i}"] = {key: value for key, value in group.items() if type(value) in (int, float)}
            counts = {key: value for key, value in group.items() if isinstance(value, Tensor)}
            tensors |= {f"groups/{name}/{i}/{key}": value for key, value in counts.items()}
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"facts": json.dumps(facts), "numbers": json.dumps(numbers)})
    os.replace(partial, path)


def load_facts(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["facts"])


def load_state(path: Path, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]) -> None:
    """Put back what :func:`save_state` wrote."""
    with safe_open(path, "pt") as file:
        keys = file.keys()
        numbers = json.loads(file.metadata().get("numbers", "{}"))

        def under(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: file.get_tensor(k) for k in keys if k.startswith(prefix)}

        for name, module in modules.items():
            module.load_state_dict(under(f"{name}/"))
        for name, optimizer in optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in under(f"{name}/").items():
                i, field = key.split("/")
                state.setdefault(int(i), {})[field] = value
            groups = optimizer.state_dict()["param_groups"]
            for i, group in enumerate(groups):
                group |= {**numbers.get(f"{name}/{i}", {}), **under(f"groups/{name}/{i}/")}
            optimizer.load_state_dict({"state": state, "param_groups": groups})
