"""What a run says of its last steps: means of its losses, images a second, and how many codes are in use."""

import time

from torch import Tensor

CODEBOOKS = {"codes": "backbone", "indices": "hyper module"}  # what holds each, by its key in the outputs


class Window:
    """Numbers of the steps since the last :meth:`clear`."""

    def __init__(self):
        self.clear()

    def clear(self) -> None:
        self.steps = 0
        self.began = time.monotonic()
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.used: dict[str, set[int]] = {}

    def add(self, terms: dict[str, Tensor], out: dict) -> None:
        """The losses of a step, and the outputs they were computed from."""
        self.steps += 1
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(term.detach())
            self.counts[name] = self.counts.get(name, 0) + 1
        for name in CODEBOOKS:
            if out.get(name) is not None:
                self.used.setdefault(name, set()).update(out[name].unique().tolist())

    def numbers(self, batch: int) -> dict[str, float]:
        """Means, codes in use and images a second."""
        means = {name: self.sums[name] / self.counts[name] for name in self.sums}
        used = {f"{name}_used": len(codes) for name, codes in self.used.items()}
        return {**means, **used, "images/s": self.steps * batch / (time.monotonic() - self.began)}

    def collapsed(self, least: int) -> str | None:
        """The first codebook of which fewer than ``least`` codes were used, in words."""
        for name, codes in self.used.items():
            if len(codes) < least:
                return f"the codebook of the {CODEBOOKS[name]} has collapsed: {len(codes)} of its codes in use"
        return None
