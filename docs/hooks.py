"""What MkDocs writes by itself: tables of the reference, from the registry and the zoo; tidy cross-references."""

import inspect
import re
from pathlib import Path

ROLE = re.compile(r":(?:class|func|meth|mod|data):(?=<code)")  # Sphinx roles in docstrings


def on_page_markdown(markdown: str, page, **_) -> str:
    for marker, table in (("hooks", hooks), ("components", components), ("zoo", zoo)):
        if f"<!-- {marker} -->" in markdown:
            markdown = markdown.replace(f"<!-- {marker} -->", table())
    return markdown


def on_page_content(html: str, **_) -> str:
    return ROLE.sub("", html)


def hooks() -> str:
    from glc_toolkit import hookspecs, registry

    kinds = {hook: kind for kind, hook in registry.HOOKS.items()}
    specs = [value for name, value in vars(hookspecs).items() if name.startswith("glc_")]
    rows = [f"| `{f.__name__}{inspect.signature(f)}` | {kinds.get(f.__name__, '')} | {first(f)} |" for f in specs]
    return "\n".join(["| hook | kind | brings |", "|---|---|---|", *rows])


def components() -> str:
    from glc_toolkit import registry

    parts = []
    for kind in registry.KINDS:
        found = {n: f for n, (f, plugin) in sorted(registry.components(kind).items()) if plugin in registry.BUILTINS}
        parts += [f"## {kind}", ""]
        for name, factory in found.items():
            parts += [f"### {name}", "", arguments(factory), "", inspect.getdoc(factory) or "", ""]
    return "\n".join(parts)


def zoo() -> str:
    from glc_toolkit import registry, zoo

    parts = []
    for name, (folder, _) in sorted(registry.named("glc_zoo").items()):
        facts = zoo.info(folder)
        card = (Path(folder) / zoo.CARD).read_text().partition("\n")[2]  # without its title
        card = re.sub("^(#+) ", r"#\1 ", card, flags=re.MULTILINE).replace("](../../docs/", "](../")
        parts += [f"## {name}", "", f"{facts['bytes']:,} bytes. Fingerprint `{facts['fingerprint'][:16]}`.", card]
    return "\n".join(parts)


def first(thing) -> str:
    """The first sentence of a docstring, in a cell of a table."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split()).replace("|", "\\|")


def arguments(factory) -> str:
    """What a config can say, with the defaults."""
    parameters = inspect.signature(factory).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return ", ".join(f"`{p.name}`" if p.default is p.empty else f"`{p.name}={p.default!r}`" for p in named)
