"""Plugins and the components they bring.

The built-in components of this package come from ordinary plugins, through the same hooks as those of others.
"""

import importlib
import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pluggy

from glc_toolkit import hookspecs

HOOKS = {
    "backbone": "glc_backbones",
    "quantizer": "glc_quantizers",
    "transform": "glc_transforms",
    "temporal": "glc_temporals",
    "hyper": "glc_hypers",
    "entropy_model": "glc_entropy_models",
    "context": "glc_contexts",
    "loss": "glc_losses",
    "metric": "glc_metrics",
    "codec": "glc_codecs",
}
KINDS = tuple(HOOKS)
STRICT = "GLC_STRICT_PLUGINS"  # set to 1 to turn a broken plugin from a warning into an error
BUILTIN = "glc_toolkit.components"
BUILTINS = (BUILTIN, "glc_toolkit.evaluation")  # the modules that bring our own components


class PluginError(Exception):
    """A plugin is broken, or two plugins claim the same name."""


@cache
def manager() -> pluggy.PluginManager:
    """The plugin manager, with the built-ins and every installed plugin loaded."""
    pm = pluggy.PluginManager(hookspecs.PROJECT)
    pm.add_hookspecs(hookspecs)
    for module in BUILTINS:
        pm.register(importlib.import_module(module), name=module)
    for entry in entry_points(group=hookspecs.PROJECT):
        if pm.has_plugin(entry.name):
            first = pm.get_plugin(entry.name)
            complain(entry.name, PluginError(f"{entry.value} has the name of {first!r}; uninstall one of them"))
            continue
        # One at a time: pluggy's own loader stops at the first plugin that does not import.
        try:
            pm.register(entry.load(), name=entry.name)
            pm.check_pending()
        except (Exception, SystemExit) as error:
            complain(entry.name, error)
            if pm.has_plugin(entry.name):
                pm.unregister(name=entry.name)
    return pm


def register(plugin: object, name: str) -> None:
    """Add a plugin by hand: a module or object whose hooks are marked with ``hookimpl``."""
    pm = manager()
    pm.register(plugin, name=name)
    try:
        pm.check_pending()
    except pluggy.PluginValidationError as error:
        pm.unregister(name=name)
        raise PluginError(f"plugin {name!r}: {error}") from error
    refresh()


def unregister(name: str) -> None:
    """Remove a plugin that :func:`register` added, from CompressAI's registry as well. Raises ``ValueError`` if there
    is none of this name."""
    if not manager().has_plugin(name):
        raise ValueError(f"no plugin named {name!r}")
    manager().unregister(name=name)
    for table, key in _shown.pop(name, []):
        table.pop(key, None)
    refresh()


_shown: dict[str, list[tuple[dict, str]]] = {}  # by plugin: tables of CompressAI, and our keys in them


def register_with_compressai() -> None:
    """Show every component in ``compressai.registry`` as ``glc-KIND-NAME``: losses in CRITERIONS, others in MODULES."""
    from compressai.registry.torch import CRITERIONS, MODULES

    for kind in KINDS:
        table = CRITERIONS if kind == "loss" else MODULES
        for name, (factory, plugin) in components(kind).items():
            table[key := f"glc-{kind}-{name}"] = factory
            _shown.setdefault(plugin, []).append((table, key))


def refresh() -> None:
    """Ask the plugins anew."""
    given.cache_clear()
    named.cache_clear()


@cache
def given(hook: str, plugin: str) -> dict[str, Any]:
    """``{name: value}`` that one plugin gives for a hook. A hook that fails, or gives no such dict, gives nothing; a
    component that cannot be called is left out."""
    found: dict[str, Any] = {}
    for implementation in getattr(manager().hook, hook).get_hookimpls():
        if implementation.plugin_name != plugin:
            continue
        try:
            values = implementation.function()
            if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
                raise TypeError(f"{hook} gives {values!r:.80}, not a dict by names")
        except (Exception, SystemExit) as error:
            if plugin in BUILTINS:
                raise
            complain(plugin, error)
            continue
        for name, value in values.items():
            if hook in HOOKS.values() and not callable(value):
                complain(plugin, TypeError(f"{hook} gives {value!r:.80} as {name!r}, which cannot be called"), name)
            else:
                found[name] = value
    return found


def plugins(hook: str) -> list[str]:
    """The plugins that have a hook, ours first."""
    return [implementation.plugin_name for implementation in getattr(manager().hook, hook).get_hookimpls()]


@cache
def named(hook: str) -> dict[str, tuple[Any, str]]:
    """``{name: (value, plugin)}`` over all plugins for a hook that returns dicts. A name that a plugin before has taken
    is left out."""
    found: dict[str, tuple[Any, str]] = {}
    for plugin in plugins(hook):
        for name, value in given(hook, plugin).items():
            if name in found:
                clash = f"it defines {name!r} in {hook}, as plugin {found[name][1]!r} does"
                complain(plugin, PluginError(f"{clash}; uninstall one of them or rename its component"), name)
            else:
                found[name] = (value, plugin)
    return found


def model_folders() -> Iterator[tuple[str, Path]]:
    """Name and folder of every model: first those in the folders of ``GLC_ZOO``, then those of plugins."""
    for place in filter(None, os.environ.get("GLC_ZOO", "").split(os.pathsep)):
        yield from ((config.parent.name, config.parent) for config in sorted(Path(place).glob("*/config.json")))
    yield from ((name, Path(folder)) for name, (folder, _) in named("glc_zoo").items())


def components(kind: str) -> dict[str, tuple[Callable[..., Any], str]]:
    """``{name: (factory, plugin)}`` of one kind, over all plugins."""
    return named(hook_of(kind))


def hook_of(kind: str) -> str:
    if kind not in HOOKS:
        raise ValueError(f"unknown kind of component {kind!r}; kinds are {', '.join(KINDS)}")
    return HOOKS[kind]


def find(kind: str, name: str) -> tuple[Callable[..., Any], str]:
    """Factory and plugin of one component. Plugins behind the one that has it are not asked, so that they need not
    import anything. Raises ``ValueError`` if none has it."""
    for plugin in plugins(hook := hook_of(kind)):
        if name in (values := given(hook, plugin)):
            return values[name], plugin
    raise ValueError(f"no {kind} named {name!r}; there are: {', '.join(names(kind))}")


def names(kind: str) -> list[str]:
    """Names of all components of a kind, sorted."""
    return sorted(components(kind))


def build(kind: str, config: dict[str, Any], **defaults: Any) -> Any:
    """Build a component from ``{"name": ..., "args": {...}}``.

    ``defaults`` are arguments that the caller knows, such as numbers of channels. ``args`` overrules them. Defaults
    that the factory does not take are left out. Raises ``ValueError``, which says what is wrong in ``config``, or what
    the component lacks of the protocol of its kind.
    """
    if not isinstance(config, dict) or not isinstance(config.get("name"), str) or set(config) - {"name", "args"}:
        raise ValueError(f'a {kind} is configured as {{"name": ..., "args": {{...}}}}, not {config!r}')
    name = config["name"]
    factory, _ = find(kind, name)
    taken = parameters(factory)
    if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        defaults = {key: value for key, value in defaults.items() if key in taken}
    try:
        component = factory(**{**defaults, **config.get("args", {})})
    except (TypeError, AssertionError) as error:  # libraries of quantizers refuse arguments by assertions
        raise ValueError(f"{kind} {name!r}: {error or 'its arguments do not go together'}") from error
    from glc_toolkit.types import PROMISES  # imported late: it brings PyTorch

    if kind in PROMISES:
        check(component, PROMISES[kind], f"{kind} {name!r}")
    return component


def parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a factory. PyTorch's ``Module`` claims to take any, and takes none."""
    if inspect.isclass(factory):
        owner = next(c for c in inspect.getmro(factory) if "__init__" in vars(c))
        if owner.__module__ == "torch.nn.modules.module":
            return {}
    return dict(inspect.signature(factory).parameters)


def check(component: object, promises: type, name: str) -> None:
    """Raise ``ValueError`` if ``component`` lacks a member of a protocol of :mod:`glc_toolkit.types`."""
    names = [name for owner in promises.__mro__ for name in (*inspect.get_annotations(owner), *vars(owner))]
    members = [name for name in names if not name.startswith("_")]
    if missing := [member for member in members if not hasattr(component, member)]:
        raise ValueError(f"{name} lacks {', '.join(missing)} of glc_toolkit.types.{promises.__name__}")


def plugin_of(kind: str, name: str) -> str:
    """The plugin that a component comes from."""
    return find(kind, name)[1]


def complain(plugin: str, error: BaseException, name: str | None = None) -> None:
    """Warn that a plugin, or its component ``name``, is left out. In strict mode raise :class:`PluginError`."""
    what = f"plugin {plugin!r}" if name is None else f"{name!r} of plugin {plugin!r}"
    message = f"{what} is left out: {type(error).__name__}: {error}"
    if os.environ.get(STRICT) == "1":
        raise PluginError(message) from error
    warnings.warn(message, stacklevel=3)
