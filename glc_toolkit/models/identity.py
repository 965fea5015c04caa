"""What a model is: its config, its state, the fingerprint that streams name it by, and a summary of it."""

import json
import os
import re
from collections.abc import Callable
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from glc_toolkit.facts import Facts
from glc_toolkit.models.seal import digest
from glc_toolkit.types import ModelFileError, Trait, trait

ARITHMETIC = b"16-bit integers by position"  # of the entropy networks: with another, the same stream has other symbols
Model = TypeVar("Model", bound="Identity")


class Identity(nn.Module):
    """Config, state dict, fingerprint and summary."""

    config: dict
    slots: tuple[str, ...]
    levels: int
    default_quality: float
    precision: str  #: of the backbone
    _only_float32: Callable[[str], None]
    _fingerprint: bytes  #: of a model whose weights are rounded since

    def state_dict(self, *args, **kwargs) -> dict:
        """As in PyTorch. Raises ``ValueError`` once the weights are rounded to bf16."""
        self._only_float32("be saved")
        return super().state_dict(*args, **kwargs)

    def get_extra_state(self) -> Tensor:
        """The config, as bytes in a tensor, so that a state dict alone rebuilds the model."""
        return torch.frombuffer(bytearray(json.dumps(self.config, sort_keys=True).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        pass  # read by from_state_dict, before there is a model

    @classmethod
    def from_state_dict(cls: type[Model], state_dict: dict) -> Model:
        """A model from what ``state_dict()`` gave."""
        state_dict = without_wrapper(state_dict)
        if "_extra_state" not in state_dict:
            raise ModelFileError("this state dict holds no glc-toolkit config (key '_extra_state')")
        config = json.loads(bytes(state_dict["_extra_state"].cpu().numpy()))
        model = cls(config)  # pyright: ignore[reportCallIssue]  a model proper knows its slots
        model.load_state_dict(state_dict)
        return model

    @classmethod
    def from_pretrained(
        cls: type[Model],
        model: str | os.PathLike,
        revision: str | None = None,
        device: str = "cpu",
        precision: str = "float32",
    ) -> Model:
        """As in Hugging Face's libraries: a zoo name, a folder, or ``owner/name`` on the hub, see
        :func:`glc_toolkit.zoo.load`. Raises ``ValueError`` for a model of another class."""
        zoo = import_module("glc_toolkit.zoo")  # which stands on this module
        name = os.fspath(model)
        if name not in zoo.folders() and not os.path.isdir(name) and re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            name = f"hf://{name}"
        loaded = zoo.load(f"{name}@{revision}" if revision else name, device, precision)
        if not isinstance(loaded, cls):
            raise ValueError(f"{name} is a {type(loaded).__name__}, not a {cls.__name__}")
        return loaded

    def save_pretrained(self, folder: str | os.PathLike, card: str = "") -> None:
        """Write the model as a zoo folder, under its own name or else that of the folder; see
        :func:`glc_toolkit.zoo.save`."""
        zoo = import_module("glc_toolkit.zoo")
        zoo.save(self, folder, self.config.get("name", Path(folder).resolve().name), card)

    @property
    def encoder_only(self) -> tuple[str, ...]:
        """Prefixes of the tensors that no decoder reads, as the components declare them."""
        return self._declared("encoder_only")

    @property
    def pixels_only(self) -> tuple[str, ...]:
        """Prefixes of the tensors that pixels depend on, but no symbol."""
        return self._declared("pixels_only")

    def _declared(self, attribute: Trait) -> tuple[str, ...]:
        names = {slot: trait(self.get_submodule(slot), attribute) for slot in self.slots}
        if wrong := [slot for slot, prefixes in names.items() if isinstance(prefixes, str)]:
            raise ValueError(f"{attribute} of the {wrong[0]} is a string; it has to be a tuple of prefixes")
        return tuple(f"{slot}.{prefix}" for slot, prefixes in names.items() for prefix in prefixes)

    def fingerprint(self) -> bytes:
        """32 bytes that name every weight and table a decoder uses, and how it computes with them."""
        if self.precision != "float32":
            return self._fingerprint
        kept = {
            name: tensor
            for name, tensor in self.state_dict().items()
            if not name.startswith(self.encoder_only) and not name.endswith("_extra_state")
        }
        return digest(kept, ARITHMETIC)

    def summary(self) -> Facts:
        """Name, size, levels, the component in each slot with its parameters, and the fingerprint."""

        def part(slot: str) -> str:
            return f"{self.config[slot]['name']}, {_parameters(self.get_submodule(slot)):,} parameters"

        return Facts(
            {
                "name": self.config.get("name", "unnamed"),
                "parameters": _parameters(self),
                "levels": self.levels,
                "default quality": self.default_quality,
                "components": {slot: part(slot) for slot in self.slots},
                "fingerprint": self.fingerprint().hex(),
            }
        )

    def extra_repr(self) -> str:
        """The line that stands above the module tree when PyTorch prints a model."""
        name = self.config.get("name", "unnamed")
        return f"{name!r}, levels={self.levels}, parameters={_parameters(self):,}"

    def _repr_html_(self) -> str:
        """In a notebook: the summary, and the module tree to unfold."""
        tree = f"<details><summary>modules</summary><pre>{escape(repr(self))}</pre></details>"
        return self.summary()._repr_html_() + tree


def without_wrapper(state_dict: dict) -> dict:
    """A state dict with the names that the model itself has, not those of ``DataParallel`` around it."""
    if state_dict and all(name.startswith("module.") for name in state_dict):
        return {name.removeprefix("module."): value for name, value in state_dict.items()}
    return state_dict


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
