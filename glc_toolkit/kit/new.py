"""Write a plugin package from the templates."""

import datetime
import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from string import Template

from glc_toolkit import registry

TEMPLATES = Path(__file__).parent / "templates"
HOOK = """
@hookimpl
def {hook}():
    from {package}.{kind} import {component}

    return {{"{name}": {component}}}
"""
USE = {  # how a recipe, a config or a command names a component
    "backbone": "`backbone: {{name: {}}}`",
    "quantizer": "`quantizer: {{name: {}}}`",
    "transform": "`transform: {{name: {}}}`",
    "temporal": "`temporal: {{name: {}}}`",
    "hyper": "`hyper: {{name: {}}}`",
    "entropy_model": "`entropy_model: {{name: {}}}`",
    "context": "`context: {{name: {}}}`",
    "loss": "`losses: {{{}: {{weight: 1.0}}}}`",
    "metric": "`glc eval photos --metric {}`",
    "codec": "`glc eval photos -c {}`",
}


def new(name: str, kinds: tuple[str, ...], licence: str, author: str | None, place: Path) -> Path:
    """Write the package ``name`` with one component of each of ``kinds`` into ``place/name``; returns that folder.

    The components are called like the package, without a leading ``glc-``. Raises ``ValueError`` for a name that cannot
    be one, or is taken.
    """
    package = name.replace("-", "_")
    component = package.removeprefix("glc_")
    if not re.fullmatch("[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) or keyword.iskeyword(package):
        raise ValueError(f"{name!r} is no name for a package: small letters, digits and single hyphens, please")
    if find_spec(package) or registry.manager().has_plugin(package):
        raise ValueError(f"there is a package {package!r} already; choose another name")
    if taken := [kind for kind in kinds if component in registry.names(kind)]:
        raise ValueError(f"there is a {taken[0]} {component!r} already; choose another name")
    folder = place / name
    if folder.exists():
        raise ValueError(f"{folder} exists already; choose another name or --out")

    facts = {
        "name": name,
        "package": package,
        "component": component,
        "kinds": ", ".join(kinds),
        "list": "\n".join(f'    "{kind}",' for kind in kinds),
        "table": "\n".join(
            f"| {kind} `{component}` | `{package}/{kind}.py` | {USE[kind].format(component)} |" for kind in kinds
        ),
        "licence": licence,
        "author": author or f"the authors of {name}",
        "year": datetime.date.today().year,
    }

    def filled(template: str) -> str:
        return Template((TEMPLATES / f"{template}.in").read_text()).substitute(facts)

    hooks = [
        HOOK.format(hook=registry.HOOKS[k], package=package, kind=k, component=class_of(k), name=component)
        for k in kinds
    ]
    files = {
        "pyproject.toml": filled("pyproject.toml"),
        "README.md": filled("README.md"),
        "LICENSE": filled(licence),
        f"tests/test_{package}.py": filled("test.py"),
        f"{package}/__init__.py": "\n".join(
            ['"""Registration: one hook a kind."""\n\nfrom glc_toolkit import hookimpl\n', *hooks]
        ),
        **{f"{package}/{kind}.py": (TEMPLATES / f"{kind}.py").read_text() for kind in kinds},
    }
    for file, text in files.items():
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return folder


def class_of(kind: str) -> str:
    """Name of the class in the template of a kind."""
    return kind.title().replace("_", "")
