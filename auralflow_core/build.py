"""Where config and registry meet: names become objects. torch is imported inside, so that resolving stays fast."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auralflow_core.config import Config, Conversion, load_config, save_config, validate
from auralflow_core.config.files import CONFIG_NAMES
from auralflow_core.config.settings import with_defaults
from auralflow_core.entries import WeightsEntry, load_target
from auralflow_core.errors import CheckpointError, ConfigError, RegistryError
from auralflow_core.files import atomic_folder
from auralflow_core.registry import Registry, default_registry

if TYPE_CHECKING:
    from torch import nn

    from auralflow_core.config.training_groups import CriterionTerm
    from auralflow_core.data.open import SongDataset
    from auralflow_core.losses import Criterion
    from auralflow_core.model import SeparationModel
    from auralflow_core.model.optimizers import OptimizerMaker
    from auralflow_core.model.registered_schedule import ScheduleMaker
    from auralflow_core.weights import WeightsStore

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
    """Return the loss that `training.criterion` names, or the weighted sum of several.

    Raises:
        ConfigError: A loss refuses its arguments.
    """
    from auralflow_core.losses import WeightedSum

    terms = config.training.criterion_terms
    losses = [_build_loss(term, config, registry or default_registry()) for term in terms]
    if isinstance(config.training.criterion, str):
        return losses[0]
    return WeightedSum([(term.weight, loss) for term, loss in zip(terms, losses, strict=True)])


def _build_loss(term: CriterionTerm, config: Config, registry: Registry) -> Criterion:
    entry = registry.losses.get(term.name)
    arguments = {name: getattr(config.training, name) for name in entry.settings} | term.args
    make = load_target(entry.loss, entry)
    try:
        criterion: Criterion = make(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"training.criterion: {term.name} refuses {term.args}: {error}") from error
    return criterion


def find_optimizer(name: str, registry: Registry | None = None) -> OptimizerMaker:
    """Return what makes the optimizer of a name.

    Raises:
        RegistryError: Nothing has that name, or it cannot be loaded.
    """
    entry = (registry or default_registry()).optimizers.get(name)
    make: OptimizerMaker = load_target(entry.optimizer, entry)
    return make


def find_scheduler(name: str, registry: Registry | None = None) -> tuple[ScheduleMaker, Sequence[str]]:
    """Return what makes the schedule of a name, and the training settings that it takes.

    Raises:
        RegistryError: Nothing has that name, or it cannot be loaded.
    """
    entry = (registry or default_registry()).schedulers.get(name)
    return load_target(entry.scheduler, entry), entry.settings


def build_model(
    config: Config, *, folder: Path | None = None, registry: Registry | None = None, needs_loss: bool = True
) -> SeparationModel:
    """Return an untrained model of a configuration.

    Args:
        config: The configuration.
        folder: The model folder, where checkpoints are kept.
        registry: The registry; by default that of the installed plugins.
        needs_loss: Whether its loss must be installed; a model can separate without.
    """
    registry = registry or default_registry()
    entry = registry.models.get(config.model.type)
    wrapper = load_target(WRAPPERS[entry.domain], entry)
    parts = model_parts(config, registry, needs_loss=needs_loss)
    model: SeparationModel = wrapper(**parts, folder=folder or config.folder)
    return model


def model_parts(config: Config, registry: Registry | None = None, *, needs_loss: bool = True) -> dict[str, Any]:
    """Return what a wrapper is made of: the resolved configuration, network, criterion, origin, and what finds more."""
    registry = registry or default_registry()
    try:
        criterion = build_criterion(config, registry)
    except RegistryError:
        if needs_loss:
            raise
        criterion = None
    config = resolve(config, registry)
    entry = registry.models.get(config.model.type)
    return {
        "config": config,
        "network": build_network(config, registry),
        "criterion": criterion,
        "origin": {"model_type": entry.name, "plugin": entry.plugin, "plugin_version": entry.version},
        "find_optimizer": partial(find_optimizer, registry=registry),
        "find_scheduler": partial(find_scheduler, registry=registry),
    }


def load_model(
    source: str | Path,
    *,
    step: int | None = None,
    device: str | None = None,
    registry: Registry | None = None,
    store: WeightsStore | None = None,
) -> SeparationModel:
    """Return a trained model, ready to separate.

    Args:
        source: A model folder, or the name of public weights, which are downloaded when they are first used. A model
            folder that has the name of weights goes first; `NAME@PLUGIN` names the weights then.
        step: The checkpoint's step; by default the one with the lowest validation loss.
        device: Where it runs; by default `training.device`.
        registry: The registry; by default that of the installed plugins.
        store: Where downloaded weights lie; by default the user's cache folder.

    Raises:
        ConfigError: The source is neither a model folder nor the name of weights, or its configuration is not valid.
        CheckpointError: The model was never trained; or the checkpoint or a downloaded file is damaged or of another
            architecture.
        RegistryError: The plugin of the architecture is not installed.
    """
    registry = registry or default_registry()
    entry = find_weights(source, registry)
    if entry is None:
        return _load_folder(Path(source), step, device, registry)
    if step is not None:
        raise CheckpointError(f"{source}: public weights have no steps; leave out the step")
    return _load_weights(entry, device, registry, store)


def find_weights(source: str | Path, registry: Registry | None = None) -> WeightsEntry | None:
    """Return the public weights that a source names, or `None` for a model folder.

    Raises:
        ConfigError: It is one word, and neither a folder nor the name of weights.
    """
    path = Path(source)
    if any((path / name).is_file() for name in CONFIG_NAMES):
        return None
    try:
        return (registry or default_registry()).weights.get(str(source))
    except RegistryError as error:
        if path.exists() or len(path.parts) != 1:
            return None
        raise ConfigError(f"{source}: no such model folder; and {error}") from error


def _load_weights(
    entry: WeightsEntry, device: str | None, registry: Registry, store: WeightsStore | None
) -> SeparationModel:
    from auralflow_core.weights import WeightsStore, weights_groups, weights_state

    store = store or WeightsStore()
    paths = store.fetch(entry)
    config = validate(Config, weights_groups(entry, store), source=entry.name)
    state = weights_state(entry, paths)
    model = build_model(_on_device(config, device), registry=registry, needs_loss=False)
    try:
        model.network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{entry.name}: its weights do not fit {entry.type} ({' '.join(str(error).split())[:200]}); "
            f"`pip install --upgrade {entry.plugin}`, or tell its author"
        ) from error
    model.origin |= {"weights": entry.name, "licence": entry.licence, "sha256": store.digests(entry)}
    model.eval()
    return model


def save_as_folder(model: SeparationModel, folder: Path) -> None:
    """Write a model as a model folder: its configuration, and its weights as the checkpoint of step 0.

    Raises:
        ConfigError: There is something at `folder` already.
        AuralflowError: It cannot be written.
    """
    if folder.exists():
        raise ConfigError(f"{folder}: exists already; choose another folder")
    name = folder.resolve().name
    config = model.config.model_copy(update={"model": model.config.model.model_copy(update={"name": name})})
    own = model.folder
    try:
        with atomic_folder(folder) as scratch:
            model.folder = scratch
            model.save(0, optim=False, scheduler=False, grad_scaler=False)
            save_config(config, scratch / "config.json")
    finally:
        model.folder = own


def _on_device(config: Config, device: str | None) -> Config:
    if device is None:
        return config
    return config.model_copy(update={"training": config.training.model_copy(update={"device": device})})


def _load_folder(folder: Path, step: int | None, device: str | None, registry: Registry) -> SeparationModel:
    from auralflow_core.checkpoint import CheckpointStore

    config = _on_device(load_config(folder), device)
    store = CheckpointStore(folder / "checkpoint")
    step = store.best() if step is None else step
    try:
        model = build_model(config, folder=folder, registry=registry, needs_loss=False)
    except RegistryError as error:
        raise _name_plugin(error, store, step) from error
    model.load_model(step)
    model.eval()
    return model


def open_dataset(root: Path | Sequence[Path], config: Config, registry: Registry | None = None) -> SongDataset:
    """Return the data set in a folder: of the configured type, or of the one that the folder looks like.

    Several folders are one data set, each of its own type.

    Raises:
        DataError: A folder is missing or empty.
    """
    from auralflow_core.data.mix import open_data

    registry = registry or default_registry()

    def find(name: str) -> type[SongDataset]:
        entry = registry.datasets.get(name)
        found: type[SongDataset] = load_target(entry.dataset, entry)
        return found

    names = [entry.name for entry in registry.datasets if not registry.datasets.is_ambiguous(entry)]
    return open_data(root, config.dataset, find, names)


def default_config(model_type: str, name: str, registry: Registry | None = None) -> Config:
    """Return an architecture's starting configuration: with its own defaults, of parameters and of other settings."""
    registry = registry or default_registry()
    defaults = registry.models.get(model_type).load_params().defaults
    return resolve(validate(Config, with_defaults({"model": {"type": model_type, "name": name}}, defaults)), registry)


def convert_config(data: Mapping[str, Any], registry: Registry | None = None) -> Conversion | None:
    """Return what another project's configuration becomes, or none if it is of no registered format.

    Raises:
        ConfigError: Several formats recognise it, or a value in it cannot be taken.
    """
    formats = (registry or default_registry()).config_formats
    found = [entry for entry in formats if load_target(entry.detects, entry)(data)]
    if len(found) > 1:
        names = " and ".join(f"{entry.name} (plugin {entry.plugin})" for entry in found)
        raise ConfigError(f"could be a file of {names}; choose one with AURALFLOW_PLUGINS")
    if not found:
        return None
    conversion: Conversion = load_target(found[0].convert, found[0])(data)
    return conversion


def check_names(config: Config, registry: Registry | None = None) -> None:
    """Check the names in a configuration that only the registry knows.

    Raises:
        ConfigError: The criterion, the optimizer, the scheduler or the data set type is not installed.
    """
    registry = registry or default_registry()
    checks: list[tuple[str, str, Any]] = [
        *(("training.criterion", term.name, registry.losses) for term in config.training.criterion_terms),
        ("training.optimizer.name", config.training.optimizer.name, registry.optimizers),
        ("training.scheduler.name", config.training.scheduler.name, registry.schedulers),
        ("dataset.type", config.dataset.type, registry.datasets),
    ]
    for path, name, names in checks:
        if path in ("dataset.type", "training.scheduler.name") and name == "auto":
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
