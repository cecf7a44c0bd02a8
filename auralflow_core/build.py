"""Where config and registry meet: names become objects. torch is imported inside, so that resolving stays fast."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auralflow_core.config import Config, load_config, validate
from auralflow_core.entries import load_target
from auralflow_core.errors import CheckpointError, ConfigError, RegistryError
from auralflow_core.registry import Registry, default_registry

if TYPE_CHECKING:
    from torch import nn

    from auralflow_core.data.open import SongDataset
    from auralflow_core.losses import Criterion
    from auralflow_core.model import SeparationModel
    from auralflow_core.trainer.callbacks import Callback

WRAPPERS = {
    "magnitude": "auralflow_core.model.magnitude:SpectrogramMaskModel",
    "complex": "auralflow_core.model.complex:ComplexSpectrogramModel",
    "waveform": "auralflow_core.model.waveform:WaveformModel",
}


def resolve(config: Config, registry: Registry | None = None) -> Config:
    """Return the configuration with the architecture's parameters validated and its defaults filled in.

    Raises:
        RegistryError: The model type is unknown or ambiguous.
        ConfigError: A parameter is unknown or out of range.
    """
    entry = (registry or default_registry()).models.get(config.model.type)
    params = validate(entry.load_params(), config.model.params, prefix="model.params")
    # An alias gives way to the type's own name, so that a model goes by one name wherever it is compared.
    type_ = config.model.type if "@" in config.model.type else entry.name
    model = config.model.model_copy(update={"type": type_, "params": params.model_dump(mode="json")})
    return config.model_copy(update={"model": model})


def build_network(config: Config, registry: Registry | None = None) -> nn.Module:
    """Return the network of a configuration, its weights drawn with `training.random_seed`.

    Raises:
        ConfigError: A parameter is unknown, out of range, or refused by the network.
    """
    import torch

    entry = (registry or default_registry()).models.get(config.model.type)
    params = validate(entry.load_params(), config.model.params, prefix="model.params")
    make = entry.load_network()
    arguments = {**known_sizes(config), **params.network_arguments()}
    try:
        inspect.signature(make).bind(**arguments)
    except TypeError as error:
        raise RegistryError(
            f"{entry.name}: the network of plugin {entry.plugin} {error}; it is called with {', '.join(arguments)}"
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.random_seed)
        network: nn.Module = make(**arguments)
    return network


def known_sizes(config: Config) -> dict[str, int]:
    """Return what every network is told besides its own parameters."""
    data = config.dataset
    return {
        "num_fft_bins": data.num_bins,
        "num_frames": data.num_frames,
        "num_channels": data.num_channels,
        "num_targets": len(data.targets),
        "sample_rate": data.sample_rate,
    }


def build_criterion(config: Config, registry: Registry | None = None) -> Criterion:
    """Return the loss that `training.criterion` names."""
    entry = (registry or default_registry()).losses.get(config.training.criterion)
    arguments = {name: getattr(config.training, name) for name in entry.settings}
    criterion: Criterion = load_target(entry.loss, entry)(**arguments)
    return criterion


def build_model(config: Config, *, folder: Path | None = None, registry: Registry | None = None) -> SeparationModel:
    """Return an untrained model of a configuration.

    Args:
        config: The configuration.
        folder: The model folder, where checkpoints are kept.
        registry: The registry; by default that of the installed plugins.
    """
    registry = registry or default_registry()
    entry = registry.models.get(config.model.type)
    wrapper = load_target(WRAPPERS[entry.domain], entry)
    model: SeparationModel = wrapper(**model_parts(config, registry), folder=folder or config.folder)
    return model


def model_parts(config: Config, registry: Registry | None = None) -> dict[str, Any]:
    """Return what a wrapper is made of: the resolved configuration, the network, the criterion and its origin."""
    registry = registry or default_registry()
    config = resolve(config, registry)
    entry = registry.models.get(config.model.type)
    return {
        "config": config,
        "network": build_network(config, registry),
        "criterion": build_criterion(config, registry),
        "origin": {"model_type": entry.name, "plugin": entry.plugin, "plugin_version": entry.version},
    }


def load_model(
    folder: str | Path,
    *,
    step: int | None = None,
    device: str | None = None,
    registry: Registry | None = None,
) -> SeparationModel:
    """Return a trained model of a model folder, ready to separate.

    Args:
        folder: The model folder.
        step: The checkpoint's step; by default the one with the lowest validation loss.
        device: Where it runs; by default `training.device`.
        registry: The registry; by default that of the installed plugins.

    Raises:
        ConfigError: The folder is no model folder, or its configuration is not valid.
        CheckpointError: The model was never trained, or the checkpoint is damaged or of another architecture.
        RegistryError: The plugin of the architecture is not installed.
    """
    from auralflow_core.checkpoint import CheckpointStore

    folder = Path(folder)
    config = load_config(folder)
    if device is not None:
        config = config.model_copy(update={"training": config.training.model_copy(update={"device": device})})
    store = CheckpointStore(folder / "checkpoint")
    step = store.best() if step is None else step
    try:
        model = build_model(config, folder=folder, registry=registry)
    except RegistryError as error:
        raise _name_plugin(error, store, step) from error
    model.load_model(step)
    model.eval()
    return model


def open_dataset(root: Path, config: Config, registry: Registry | None = None) -> SongDataset:
    """Return the data set in a folder: of the configured type, or of the one that the folder looks like.

    Raises:
        DataError: The folder is missing or empty.
    """
    from auralflow_core.data.open import detect

    registry = registry or default_registry()
    name = config.dataset.type
    if name == "auto":
        types = {entry.name: load_target(entry.dataset, entry) for entry in registry.datasets}
        name = detect(root, types)
    entry = registry.datasets.get(name)
    dataset: SongDataset = load_target(entry.dataset, entry)(root, config.dataset)
    return dataset


def build_loggers(config: Config, folder: Path, registry: Registry | None = None) -> list[Callback]:
    """Return the training loggers that are registered and switched on.

    A logger is made with the configuration and the model folder. One whose name is a setting of the group `visuals`
    is switched by it; a plugin's logger has its own ways to stay silent.
    """
    registry = registry or default_registry()
    return [
        load_target(entry.logger, entry)(config, folder)
        for entry in registry.loggers
        if getattr(config.visuals, entry.name, True)
    ]


def default_config(model_type: str, name: str, registry: Registry | None = None) -> Config:
    """Return an architecture's starting configuration."""
    return resolve(validate(Config, {"model": {"type": model_type, "name": name}}), registry)


def check_names(config: Config, registry: Registry | None = None) -> None:
    """Check the names in a configuration that only the registry knows.

    Raises:
        ConfigError: The criterion or the data set type is not installed.
    """
    registry = registry or default_registry()
    checks: Mapping[str, tuple[str, Any]] = {
        "training.criterion": (config.training.criterion, registry.losses),
        "dataset.type": (config.dataset.type, registry.datasets),
    }
    for path, (name, names) in checks.items():
        if path == "dataset.type" and name == "auto":
            continue
        try:
            names.get(name)
        except RegistryError as error:
            raise ConfigError(f"{path}: {error}") from None


def _name_plugin(error: RegistryError, store: Any, step: int) -> RegistryError:
    """Say which package brought the architecture, if the checkpoint knows it."""
    try:
        plugin = store.meta(step).get("plugin")
    except CheckpointError:
        plugin = None
    return RegistryError(f"{error}; it was trained with {plugin}: `pip install {plugin}`") if plugin else error
