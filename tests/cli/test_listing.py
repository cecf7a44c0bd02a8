"""What is installed, what it takes, and how little is imported to say so."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import auralflow
from auralflow_core.registry import core_version, default_registry

TYPE = "SpectrogramNetSimple"
TONE = """
from auralflow_core import ModelParams, hookimpl

class Params(ModelParams):
    size: int = 1

@hookimpl
def register_models(register):
    register("Tone", network="a.b:C", params=Params, domain="waveform", summary="a [tone] of its own")
"""

# Every installed plugin is loaded; nothing that computes may be.
QUIET = """
import sys
from auralflow_core.cli import main
try:
    main(sys.argv[1:], prog_name="auralflow")
finally:
    heavy = {"torch", "torchaudio", "numpy", "scipy", "matplotlib", "soundfile", "tensorboard"} & set(sys.modules)
    print("heavy:", sorted(heavy), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["train", "--help"], 0),
        (["list-models"], 0),
        (["list-plugins", "--json"], 0),
        (["config", "m", TYPE, "--lr", "1e-4", "--display"], 0),
        (["config", "m", "Nothing"], 1),
        (["create", "session"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_command_imports_no_torch(words: list[str], status: int, tmp_path: Any) -> None:
    result = subprocess.run([sys.executable, "-c", QUIET, *words], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == status, result.stderr
    assert result.stderr.endswith("heavy: []\n")


def test_python_m_auralflow() -> None:
    result = subprocess.run([sys.executable, "-m", "auralflow", "--version"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, f"auralflow, version {core_version()}\n")


def test_console_script_is_the_same_command() -> None:
    import importlib_metadata

    from auralflow_core.cli import main

    [point] = importlib_metadata.entry_points(group="console_scripts", name="auralflow")
    assert point.load() is main


class TestListModels:
    def test_table(self, invoke: Any, install_plugin: Any) -> None:
        install_plugin("auralflow-tone", TONE, version="2.3")
        lines = [" ".join(line.split()) for line in invoke("list-models").stdout.splitlines()]
        assert "type plugin version domain summary" in lines
        assert "Tone auralflow-tone 2.3 waveform a [tone] of its own" in lines
        assert any(line.startswith(f"{TYPE} auralflow-simplenet ") and "UNetSpec" in line for line in lines)

    def test_json(self, invoke: Any, install_plugin: Any) -> None:
        install_plugin("auralflow-tone", TONE, version="2.3")
        data = json.loads(invoke("list_models", "--json").stdout)
        assert {
            "type": "Tone",
            "plugin": "auralflow-tone",
            "version": "2.3",
            "domain": "waveform",
            "summary": "a [tone] of its own",
            "aliases": [],
        } in data["models"]
        assert data["failed"] == []

    def test_failed_plugin_is_shown_with_its_reason(self, invoke: Any, install_plugin: Any) -> None:
        install_plugin("auralflow-bad", "import no_such_module_anywhere", version="3.1")
        install_plugin("auralflow-worse", "raise SystemExit(4)")
        for command in ("list-models", "list-plugins"):
            text = " ".join(invoke(command).stdout.split())
            assert "auralflow-bad 3.1 ModuleNotFoundError: No module named 'no_such_module_anywhere'" in text
            assert "auralflow-worse 1.0 SystemExit: 4" in text and "auralflow-simplenet" in text
            failed = json.loads(invoke(command, "--json").stdout)["failed"]
            assert [failure["name"] for failure in failed] == ["auralflow-bad", "auralflow-worse"]

    def test_type_of_two_plugins_is_shown_as_it_must_be_written(
        self, invoke: Any, refused: Any, install_plugin: Any, tmp_path: Any
    ) -> None:
        install_plugin("auralflow-tone", TONE)
        install_plugin("other-tone", TONE)
        names = [model["type"] for model in json.loads(invoke("list-models", "--json").stdout)["models"]]
        assert {"Tone@auralflow-tone", "Tone@other-tone", TYPE} <= set(names) and "Tone" not in names
        assert set(names) == set(auralflow.list_models())
        text = refused("config", "m", "Tone", "--save", tmp_path)
        assert "Tone@auralflow-tone or Tone@other-tone" in text
        invoke("config", "m", "Tone@other-tone", "--save", tmp_path)

    def test_nothing_installed(self, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AURALFLOW_PLUGINS", "")
        default_registry.cache_clear()
        try:
            assert "AURALFLOW_PLUGINS switches all architectures off" in invoke("list-models").stdout
            assert json.loads(invoke("list-models", "--json").stdout) == {"models": [], "failed": []}
        finally:
            default_registry.cache_clear()


class TestListPlugins:
    def test_json(self, invoke: Any) -> None:
        plugins = {plugin["name"]: plugin for plugin in json.loads(invoke("list-plugins", "--json").stdout)["plugins"]}
        assert plugins["auralflow"]["losses"] >= 7 and plugins["auralflow"]["models"] == 0
        assert plugins["auralflow-simplenet"]["models"] == 1
        assert plugins["auralflow-simplenet"]["module"] == "auralflow_simplenet"

    def test_table(self, invoke: Any) -> None:
        text = invoke("list-plugins").stdout
        assert all(word in text for word in ("plugin", "models", "losses", "datasets", "loggers", "weights"))


class TestShowModel:
    def test_table_comes_from_the_schema(self, invoke: Any) -> None:
        text = invoke("show-model", TYPE).stdout
        lines = [" ".join(line.split()) for line in text.splitlines()]
        assert lines[0].startswith(f"{TYPE}: ")
        assert "domain magnitude" in text and "15,378,881 parameters" in text
        assert "setting type default range meaning" in lines
        fields = default_registry().models.get(TYPE).load_params().model_fields
        for name, field in fields.items():
            [line] = [line for line in lines if line.startswith(f"{name} ")]
            assert str(field.default) in line and str(field.description) in line

    def test_json(self, invoke: Any) -> None:
        data = json.loads(invoke("show-model", "UNetSpec", "--json").stdout)
        assert (data["type"], data["domain"], data["parameters"]) == (TYPE, "magnitude", 15_378_881)
        params = {param["setting"]: param for param in data["params"]}
        assert params["hidden_channels"]["range"] == "≥ 1, ≤ 512"
        assert params["hidden_channels"]["default"] == 16 and params["normalize_input"]["default"] is False

    def test_unknown_type(self, refused: Any) -> None:
        text = refused("show-model", "SpectrogramNetSimpel")
        assert f"did you mean {TYPE}" in text and "installed: " in text

    def test_network_that_cannot_be_loaded(self, refused: Any, install_plugin: Any) -> None:
        install_plugin("auralflow-tone", TONE)
        text = refused("show-model", "Tone")
        assert "auralflow-tone" in text and "a.b:C" in text


class TestHelp:
    def test_every_command_is_explained(self, invoke: Any) -> None:
        from auralflow_core.cli import main

        text = invoke("--help").stdout
        expected = {
            "config",
            "create",
            "demo",
            "list-models",
            "list-plugins",
            "separate",
            "show-model",
            "test",
            "train",
        }
        assert expected <= set(main.commands)
        for name, command in main.commands.items():
            assert name in text and command.help
            shown = invoke(name, "-h").stdout
            for option in command.params:
                assert option.param_type_name == "argument" or getattr(option, "help", None), (name, option.name)
                assert option.param_type_name == "argument" or option.opts[0] in shown
            assert "\\b" not in shown, name  # what click takes for the end of wrapping, if it is the character

    def test_examples_have_a_line_each(self, invoke: Any) -> None:
        lines = [line.strip() for line in invoke("download", "-h").stdout.splitlines()]
        assert {"auralflow download umxhq", "auralflow download umxhq --to my_model"} <= set(lines)

    @pytest.mark.parametrize("spelling", ["--bit-depth", "--bit_depth"])
    def test_dashes_and_underscores(self, spelling: str, invoke: Any) -> None:
        # The value is judged, so the name was understood.
        assert "'8' is not one of" in invoke("separate", "m", "x.wav", spelling, "8", status=2).stderr

    def test_debug_shows_the_traceback(self, runner: Any) -> None:
        from auralflow_core.cli import main
        from auralflow_core.errors import AuralflowError

        result = runner.invoke(main, ["--debug", "show-model", "Nothing"])
        assert isinstance(result.exception, AuralflowError)
