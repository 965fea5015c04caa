"""Methods that are replaced for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def replaced(owner: object, method: str, change: Callable[[Callable], Callable]) -> Iterator[None]:
    """While it lasts, ``owner``, an object or a class, has ``change(method)`` in the place of its ``method``."""
    before = vars(owner).get(method)  # an object finds most of its methods in its class
    setattr(owner, method, change(getattr(owner, method)))
    try:
        yield
    finally:
        if before is None:
            delattr(owner, method)
        else:
            setattr(owner, method, before)
