"""What MkDocs writes by itself: tables of the reference, from the registry and the zoo; tidy cross-references."""

import inspect
import re
from pathlib import Path

import griffe

NO_DEFAULT = re.compile(r"<code>Sentinel\.UNSET</code>")  # how mkdocs-click shows an option of click 8.3 without one
ROLE = re.compile(r":(?:class|func|meth|mod|data):(?=<code)")  # Sphinx roles in docstrings


def on_page_markdown(markdown: str, page, **_) -> str:
    for marker, table in (("hooks", hooks), ("components", components), ("zoo", zoo)):
        if f"<!-- {marker} -->" in markdown:
            markdown = markdown.replace(f"<!-- {marker} -->", table())
    return markdown


def on_page_content(html: str, **_) -> str:
    return NO_DEFAULT.sub("", ROLE.sub("", html))


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
            parts += [f"### {name}", "", *described(factory), ""]
    return "\n".join(parts)


def described(factory) -> list[str]:
    """What a component is, and a table of what a config can say, with defaults and meaning."""
    sections = griffe.Docstring(inspect.getdoc(factory) or "", parser="google").parse(warnings=False)
    meaning = {}
    lines = []
    for section in sections:
        if section.kind is griffe.DocstringSectionKind.parameters:
            names = [(name.strip(), a.description) for a in section.value for name in a.name.split(",")]
            meaning = dict(names)
        elif section.kind is griffe.DocstringSectionKind.text:
            lines += [section.value, ""]
    parameters = inspect.signature(factory).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if named:
        lines += ["| argument | default | |", "|---|---|---|"]
    for p in named:
        default = "" if p.default is p.empty else f"`{p.default!r}`"
        lines.append(f"| `{p.name}` | {default} | {' '.join(meaning.get(p.name, '').split()).replace('|', '&#124;')} |")
    return lines


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
