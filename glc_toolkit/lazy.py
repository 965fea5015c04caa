"""Import CompressAI and vector-quantize-pytorch without what only their other parts need.

``import compressai`` imports all of its parts. Two thirds of the time go into torch_geometric, torchvision (with
``torch._dynamo``), pandas and ``scipy.stats``, which no codec of this package uses. ``import vector_quantize_pytorch``
imports einx, sympy and ``torch._dynamo``, which its plain vector quantizer does not use. :func:`install` puts a finder
in front of Python's own. The finder acts only while one of the two packages is being imported for the first time:

- The modules of ``LATE`` are executed when one of their names is first asked for.
- A function of ``DEFERRED`` is asked for by ``from ... import``. Its module is executed when the function is called.
- ``compressai.registry.transforms`` makes a table, ``TRANSFORMS``, of the classes of torchvision and torch_geometric.
  Here the table is made when it is first read or written.

Whoever imports one of the two before this package gets it as it is.
"""

import sys
from collections import UserDict
from functools import cached_property
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder
from threading import RLock
from types import ModuleType
from typing import Any

LATE = {  # module: the package whose import would import it
    "compressai.datasets": "compressai",
    "compressai.transforms": "compressai",
    "scipy.stats": "compressai",
    "einx": "vector_quantize_pytorch",
}
DEFERRED = {"einx": ("get_at",)}
TABLE = "compressai.registry.transforms"
SOURCES = ("torchvision", "torchvision.transforms", "torch_geometric", "torch_geometric.transforms")  # of the table


class Finder(MetaPathFinder):
    """Answers for the modules above while their package is being imported, and for no other."""

    def find_spec(self, name, path=None, target=None):
        if name != TABLE and not (name in LATE and importing(LATE[name])):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            spec.loader = TableLoader(spec.loader) if name == TABLE else LateLoader(spec.loader)
        return spec


class WrappedLoader(Loader):
    """Another loader, whose module is executed in another way."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)


class LateLoader(WrappedLoader):
    """Executes a module when one of its names is first asked for.

    ``importlib.util.LazyLoader`` does so for ``__file__``, too. ``inspect`` asks every module for that, and PyTorch
    calls ``inspect`` while it is imported.
    """

    def exec_module(self, module: ModuleType) -> None:
        lock, begun = RLock(), []

        def find(name: str):
            if name.startswith("__") and name not in ("__all__", "__version__"):
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            if not begun and name in DEFERRED.get(module.__name__, ()):
                return lambda *args, **kwargs: execute(name)(*args, **kwargs)
            return execute(name)

        def execute(name: str):
            with lock:  # another thread waits until the module is whole
                if not begun:
                    begun.append(True)
                    try:
                        self.loader.exec_module(module)
                    except BaseException:
                        begun.clear()
                        raise
            if name in vars(module):
                return vars(module)[name]
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        vars(module)["__getattr__"] = find


class TableLoader(WrappedLoader):
    """Executes ``compressai.registry.transforms`` with empty modules in the place of ``SOURCES``."""

    def exec_module(self, module: ModuleType) -> None:
        kept = {name: sys.modules[name] for name in SOURCES if name in sys.modules}
        empty: dict[str, Any] = {name: ModuleType(name) for name in SOURCES}
        for package in ("torchvision", "torch_geometric"):
            empty[package].transforms = empty[f"{package}.transforms"]
        sys.modules.update(empty)
        try:
            self.loader.exec_module(module)
        finally:
            for name in SOURCES:
                del sys.modules[name]
            sys.modules.update(kept)
        vars(module)["TRANSFORMS"] = Table(self.loader)


class Table(UserDict):
    """``TRANSFORMS`` as CompressAI makes it, made when it is first used."""

    def __init__(self, loader: Loader):
        self.loader = loader

    @cached_property
    def data(self) -> dict:
        whole = ModuleType(TABLE)
        self.loader.exec_module(whole)
        return vars(whole)["TRANSFORMS"]


def importing(name: str) -> bool:
    """Whether the import of a module has begun and not ended."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return getattr(spec, "_initializing", False)  # how Python itself tells


def install() -> None:
    """Put the finder in front of Python's own, once."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
