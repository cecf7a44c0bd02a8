"""Discovery, isolation and resolution of plugins, through real hooks and real metadata."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from pydantic import Field

from auralflow_core import AuralflowError, ModelParams, Registry, hookimpl
from auralflow_core.entries import KINDS, load_target
from auralflow_core.errors import RegistryError
from auralflow_core.hookspecs import register_models
from auralflow_core.registry import (
    PluginFailure,
    PluginSource,
    core_version,
    default_registry,
    installed_sources,
)


class GainParams(ModelParams):
    initial: float = Field(1.0, ge=0, description="gain that training starts from")


def gain(register: Any, name: str = "Gain", **facts: Any) -> None:
    known = {"network": "colours_of_nothing:Gain", "params": GainParams, "domain": "magnitude", "summary": "one gain"}
    register(name, **{**known, **facts})


def plugin_source(name: str, *, requires: tuple[str, ...] = (), **hooks: Callable[[Any], None]) -> PluginSource:
    """Return a plugin that implements the given hooks."""
    module = ModuleType(name.replace("-", "_"))
    for hook, body in hooks.items():

        def implementation(register: Any, body: Callable[[Any], None] = body) -> None:
            body(register)

        implementation.__name__ = hook
        setattr(module, hook, hookimpl(implementation))
    return PluginSource(name, lambda: module, "1.0", requires)


GOOD = plugin_source("auralflow-gain", register_models=gain)

PLUGIN_CODE = """
from auralflow_core import ModelParams, hookimpl

class Params(ModelParams):
    size: int = 1

@hookimpl
def register_models(register):
    register("{type}", network="{network}", params=Params, domain="magnitude", summary="{summary}")
"""


def plugin_code(type_: str, network: str = "nowhere.network:Net", summary: str = "a test") -> str:
    return PLUGIN_CODE.format(type=type_, network=network, summary=summary)


def raises(error: BaseException) -> Callable[..., Any]:
    def run(*_: Any) -> Any:
        raise error

    return run


def half_then(action: Callable[[Any], None]) -> dict[str, Callable[[Any], None]]:
    """Return hooks that register a loss and a model before something goes wrong."""

    def models(register: Any) -> None:
        gain(register, "Half")
        action(register)

    return {"register_models": models, "register_losses": lambda register: register("half", loss=abs, summary="x")}


def with_signature() -> PluginSource:
    module = ModuleType("auralflow_wrong")

    def register_models(registry: Any) -> None: ...

    module.register_models = hookimpl(register_models)  # type: ignore[attr-defined]
    return PluginSource("auralflow-wrong", lambda: module, "1.0")


def with_hook(name: str) -> PluginSource:
    return plugin_source("auralflow-wrong", **{name: gain}, **{"register_losses": half_then(gain)["register_losses"]})


def wrong(action: Callable[[Any], None]) -> PluginSource:
    return plugin_source("auralflow-wrong", **half_then(action))


def weights(**facts: Any) -> PluginSource:
    known = {
        "type": "Gain", "files": {"w.safetensors": "https://x"}, "sha256": {"w.safetensors": "0" * 8}, "licence": "",
        "summary": "",
    }  # fmt: skip
    return plugin_source(
        "auralflow-wrong",
        register_models=lambda register: gain(register, "Half"),
        register_weights=lambda register: register("w", **{**known, **facts}),
    )


def loading(error: BaseException) -> PluginSource:
    return PluginSource("auralflow-wrong", raises(error), "1.0")


FAULTS: dict[str, tuple[PluginSource, tuple[str, ...]]] = {
    "import error": (loading(ImportError("No module named 'jax'")), ("ImportError", "jax")),
    "syntax error": (loading(SyntaxError("invalid syntax")), ("SyntaxError",)),
    "exit at import": (loading(SystemExit(3)), ("SystemExit", "3")),
    "no text": (loading(RuntimeError()), ("RuntimeError",)),
    "many lines": (loading(RuntimeError("first\n   second")), ("RuntimeError: first second",)),
    "raising hook": (wrong(raises(ZeroDivisionError("by zero"))), ("ZeroDivisionError", "by zero")),
    "exit in hook": (wrong(raises(SystemExit("bye"))), ("SystemExit", "bye")),
    "wrong signature": (with_signature(), ("registry",)),
    "unknown hook": (with_hook("register_modles"), ("register_modles",)),
    "params without schema": (wrong(lambda register: gain(register, params=dict)), ("dict", "ModelParams")),
    "params an object": (wrong(lambda register: gain(register, params=GainParams())), ("ModelParams",)),
    "unknown domain": (wrong(lambda register: gain(register, domain="time")), ("time", "magnitude", "waveform")),
    "registered twice": (wrong(lambda register: gain(register, "Half")), ("Half", "twice")),
    "unknown argument": (wrong(lambda register: gain(register, sumary="x")), ("sumary", "summary")),
    "missing argument": (wrong(lambda register: register("X", summary="x")), ("network",)),
    "space in name": (wrong(lambda register: gain(register, "a b")), ("a b",)),
    "at in name": (wrong(lambda register: gain(register, "a@b")), ("a@b",)),
    "empty name": (wrong(lambda register: gain(register, "")), ("empty",)),
    "weights without files": (weights(files={}, sha256={}), ("w: files and sha256",)),
    "weights without a digest": (weights(sha256={}), ("w: files and sha256",)),
    "weights with a short digest": (weights(sha256={"w.safetensors": "0" * 7}), ("w.safetensors", "8 to 64")),
    "weights with a path": (weights(files={"../w": "https://x"}, sha256={"../w": "0" * 8}), ("'../w'", "file name")),
    "weights of another scheme": (weights(files={"w.safetensors": "file:///w"}), ("file:///w", "http")),
    "weights in another format": (
        weights(files={"w.pth": "https://x"}, sha256={"w.pth": "0" * 8}),
        ("w: names no convert",),
    ),
}


class TestIsolation:
    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
    def test_failing_plugin_leaves_its_reason_and_nothing_else(self, fault: str, is_first: bool) -> None:
        source, words = FAULTS[fault]
        registry = Registry([source, GOOD] if is_first else [GOOD, source])
        [failure] = registry.failures
        assert (failure.name, failure.version) == ("auralflow-wrong", "1.0")
        assert all(word in failure.reason for word in words), failure.reason
        assert "\n" not in failure.reason
        assert [plugin.name for plugin in registry.plugins] == ["auralflow-gain"]
        assert [(kind, entry.name) for kind in KINDS for entry in getattr(registry, kind)] == [("models", "Gain")]

    def test_several_failures_are_all_kept(self) -> None:
        sources = [PluginSource(f"p{number}", raises(ValueError(number))) for number in range(3)]
        assert Registry(sources).failures == [PluginFailure(f"p{n}", "", f"ValueError: {n}") for n in range(3)]

    def test_user_may_still_interrupt(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            Registry([loading(KeyboardInterrupt())])

    def test_each_hook_registers_its_kind(self) -> None:
        source = plugin_source(
            "auralflow-full",
            register_models=lambda register: gain(register, aliases=["Amp"]),
            register_losses=lambda register: register("cube", loss="a.b:C", summary="s", settings=["lr"]),
            register_optimizers=lambda register: register("leap", optimizer="a.b:O", summary="s"),
            register_schedulers=lambda register: register("wave", scheduler="a.b:S", summary="s", settings=["lr"]),
            register_datasets=lambda register: register("tape", dataset="a.b:D", summary="s"),
            register_loggers=lambda register: register("paper", logger="a.b:E", summary="s"),
            register_weights=lambda register: register(
                "gain-1",
                type="Gain",
                files={"w.safetensors": "https://x.org/w"},
                sha256={"w.safetensors": "0" * 64},
                licence="MIT",
                summary="s",
            ),
            register_config_formats=lambda register: register("abc", detects=bool, convert="a.b:F", summary="s"),
        )
        registry = Registry([source])
        assert not registry.failures
        assert registry.plugins[0].counts == dict.fromkeys(KINDS, 1)
        assert registry.losses.get("cube").settings == registry.schedulers.get("wave").settings == ("lr",)
        assert registry.weights.get("gain-1").sha256 == {"w.safetensors": "0" * 64}
        found = registry.models.get("Amp")
        assert found is registry.models.get("Gain")
        assert (found.plugin, found.version, found.domain) == ("auralflow-full", "1.0", "magnitude")

    def test_registries_do_not_know_each_other(self) -> None:
        first, second = Registry([GOOD]), Registry()
        assert [entry.name for entry in first.models] == ["Gain"]
        assert not list(second.models)
        assert default_registry() is default_registry()
        assert "Gain" not in {entry.name for entry in default_registry().models}

    def test_hooks_say_what_they_are_for_in_one_line(self) -> None:
        from auralflow_core import hookspecs

        hooks = {name: getattr(hookspecs, name) for name in vars(hookspecs) if name.startswith("register_")}
        assert set(hooks) == {f"register_{kind}" for kind in KINDS}
        assert register_models in hooks.values()
        for hook in hooks.values():
            assert hook.__doc__ and "\n" not in hook.__doc__


class TestResolution:
    def test_two_plugins_claim_one_type(self) -> None:
        other = plugin_source(
            "auralflow-loud", register_models=lambda register: (gain(register), gain(register, "Own"))
        )
        registry = Registry([GOOD, other])
        with pytest.raises(RegistryError, match=r"'Gain'.*Gain@auralflow-gain or Gain@auralflow-loud"):
            registry.models.get("Gain")
        assert registry.models.get("Own").plugin == "auralflow-loud"
        assert registry.models.get("Gain@auralflow-gain").plugin == "auralflow-gain"
        assert registry.models.get("Gain@loud").plugin == "auralflow-loud"
        assert [registry.models.is_ambiguous(entry) for entry in registry.models] == [True, True, False]

    def test_a_type_may_have_dots(self) -> None:
        dotted = plugin_source("auralflow-dots", register_models=lambda register: gain(register, "unet.gain"))
        rival = plugin_source("auralflow-rival", register_models=lambda register: gain(register, "unet.gain"))
        assert Registry([dotted]).models.get("unet.gain").plugin == "auralflow-dots"
        assert Registry([dotted, rival]).models.get("unet.gain@auralflow-rival").plugin == "auralflow-rival"
        with pytest.raises(RegistryError, match=r"did you mean unet\.gain"):
            Registry([dotted]).models.get("unet.gan")

    def test_plugin_is_named_in_any_spelling(self) -> None:
        assert Registry([GOOD]).models.get("Gain@Auralflow_Gain").plugin == "auralflow-gain"

    def test_other_plugin_with_that_type_is_no_answer(self) -> None:
        with pytest.raises(RegistryError, match="Gain@loud"):
            Registry([GOOD]).models.get("Gain@loud")

    def test_alias_of_one_plugin_beside_the_type_of_another(self) -> None:
        alias = plugin_source(
            "auralflow-amp", register_models=lambda register: gain(register, "Amplifier", aliases=("Gain",))
        )
        registry = Registry([GOOD, alias])
        assert registry.models.get("Gain@amp").name == "Amplifier"

    def test_unknown_type_lists_near_names_installed_types_and_failures(self) -> None:
        registry = Registry([GOOD, loading(ImportError("no jax"))])
        with pytest.raises(RegistryError) as caught:
            registry.models.get("Gian")
        text = str(caught.value)
        for part in ("model type 'Gian'", "did you mean Gain?", "installed: Gain", "auralflow-wrong", "no jax"):
            assert part in text

    def test_unknown_type_without_any_plugin(self) -> None:
        with pytest.raises(RegistryError, match=r"'Gain' is not installed.*none"):
            Registry().models.get("Gain")

    @pytest.mark.parametrize("kind", KINDS)
    def test_unknown_name_of_any_kind(self, kind: str) -> None:
        with pytest.raises(RegistryError, match="'nothing'"):
            getattr(Registry(), kind).get("nothing")


class TestTargets:
    def test_object_is_returned_as_it_is(self) -> None:
        registry = Registry([plugin_source("p", register_losses=lambda register: register("a", loss=abs, summary=""))])
        entry = registry.losses.get("a")
        assert load_target(entry.loss, entry) is abs

    def test_text_is_imported_when_it_is_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "colorsys", raising=False)
        source = plugin_source("p", register_models=lambda register: gain(register, network="colorsys:rgb_to_hls"))
        entry = Registry([source]).models.get("Gain")
        assert "colorsys" not in sys.modules
        assert entry.load_network() is sys.modules["colorsys"].rgb_to_hls

    @pytest.mark.parametrize(
        "target",
        ["no_such_module:Net", "colorsys:no_such_name", "colorsys", ":Net", "wrong path:Net"],
    )
    def test_target_that_cannot_be_loaded_names_the_plugin(self, target: str) -> None:
        source = plugin_source("auralflow-gain", register_models=lambda register: gain(register, network=target))
        with pytest.raises(RegistryError) as caught:
            Registry([source]).models.get("Gain").load_network()
        for part in ("Gain", "auralflow-gain", target):
            assert part in str(caught.value)

    @pytest.mark.parametrize("body", ["import sys; sys.exit(2)", "raise RuntimeError('broken wheel')", "x ="])
    def test_module_that_fails_names_the_plugin(self, body: str, install_plugin: Any) -> None:
        module = install_plugin("broken", body)
        source = plugin_source("auralflow-gain", register_models=lambda r: gain(r, network=f"{module}:Net"))
        with pytest.raises(RegistryError, match=f"auralflow-gain.*{module}"):
            Registry([source]).models.get("Gain").load_network()

    def test_params_named_by_text_are_checked_when_they_are_loaded(self) -> None:
        source = plugin_source("auralflow-gain", register_models=lambda r: gain(r, params="builtins:dict"))
        with pytest.raises(AuralflowError, match=r"auralflow-gain|ModelParams"):
            Registry([source]).models.get("Gain").load_params()


class TestDiscovery:
    def test_installed_distribution_is_found(self, install_plugin: Any) -> None:
        install_plugin("auralflow-tone", plugin_code("Tone"), version="2.3")
        entry = Registry.discover().models.get("Tone")
        assert (entry.plugin, entry.version, entry.summary) == ("auralflow-tone", "2.3", "a test")

    @pytest.mark.parametrize("name", ["Auralflow_Tone", "AURALFLOW-TONE", "auralflow.tone", "auralflow__tone"])
    def test_distribution_names_are_normalised(self, name: str, install_plugin: Any) -> None:
        install_plugin(name, plugin_code("Tone"))
        assert Registry.discover().models.get("Tone").plugin == "auralflow-tone"

    def test_failing_distribution_is_reported_and_others_load(self, install_plugin: Any) -> None:
        install_plugin("auralflow-bad", "import no_such_module_anywhere")
        install_plugin("auralflow-tone", plugin_code("Tone"))
        registry = Registry.discover()
        assert registry.models.get("Tone")
        [failure] = registry.failures
        assert failure.name == "auralflow-bad" and "no_such_module_anywhere" in failure.reason

    @pytest.mark.parametrize(
        ("selection", "expected"),
        [
            (None, {"Tone", "Noise"}),
            ("", set()),
            (" ", set()),
            ("auralflow-tone", {"Tone"}),
            ("tone", {"Tone"}),
            ("Auralflow_Tone", {"Tone"}),
            ("auralflow_tone", {"Tone"}),
            ("my-entry", {"Noise"}),
            (" tone , noise ,", {"Tone", "Noise"}),
        ],
    )
    def test_environment_chooses_plugins(
        self, selection: str | None, expected: set[str], install_plugin: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install_plugin("auralflow-tone", plugin_code("Tone"))
        install_plugin("auralflow-noise", plugin_code("Noise"), entry_point="my-entry")
        if selection is not None:
            monkeypatch.setenv("AURALFLOW_PLUGINS", selection)
        registry = Registry.discover()
        found = {entry.name for entry in registry.models}
        assert found & {"Tone", "Noise"} == expected
        assert selection is None or found == expected
        assert registry.losses.get("l1")

    def test_argument_goes_before_the_environment(self, install_plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        install_plugin("auralflow-tone", plugin_code("Tone"))
        monkeypatch.setenv("AURALFLOW_PLUGINS", "")
        assert [entry.name for entry in Registry.discover(only=["tone"]).models] == ["Tone"]

    def test_unselected_plugin_is_not_imported(self, install_plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        module = install_plugin("auralflow-tone", plugin_code("Tone"))
        monkeypatch.setenv("AURALFLOW_PLUGINS", "simplenet")
        Registry.discover()
        assert module not in sys.modules

    def test_selected_plugin_that_is_not_installed_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AURALFLOW_PLUGINS", "simplnet")
        assert "simplnet" in str(Registry.discover().failures)

    def test_plugin_for_another_core_is_reported_and_not_loaded(self, install_plugin: Any) -> None:
        module = install_plugin("auralflow-old", plugin_code("Old"), requires=["auralflow<0.0.1", "numpy"])
        registry = Registry.discover()
        [failure] = registry.failures
        assert failure.name == "auralflow-old"
        assert "<0.0.1" in failure.reason and core_version() in failure.reason and "pip install" in failure.reason
        assert module not in sys.modules

    @pytest.mark.parametrize(
        "requirement", ["auralflow", "Auralflow>=0.0.1", 'auralflow<0.0.1; extra == "dev"', "numpy<0"]
    )
    def test_plugin_for_this_core_is_loaded(self, requirement: str, install_plugin: Any) -> None:
        install_plugin("auralflow-tone", plugin_code("Tone"), requires=[requirement])
        assert Registry.discover().models.get("Tone")

    def test_core_registers_its_own_names_through_the_hooks(self) -> None:
        registry = Registry.discover(only=[])
        assert not list(registry.models) and not registry.failures
        assert {entry.name for entry in registry.losses} >= {
            "l1", "l2", "rmse", "mask", "component", "kl_div", "si_sdr",
        }  # fmt: skip
        assert {entry.name for entry in registry.datasets} >= {"musdb", "folder"}
        assert [entry.name for entry in registry.loggers] == ["tensorboard"]

    def test_every_target_of_the_installed_plugins_can_be_loaded(self) -> None:
        registry = Registry.discover()
        assert not registry.failures
        for entry in registry.models:
            entry.load_params()()
            assert callable(entry.load_network())
        for kind, fact in {"losses": "loss", "datasets": "dataset", "loggers": "logger"}.items():
            for entry in getattr(registry, kind):
                assert callable(load_target(getattr(entry, fact), entry))

    def test_sources_are_sorted_by_name(self, install_plugin: Any) -> None:
        install_plugin("auralflow-zzz", plugin_code("Z"))
        install_plugin("auralflow-aaa", plugin_code("A"))
        names = [source.name for source in installed_sources()]
        assert names == sorted(names) and {"auralflow-aaa", "auralflow-zzz"} <= set(names)
