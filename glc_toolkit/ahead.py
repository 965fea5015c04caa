"""One step of work ahead of the caller, in a second thread: two cores then share what is done frame by frame."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``work(item)`` of each item, in order. The next result is computed while the caller uses the last one.

    All work is done in one thread, one item after another, so ``work`` may keep a state. Items are read in the caller's
    thread, one ahead. What ``work`` raises is raised here, in its turn.
    """
    with ThreadPoolExecutor(1) as thread:
        coming = None
        for item in items:
            last, coming = coming, thread.submit(work, item)
            if last is not None:
                yield last.result()
        if coming is not None:
            yield coming.result()
