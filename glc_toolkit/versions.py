"""Models by name and version: a folder ``name`` is the first version of a model, ``name@2`` the second.

Released weights never change under their name. A bare name means the newest version that is there.
"""

import re
import warnings
from pathlib import Path

from glc_toolkit import registry


def split(name: str) -> tuple[str, int]:
    """Name and version of a folder."""
    bare, _, version = name.rpartition("@")
    return (bare, int(version)) if bare and re.fullmatch("[1-9][0-9]{0,5}", version) else (name, 1)


def found() -> dict[tuple[str, int], Path]:
    """``{(name, version): folder}`` of every model. Warns of a model that hides another."""
    folders: dict[tuple[str, int], Path] = {}
    for name, folder in registry.model_folders():
        taken = folders.setdefault(split(name), folder)
        if taken.resolve() != folder.resolve():
            warnings.warn(f"the model {name!r} in {taken} hides that in {folder}; rename one of them", stacklevel=1)
    return folders


def named(folders: dict[tuple[str, int], Path]) -> dict[str, Path]:
    """``{name: folder}``: the newest version of each model by its bare name, older ones as ``name@version``."""
    newest = dict(sorted(folders))
    return {n if version == newest[n] else f"{n}@{version}": folder for (n, version), folder in folders.items()}


def find(name: str) -> Path | None:
    """The folder of a model by its name, with or without a version."""
    folders = found()
    return named(folders).get(name) or (folders.get(split(name)) if "@" in name else None)
