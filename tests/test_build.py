"""Config and registry become objects."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pydantic import Field

from auralflow_core import Config, ModelParams, Registry, hookimpl
from auralflow_core.build import (
    build_criterion,
    build_model,
    build_network,
    check_names,
    default_config,
    load_model,
    open_dataset,
    resolve,
)
from auralflow_core.config import load_config, validate
from auralflow_core.errors import AuralflowError, CheckpointError, ConfigError, RegistryError
from auralflow_core.registry import PluginSource
from auralflow_core.training import build_loggers
from auralflow_core.transforms import STFT


class GainParams(ModelParams):
    initial: float = Field(1.0, ge=0, description="gain that training starts from")


class Gain(torch.nn.Module):
    """Remembers what it was made with."""

    def __init__(self, initial: float, **known: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(initial * torch.rand(known["num_fft_bins"], 1))
        self.known = known

    def forward(self, magnitude: torch.Tensor) -> torch.Tensor:
        return self.weight.clamp(0, 1) * magnitude.new_ones(magnitude.shape).unsqueeze(1)


class Strict(torch.nn.Module):
    def __init__(self, initial: float) -> None:
        super().__init__()


class Logger:
    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.folder = config, folder


@pytest.fixture(scope="module")
def registry() -> Registry:
    module = ModuleType("auralflow_gain")

    @hookimpl
    def register_models(register: Any) -> None:
        facts = {"params": GainParams, "domain": "magnitude", "summary": "one gain"}
        register("Gain", network=Gain, **facts)
        register("Strict", network=Strict, **facts)

    @hookimpl
    def register_losses(register: Any) -> None:
        register("weighted", loss=dict, summary="", settings=("alpha_constant", "lr"))

    @hookimpl
    def register_optimizers(register: Any) -> None:
        register("adam", optimizer=torch.optim.Adam, summary="")

    @hookimpl
    def register_datasets(register: Any) -> None:
        register("folder", dataset="auralflow_core.data.folder:FolderDataset", summary="")

    @hookimpl
    def register_loggers(register: Any) -> None:
        register("tensorboard", logger=Logger, summary="")
        register("paper", logger=Logger, summary="")

    for hook in (register_models, register_losses, register_optimizers, register_datasets, register_loggers):
        setattr(module, hook.__name__, hook)
    found = Registry([PluginSource("auralflow-gain", lambda: module, "1.0")])
    assert not found.failures
    return found


def config_of(type_: str = "Gain", params: dict[str, Any] | None = None, **groups: Any) -> Config:
    return validate(Config, {"model": {"type": type_, "params": params or {}}, **groups})


def test_resolve_fills_in_defaults_and_leaves_its_input(registry: Registry) -> None:
    config = config_of()
    assert resolve(config, registry).model.params == {"initial": 1.0}
    assert config.model.params == {}
    assert default_config("Gain", "g", registry).model.name == "g"


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        (config_of("Gian"), RegistryError, "did you mean Gain"),
        (config_of(params={"initail": 1}), ConfigError, "model.params.initail: unknown setting; did you mean initial"),
        (config_of(params={"initial": -1}), ConfigError, "model.params.initial: -1 must be greater than or equal to 0"),
    ],
)
def test_resolve_refuses(config: Config, error: type[Exception], words: str, registry: Registry) -> None:
    with pytest.raises(error, match=words):
        resolve(config, registry)


def test_network_gets_its_params_and_what_the_wrapper_knows(registry: Registry) -> None:
    data = {"num_fft": 256, "window_size": 256, "hop_length": 64, "num_channels": 2, "targets": ["a", "b", "c"]}
    network = build_network(config_of(params={"initial": 0.5}, dataset=data), registry)
    known = network.known
    assert isinstance(network, Gain) and float(network.weight.detach().max()) <= 0.5
    frames = STFT(256, 256, 64)(torch.zeros(1, 1, 3 * 44100)).shape[-1]
    assert known == {
        "num_fft_bins": 129, "num_frames": frames, "num_channels": 2, "num_targets": 3, "sample_rate": 44100,
    }  # fmt: skip


def test_weights_depend_on_the_seed_and_nothing_else(registry: Registry) -> None:
    def weights(seed: int) -> torch.Tensor:
        return next(build_network(config_of(training={"random_seed": seed}), registry).parameters())

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = weights(3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(first, weights(3)) and not torch.equal(first, weights(4))


def test_network_with_another_signature_names_the_plugin(registry: Registry) -> None:
    with pytest.raises(RegistryError, match=r"Strict: .*auralflow-gain.*num_fft_bins"):
        build_network(config_of("Strict"), registry)


def test_criterion_gets_the_settings_that_it_names(registry: Registry) -> None:
    config = config_of(training={"criterion": "weighted", "lr": 0.5, "alpha_constant": 0.3})
    assert build_criterion(config, registry) == {"alpha_constant": 0.3, "lr": 0.5}


def test_loggers_are_switched_by_their_setting(registry: Registry, tmp_path: Path) -> None:
    assert len(build_loggers(config_of(), tmp_path, registry)) == 2
    [logger] = build_loggers(config_of(visuals={"tensorboard": False}), tmp_path, registry)
    assert isinstance(logger, Logger) and logger.folder == tmp_path


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"training": {"criterion": "wieghted"}}, "training.criterion: .*did you mean weighted"),
        ({"training": {"criterion": "weighted"}, "dataset": {"type": "fodler"}}, "dataset.type: .*did you mean folder"),
        (
            {"training": {"criterion": "weighted", "optimizer": "adm"}},
            "training.optimizer.name: optimizer 'adm' is not installed; did you mean adam",
        ),
    ],
)
def test_names_that_only_the_registry_knows(groups: dict[str, Any], words: str, registry: Registry) -> None:
    with pytest.raises(ConfigError, match=words):
        check_names(config_of(**groups), registry)
    check_names(config_of(training={"criterion": "weighted"}), registry)


@pytest.mark.parametrize("type_", ["auto", "folder"])
def test_data_set_by_name_or_by_its_looks(type_: str, song_folder: Path, registry: Registry) -> None:
    dataset = open_dataset(song_folder, config_of(dataset={"type": type_}), registry)
    assert [len(dataset.songs(split)) for split in ("train", "valid", "test")] == [4, 1, 2]


def test_model_is_whole(model_folder: Path) -> None:
    model = build_model(load_config(model_folder))
    assert model.folder == model_folder and model.targets == ["vocals"]
    assert model.origin["plugin"] == "auralflow-simplenet"
    assert model.separate(torch.zeros(1, 801)).shape == (1, 1, 801)


def test_trained_model_separates_as_it_did(trained_folder: Path) -> None:
    audio = torch.rand(1, 4001, generator=torch.Generator().manual_seed(0)) - 0.5
    first, second = (load_model(trained_folder, device="cpu") for _ in range(2))
    assert not first.training
    assert torch.equal(first.separate(audio), second.separate(audio))
    assert torch.equal(first.separate(audio), load_model(str(trained_folder), step=8).separate(audio))


def test_model_separates_without_the_plugin_of_its_loss(trained_copy: Path, refused: Any) -> None:
    audio = torch.rand(1, 4001, generator=torch.Generator().manual_seed(0)) - 0.5
    expected = load_model(trained_copy).separate(audio)
    data = json.loads((trained_copy / "config.json").read_text())
    data["training"]["criterion"] = "not_installed"
    (trained_copy / "config.json").write_text(json.dumps(data))
    assert torch.equal(load_model(trained_copy).separate(audio), expected)
    with pytest.raises(RegistryError, match="not_installed"):
        build_model(load_config(trained_copy))
    assert "training.criterion: " in refused("train", trained_copy, trained_copy, "--resume")


def test_model_that_cannot_be_loaded(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_model(model_folder)
    with pytest.raises(ConfigError, match="no such model folder"):
        load_model(tmp_path / "none")
    with pytest.raises(AuralflowError, match="'warp'"):
        load_model(model_folder, step=1, device="warp")
