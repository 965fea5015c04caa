"""Numbers of the last steps of a run: means of the losses, images a second, and how many codes are in use.

Numbers stay on their device until they are asked for: a GPU idles if every step waits for it.
"""

import time
from collections.abc import Mapping

import torch
from torch import Tensor

CODEBOOKS = {"codes": "backbone", "indices": "hyper module"}  # the part that holds a codebook, by its key in outputs


class Window:
    """Numbers of the steps since the last :meth:`clear`."""

    def __init__(self):
        self.clear()

    def clear(self) -> None:
        self.steps = 0
        self.began = time.monotonic()
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.codes: dict[str, list[Tensor]] = {}

    def add(self, terms: dict[str, Tensor], out: Mapping[str, object]) -> None:
        """Take the losses of a step, and the outputs that they were computed from."""
        self.steps += 1
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + term.detach().float()
            self.counts[name] = self.counts.get(name, 0) + 1
        for name in CODEBOOKS:
            if isinstance(codes := out.get(name), Tensor):
                self.codes.setdefault(name, []).append(codes.flatten())

    def used(self) -> dict[str, int]:
        """How many codes of each codebook were used."""
        return {name: len(torch.cat(codes).unique()) for name, codes in self.codes.items()}

    def numbers(self, batch: int) -> dict[str, float]:
        """Means, codes in use and images a second."""
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        used = {f"{name}_used": count for name, count in self.used().items()}
        return {**means, **used, "images/s": self.steps * batch / (time.monotonic() - self.began)}

    def collapsed(self, least: int) -> str | None:
        """What to say of the first codebook that has fewer than ``least`` codes in use; None where all have more."""
        for name, count in self.used().items():
            if count < least:
                return f"the codebook of the {CODEBOOKS[name]} has collapsed: {count} of its codes in use"
        return None
