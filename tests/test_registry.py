import sys
import types
from importlib.metadata import EntryPoint

import click
import pytest
import torch
from compressai.registry.torch import CRITERIONS, MODULES

from glc_toolkit import hookimpl, registry


@pytest.fixture
def installed(monkeypatch):
    """Installs entry points ``(name, module, hooks)`` in place of those there are, and takes them out again."""

    def install(*plugins):
        for _, name, hooks in plugins:
            module = types.ModuleType(name)
            vars(module).update(hooks)
            monkeypatch.setitem(sys.modules, name, module)
        entries = [EntryPoint(name, module, "glc_toolkit") for name, module, _ in plugins]
        monkeypatch.setattr(registry, "entry_points", lambda group: entries)
        forget()

    def forget():
        registry.manager.cache_clear()
        registry.refresh()

    yield install
    monkeypatch.undo()
    forget()


def test_builtins_come_through_the_hooks():
    assert "vqgan" in registry.names("backbone")
    assert registry.plugin_of("loss", "rate") == registry.BUILTIN
    registry.register_with_compressai()
    assert MODULES["glc-backbone-vqgan"] is registry.components("backbone")["vqgan"][0]
    assert CRITERIONS["glc-loss-rate"] is registry.components("loss")["rate"][0]


def test_a_plugin_adds_a_component(plugin):
    metric = types.SimpleNamespace(higher_is_better=True)
    plugin("third party", glc_metrics=lambda: {"zero": lambda: metric})
    assert registry.build("metric", {"name": "zero"}) is metric
    assert registry.plugin_of("metric", "zero") == "third party"


def test_reading_changes_nothing_of_compressai_and_removing_undoes():
    def metric():
        return types.SimpleNamespace(higher_is_better=True)

    registry.register(types.SimpleNamespace(glc_metrics=hookimpl(lambda: {"passing": metric})), "passing")
    assert registry.build("metric", {"name": "passing"}) == metric() and "passing" in registry.names("metric")
    assert "glc-metric-passing" not in MODULES
    registry.register_with_compressai()
    assert MODULES["glc-metric-passing"] is metric
    registry.unregister("passing")
    assert "glc-metric-passing" not in MODULES and "glc-metric-psnr" in MODULES
    with pytest.raises(ValueError, match="no plugin named 'passing'"):
        registry.unregister("passing")


def test_plugins_behind_the_one_that_has_a_component_are_not_asked(plugin):
    asked, metric = [], types.SimpleNamespace(higher_is_better=True)
    plugin("heavy", glc_metrics=lambda: asked.append("heavy") or {"heavy": lambda: metric})
    registry.build("metric", {"name": "psnr"})
    assert registry.plugin_of("metric", "psnr") == registry.BUILTIN and not asked
    assert registry.build("metric", {"name": "heavy"}) is metric and asked


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


def test_a_clash_names_both_plugins_and_the_first_stays(plugin, monkeypatch):
    plugin("one", glc_losses=lambda: {"same": int})
    plugin("two", glc_losses=lambda: {"same": str, "other": str})
    with pytest.warns(UserWarning, match=r"'same' of plugin 'two' is left out: .* as plugin 'one' does"):
        assert registry.components("loss")["same"] == (int, "one") and "other" in registry.names("loss")
    registry.refresh()
    monkeypatch.setenv(registry.STRICT, "1")
    with pytest.raises(registry.PluginError, match=r"'two'.*'one'"):
        registry.names("loss")


def stop():
    raise SystemExit(3)


@pytest.mark.parametrize(
    "hook, message",
    [
        (lambda: None, "gives None, not a dict by names"),
        (lambda: [("a", int)], "not a dict by names"),
        (lambda: {1: int}, "not a dict by names"),
        (lambda: {"a": "int"}, "gives 'int' as 'a', which cannot be called"),
        (stop, "SystemExit: 3"),
    ],
)
def test_what_a_hook_may_not_give(plugin, hook, message):
    plugin("strange", glc_losses=hook)
    plugin("sound", glc_losses=lambda: {"sound": int})
    with pytest.warns(UserWarning, match=f"plugin 'strange' is left out: .*{message}"):
        assert {"sound", "rate"} <= set(registry.names("loss"))


def test_a_command_that_ends_the_program_takes_no_other_away(plugin, monkeypatch):
    from glc_toolkit import cli

    plugin("ender", glc_commands=lambda cli: stop())
    with pytest.warns(UserWarning, match="plugin 'ender' is left out: SystemExit: 3"):
        cli.add_plugin_commands()


def test_a_broken_hook_is_a_warning_that_names_the_plugin(plugin, monkeypatch):
    plugin("broken", glc_transforms=lambda: 1 / 0)
    with pytest.warns(UserWarning, match="'broken' is left out: ZeroDivisionError"):
        assert "gated" in registry.names("transform")
    registry.refresh()
    monkeypatch.setenv(registry.STRICT, "1")
    with pytest.raises(registry.PluginError, match="'broken'"):
        registry.names("transform")


def test_an_entry_point_that_does_not_import_does_not_stop_the_others(installed, monkeypatch):
    installed(("missing", "gone", {}), ("working", "stub", {"glc_metrics": hookimpl(lambda: {"stub": int})}))
    monkeypatch.delitem(sys.modules, "gone")
    with pytest.warns(UserWarning, match="'missing' is left out: ModuleNotFoundError"):
        assert "stub" in registry.names("metric")


@pytest.mark.parametrize("name", ["same", registry.BUILTIN])
def test_of_two_plugins_with_one_name_the_first_stays(installed, monkeypatch, name):
    first = ("same", "one", {"glc_metrics": hookimpl(lambda: {"first": int})})
    second = (name, "two", {"glc_metrics": hookimpl(lambda: {"second": int})})
    installed(first, second)
    with pytest.warns(UserWarning, match=f"'{name}' is left out: PluginError: two has the name of <module"):
        assert {"first", "psnr"} < set(registry.names("metric"))
    assert "second" not in registry.names("metric")
    installed(first, second)
    monkeypatch.setenv(registry.STRICT, "1")
    with pytest.raises(registry.PluginError, match="two has the name of"):
        registry.names("metric")


def test_only_marked_functions_are_hooks(installed):
    hooks = {"glc_metrics": lambda: {"unmarked": int}, "glc_losses": hookimpl(lambda: {"marked": int})}
    installed(("careless", "careless", hooks))
    assert "unmarked" not in registry.names("metric") and "marked" in registry.names("loss")


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


def test_a_hook_that_does_not_exist_is_refused():
    module = types.SimpleNamespace(glc_quantiser=hookimpl(lambda: {}))
    with pytest.raises(registry.PluginError, match=r"'british': .*glc_quantiser"):
        registry.register(module, "british")
    assert not registry.manager().has_plugin("british")


def test_what_a_component_lacks_is_named(plugin):
    plugin("half", glc_contexts=lambda: {"half": type("Half", (), {"masks": None})})
    with pytest.raises(ValueError, match=r"context 'half' lacks reduce of glc_toolkit\.types\.Context"):
        registry.build("context", {"name": "half"})


@pytest.mark.parametrize(
    "name, args", [("vq", {"heads": 2}), ("fsq", {"num_codebooks": 2}), ("lfq", {"num_codebooks": 2})]
)
def test_quantizers_have_one_head(name, args):
    quantizer = registry.build("quantizer", {"name": name, "args": args}, channels=16)
    with pytest.raises(ValueError, match="gives 2 indices a position, not 1"):
        quantizer(torch.zeros(1, 16, 4, 4))


def test_a_library_that_refuses_arguments_is_answered_in_words():
    with pytest.raises(ValueError, match="quantizer 'lfq': "):
        registry.build("quantizer", {"name": "lfq", "args": {"codebook_size": 1000}}, channels=16)


def test_each_level_has_a_lambda():
    with pytest.raises(ValueError, match="2 values of lmbda for the 4 levels of the model"):
        registry.build("loss", {"name": "rate", "args": {"lmbda": [4.0, 2.0]}}, levels=4)
