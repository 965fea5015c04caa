"""What a run says of its last steps: means of its losses, images a second, and how many codes are in use.

Numbers stay on their device until they are asked for: a GPU that has to be waited for in every step idles.
"""

import time

import torch
from torch import Tensor

CODEBOOKS = {"codes": "backbone", "indices": "hyper module"}  # what holds each, by its key in the outputs


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

    def add(self, terms: dict[str, Tensor], out: dict) -> None:
        """The losses of a step, and the outputs they were computed from."""
        self.steps += 1
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + term.detach().float()
            self.counts[name] = self.counts.get(name, 0) + 1
        for name in CODEBOOKS:
            if out.get(name) is not None:
                self.codes.setdefault(name, []).append(out[name].flatten())

    def used(self) -> dict[str, int]:
        """How many codes of each codebook were used."""
        return {name: len(torch.cat(codes).unique()) for name, codes in self.codes.items()}

    def numbers(self, batch: int) -> dict[str, float]:
        """Means, codes in use and images a second."""
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        used = {f"{name}_used": count for name, count in self.used().items()}
        return {**means, **used, "images/s": self.steps * batch / (time.monotonic() - self.began)}

    def collapsed(self, least: int) -> str | None:
        """The first codebook of which fewer than ``least`` codes were used, in words."""
        for name, count in self.used().items():
            if count < least:
                return f"the codebook of the {CODEBOOKS[name]} has collapsed: {count} of its codes in use"
        return None
