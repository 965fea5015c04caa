"""Whether the coding tables of a model are of its weights as they are now."""

import hashlib
from collections.abc import Mapping

from torch import Tensor


class Seal:
    """Remembers the values of some tensors as a digest.

    A digest takes milliseconds for each million of weights. The version counters of PyTorch tell when a tensor was
    written to, so that the digest is made again only then.
    """

    def __init__(self):
        self.digest = b""
        self.versions: list[tuple[int, int]] | None = None

    def __getstate__(self) -> dict:
        return {"digest": self.digest, "versions": None}  # the tensors of a copy count their versions anew

    def close(self, tensors: Mapping[str, Tensor]) -> None:
        """Remember the values that ``tensors`` have now."""
        self.digest, self.versions = digest(tensors), versions(tensors)

    def holds(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether ``tensors`` have the values that were remembered."""
        now = versions(tensors)
        if now is None or now != self.versions:
            if digest(tensors) != self.digest:
                return False
            self.versions = now
        return True


def versions(tensors: Mapping[str, Tensor]) -> list[tuple[int, int]] | None:
    """Where each tensor lies and how often it was written to; None if PyTorch does not count that."""
    if any(tensor.is_inference() for tensor in tensors.values()):
        return None
    return [(tensor.data_ptr(), tensor._version) for tensor in tensors.values()]


def digest(tensors: Mapping[str, Tensor], start: bytes = b"") -> bytes:
    """SHA-256 of ``start`` and of the names, shapes and values of ``tensors``, the same on every machine."""
    found = hashlib.sha256(start)
    for name, tensor in sorted(tensors.items()):
        exact = tensor.detach().cpu()
        exact = exact.float() if exact.is_floating_point() else exact.long()
        found.update(f"{name}{tuple(exact.shape)}".encode())
        found.update(exact.contiguous().numpy().astype(exact.numpy().dtype.newbyteorder("<")).tobytes())
    return found.digest()
