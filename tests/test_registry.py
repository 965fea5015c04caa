import sys
import types
from importlib.metadata import EntryPoint

import click
import pytest
from compressai.registry.torch import CRITERIONS, MODULES

from glc_toolkit import hookimpl, registry


@pytest.fixture
def plugin():
    """Registers plugins made from functions, and takes them out again."""
    added = []

    def add(name, **hooks):
        module = types.SimpleNamespace(**{hook: hookimpl(function) for hook, function in hooks.items()})
        registry.register(module, name)
        added.append(name)

    yield add
    for name in added:
        registry.unregister(name)


def test_builtins_come_through_the_hooks():
    assert "vqgan" in registry.names("backbone")
    assert registry.plugin_of("loss", "rate") == registry.BUILTIN
    assert MODULES["glc-backbone-vqgan"] is registry.components("backbone")["vqgan"][0]
    assert CRITERIONS["glc-loss-rate"] is registry.components("loss")["rate"][0]


def test_a_plugin_adds_a_component(plugin):
    plugin("third party", glc_metrics=lambda: {"zero": lambda: "a metric"})
    assert registry.build("metric", {"name": "zero"}) == "a metric"
    assert registry.plugin_of("metric", "zero") == "third party"


def test_a_plugin_adds_a_command(plugin, monkeypatch, capsys):
    from glc_toolkit import cli

    group = click.Group("glc")
    plugin(
        "commander",
        glc_commands=lambda cli: cli.add_command(click.Command("extra", callback=lambda: click.echo("ran"))),
    )
    monkeypatch.setattr(cli, "cli", group)
    monkeypatch.setattr("sys.argv", ["glc", "extra"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0 and capsys.readouterr().out == "ran\n"


def test_a_clash_names_both_plugins(plugin):
    plugin("one", glc_losses=lambda: {"same": int})
    plugin("two", glc_losses=lambda: {"same": int})
    with pytest.raises(registry.PluginError, match=r"'(one|two)' and '(one|two)' both define 'same'"):
        registry.names("loss")


def test_a_broken_hook_is_a_warning_that_names_the_plugin(plugin, monkeypatch):
    plugin("broken", glc_transforms=lambda: 1 / 0)
    with pytest.warns(UserWarning, match="'broken' is left out: ZeroDivisionError"):
        assert "gated" in registry.names("transform")
    registry.refresh()
    monkeypatch.setenv(registry.STRICT, "1")
    with pytest.raises(registry.PluginError, match="'broken'"):
        registry.names("transform")


def test_an_entry_point_that_does_not_import_does_not_stop_the_others(monkeypatch):
    entries = [
        EntryPoint("missing", "glc_no_such_module", "glc_toolkit"),
        EntryPoint("working", "tests_plugin_stub", "glc_toolkit"),
    ]
    stub = types.ModuleType("tests_plugin_stub")
    stub.glc_metrics = hookimpl(lambda: {"stub": int})
    monkeypatch.setitem(sys.modules, "tests_plugin_stub", stub)
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    registry.manager.cache_clear()
    registry.refresh()
    try:
        with pytest.warns(UserWarning, match="'missing' is left out: ModuleNotFoundError"):
            assert "stub" in registry.names("metric")
    finally:
        monkeypatch.undo()
        registry.manager.cache_clear()
        registry.refresh()


@pytest.mark.parametrize(
    "config, message",
    [
        ({"name": "no such"}, "no loss named 'no such'; there are: .*rate"),
        ({"name": "rate", "args": {"nonsense": 1}}, "loss 'rate': .*nonsense"),
        ({"args": {}}, "is configured as"),
        ("rate", "is configured as"),
        ({"name": "rate", "arg": {}}, "is configured as"),
    ],
)
def test_bad_configs_are_explained(config, message):
    with pytest.raises(ValueError, match=message):
        registry.build("loss", config)
    with pytest.raises(ValueError, match="unknown kind"):
        registry.names("backbones")
