"""Weights by name in Python: a model, a network, a model folder."""

from __future__ import annotations

import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import auralflow
from auralflow_core import Registry
from auralflow_core.build import find_weights, load_model, save_as_folder
from auralflow_core.checkpoint import CheckpointStore
from auralflow_core.config import Config, load_config, validate
from auralflow_core.errors import AuralflowError, CheckpointError, ConfigError, RegistryError

AUDIO = torch.tensor([random.Random(0).uniform(-1, 1) for _ in range(2000)]).reshape(2, 1000)


def gains(model: Any) -> list[float]:
    return (model.separate(AUDIO) / AUDIO).mean(dim=(1, 2)).tolist()


def test_a_name_is_a_model(tone: str, server: Any) -> None:
    model = auralflow.models.load("tone-v1")
    assert gains(model) == pytest.approx([0.75, 0.25])
    assert model.targets == ["vocals", "rest"] and not model.training
    assert (model.config.model.type, model.config.model.name) == ("Tone", "tone-v1")
    assert model.config.model.params == {"gain": 0.25} and model.network.initial == 0.25
    origin = model.origin
    assert (origin["weights"], origin["licence"], origin["plugin"]) == ("tone-v1", "CC BY 4.0", tone)
    assert len(origin["sha256"]["tone.safetensors"]) == 64
    auralflow.models.load("tone-v1", device="cpu")
    assert len(server.requests) == 1


def test_device(tone: str) -> None:
    assert load_model("tone-v1", device="cpu").config.training.device == "cpu"
    with pytest.raises(AuralflowError, match="'warp'"):
        load_model("tone-v1", device="warp")


def test_a_folder_goes_before_weights_of_its_name(tone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tone-v1").mkdir()
    assert gains(load_model("tone-v1")) == pytest.approx([0.75, 0.25])
    Path("tone-v1").rmdir()
    model = load_model("tone-v1")
    torch.nn.init.constant_(model.network.gain, 0.5)
    save_as_folder(model, Path("tone-v1"))
    assert gains(load_model("tone-v1")) == pytest.approx([0.5, 0.5])
    assert gains(load_model(f"tone-v1@{tone}")) == pytest.approx([0.75, 0.25])
    assert find_weights("tone-v1") is None and find_weights(f"tone-v1@{tone}")


def test_a_model_becomes_a_folder(tone: str, tmp_path: Path) -> None:
    model = load_model("tone-v1")
    folder = tmp_path / "mine"
    auralflow.models.save_as_folder(model, folder)
    assert gains(load_model(folder)) == gains(model) and model.folder is None
    assert load_config(folder).model.name == "mine"
    store = CheckpointStore(folder / "checkpoint")
    meta = store.meta(store.best())
    assert (meta["weights"], meta["licence"], meta["step"]) == ("tone-v1", "CC BY 4.0", 0)
    with pytest.raises(ConfigError, match="exists already"):
        save_as_folder(model, folder)


def test_steps_are_for_folders(tone: str) -> None:
    with pytest.raises(CheckpointError, match="no steps"):
        load_model("tone-v1", step=3)


def test_plugin_with_a_fault_is_named(tone: str) -> None:
    with pytest.raises(CheckpointError, match=r"tone-broken: plugin auralflow-tone 1\.0 .*KeyError.*no such file"):
        load_model("tone-broken")
    with pytest.raises(CheckpointError, match=r"tone-mono: its weights do not fit Tone .*size mismatch"):
        load_model("tone-mono")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("tone-v2", r"tone-v2: no such model folder; .*'tone-v2' is not installed; did you mean tone-v1"),
        ("umxhq", r"no such model folder; .*`pip install auralflow-openunmix` adds it"),
        ("htdemucs", r"`pip install auralflow-demucs` adds it"),
        ("spleeter:4stems", r"`pip install auralflow-spleeter` adds it"),
        ("models/umxhq", r"no such model folder; make one"),
    ],
)
def test_unknown_names(source: str, words: str, tone: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    only = Registry.discover(["tone"])
    with pytest.raises(ConfigError, match=words):
        load_model(source, registry=only)


def test_folder_without_a_configuration(tone: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("songs").mkdir()
    with pytest.raises(ConfigError, match="songs: not a model folder"):
        load_model("songs")


def test_the_projects_own_plugins_register_what_they_have() -> None:
    from auralflow_core.entries import load_target
    from auralflow_core.known_types import WEIGHTS_PACKAGES

    registry = Registry.discover()
    own = [entry for entry in registry.weights if entry.plugin in WEIGHTS_PACKAGES.values()]
    for entry in own:
        assert WEIGHTS_PACKAGES[entry.name] == entry.plugin
        assert registry.models.get(entry.type).plugin == entry.plugin
        assert callable(load_target(entry.convert, entry))
        config = entry.config if isinstance(entry.config, Mapping) else load_target(entry.config, entry)
        assert callable(config) or validate(
            Config, {**config, "model": {"type": entry.type, **config.get("model", {})}}
        )
    installed = {plugin.name for plugin in registry.plugins}
    assert {name for name, plugin in WEIGHTS_PACKAGES.items() if plugin in installed} == {entry.name for entry in own}


class TestPretrained:
    def test_by_name(self, tone: str) -> None:
        for name in ("tone-v1", f"tone-v1@{tone}"):
            network = auralflow.models.Tone(pretrained=name)
            assert network.gain.flatten().tolist() == [0.75, 0.25] and not network.training
        with pytest.raises(RegistryError, match="pretrained='tone-broken' or 'tone-mono' or 'tone-v1'"):
            auralflow.models.Tone(pretrained=True)

    def test_by_folder(self, trained_folder: Path) -> None:
        from auralflow.models import SpectrogramNetSimple

        network = SpectrogramNetSimple(pretrained=trained_folder)
        assert isinstance(network, SpectrogramNetSimple) and not network.training
        trained = load_model(trained_folder).network
        assert all(torch.equal(a, b) for a, b in zip(network.parameters(), trained.parameters(), strict=True))
        with pytest.raises(RegistryError, match="no pretrained weights are registered"):
            SpectrogramNetSimple(pretrained=True)
        with pytest.raises(RegistryError, match=r"is a SpectrogramNetSimple and no UNet.*models\.SpectrogramNetSimple"):
            auralflow.models.UNet(pretrained=trained_folder)
        with pytest.raises(TypeError, match="leave the other arguments out"):
            SpectrogramNetSimple(pretrained=trained_folder, num_channels=1)

    def test_untrained_networks_are_as_before(self) -> None:
        import inspect

        from auralflow.models import SpectrogramNetSimple
        from auralflow_core.registry import default_registry

        own = default_registry().models.get("SpectrogramNetSimple").load_network()
        sizes = {"num_fft_bins": 65, "num_frames": 9, "num_channels": 1, "hidden_channels": 2}
        network = SpectrogramNetSimple(**sizes, pretrained=False)
        assert isinstance(network, own) and issubclass(SpectrogramNetSimple, own)
        assert inspect.signature(SpectrogramNetSimple) == inspect.signature(own)
        assert auralflow.models.SpectrogramNetSimple is SpectrogramNetSimple
        again = pickle.loads(pickle.dumps(network))
        assert type(again) is type(network) and again.state_dict().keys() == network.state_dict().keys()

        class Mine(SpectrogramNetSimple):  # type: ignore[misc, valid-type]
            pass

        assert type(Mine(**sizes)) is Mine
