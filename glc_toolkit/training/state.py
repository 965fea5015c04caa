"""A training run on disk: one safetensors file, written whole or not at all, and no pickle."""

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


def save_state(path: Path, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer], facts: dict):
    """Write modules, optimizers, the random state and ``facts`` (JSON)."""
    tensors = {"rng": torch.get_rng_state()}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{i}/{key}": torch.as_tensor(value) for key, value in state.items()}
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"facts": json.dumps(facts)})
    os.replace(partial, path)


def load_facts(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["facts"])


def load_state(path: Path, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]) -> None:
    """Put back what :func:`save_state` wrote."""
    with safe_open(path, "pt") as file:
        keys = file.keys()

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
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        torch.set_rng_state(file.get_tensor("rng"))
