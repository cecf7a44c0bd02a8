"""An architecture's own defaults for settings outside of `model`: new configurations start with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auralflow.models import SpectrogramMaskModel
from auralflow_core.build import default_config
from auralflow_core.config import Config, load_config, validate

PLUGIN = """
import torch
from auralflow_core import ModelParams, hookimpl

class Params(ModelParams):
    defaults = {
        "training": {"lr": 3e-3, "stop_patience": 9, "optimizer": {"name": "sgd", "args": {"momentum": 0.5}}},
        "dataset": {"sample_length": 6},
    }

class Gain(torch.nn.Module):
    def __init__(self, **known):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, magnitude):
        return self.gain * magnitude

@hookimpl
def register_models(register):
    register("Own", network=Gain, params=Params, domain="magnitude", summary="one gain")
"""


@pytest.fixture(autouse=True)
def own_type(install_plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugin("auralflow-own", PLUGIN)
    monkeypatch.chdir(tmp_path)


def facts(config: Config) -> dict[str, Any]:
    training = config.training
    return {
        "lr": training.lr,
        "stop_patience": training.stop_patience,
        "optimizer": (training.optimizer.name, training.optimizer.args),
        "sample_length": config.dataset.sample_length,
    }


OWN = {"lr": 3e-3, "stop_patience": 9, "optimizer": ("sgd", {"momentum": 0.5}), "sample_length": 6}
USUAL = facts(validate(Config, {"model": {"type": "Own"}}))


def test_a_new_configuration_starts_with_them(invoke: Any) -> None:
    invoke("config", "m", "Own")
    assert facts(load_config("m")) == facts(default_config("Own", "m")) == OWN
    invoke("config", "m", "--lr", "0.5")
    assert facts(load_config("m")) == OWN | {"lr": 0.5}
    invoke("config", "plain", "SpectrogramNetSimple")
    assert facts(load_config("plain")) == USUAL


@pytest.mark.parametrize(
    ("words", "wins"),
    [
        (("--lr", "0.5"), {"lr": 0.5}),
        (("--optimizer", "adamw"), {"optimizer": ("adamw", {})}),
        (("--optimizer.args.momentum", "0.1"), {"optimizer": ("sgd", {"momentum": 0.1})}),
        (("--patience", "2", "--sample_length", "1"), {"stop_patience": 2, "sample_length": 1}),
    ],
)
def test_the_command_line_wins(invoke: Any, words: tuple[str, ...], wins: dict[str, Any]) -> None:
    invoke("config", "m", "Own", *words)
    assert facts(load_config("m")) == OWN | wins


@pytest.mark.parametrize(
    ("data", "wins"),
    [
        ({"model_type": "Own", "learning_rate": 0.5}, {"lr": 0.5}),
        ({"model": {"type": "SpectrogramNetSimple"}, "training": {"optimizer": "adam"}}, {"optimizer": ("adam", {})}),
        ({"training": {"optimizer": {"name": "adam"}, "lr": 0.001}}, {"optimizer": ("adam", {}), "lr": 1e-3}),
        ({"dataset": {"sample_length": 3}, "training": {}}, {"sample_length": 3}),
    ],
)
def test_a_file_wins(invoke: Any, data: dict[str, Any], wins: dict[str, Any]) -> None:
    Path("source.json").write_text(json.dumps(data))
    invoke("config", "m", "Own", "--from", "source.json")
    assert facts(load_config("m")) == OWN | wins


def test_a_model_folder_wins(invoke: Any) -> None:
    invoke("config", "other", "Own", "--lr", "0.5", "--optimizer", "adam")
    invoke("config", "m", "--from", "other")
    assert facts(load_config("m")) == facts(load_config("other")) == OWN | {"lr": 0.5, "optimizer": ("adam", {})}


def test_a_setting_that_is_wrong_is_refused_as_ever(refused: Callable[..., str]) -> None:
    Path("source.json").write_text(json.dumps({"model": {"type": "Own"}, "training": 5}))
    assert "source.json: training: 5" in refused("config", "m", "--from", "source.json")


def test_what_exists_and_what_is_made_in_python_is_not_touched(invoke: Any) -> None:
    Path("old").mkdir()
    Path("old/config.json").write_text(json.dumps({"model": {"type": "Own"}}))
    invoke("config", "old", "--sample_length", "1")
    assert facts(load_config("old")) == USUAL | {"sample_length": 1}
    assert facts(SpectrogramMaskModel({"model": {"type": "Own"}}).config) == USUAL


def test_show_model_lists_them(invoke: Any) -> None:
    lines = [line.split() for line in invoke("show-model", "Own").stdout.splitlines()]
    assert ["training.lr", "0.003"] in lines and ["training.optimizer.args.momentum", "0.5"] in lines
    assert json.loads(invoke("show-model", "Own", "--json").stdout)["defaults"]["dataset"] == {"sample_length": 6}
    assert "A new model starts with" not in invoke("show-model", "SpectrogramNetSimple").stdout
