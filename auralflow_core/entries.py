"""What can be registered, and how a registered target is loaded. Names and strings only: no torch."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from auralflow_core.config.params import ModelParams
from auralflow_core.config.schema import TrainingConfig
from auralflow_core.errors import RegistryError, did_you_mean

DOMAINS = ("magnitude", "complex", "waveform")

Target = str | type | Callable[..., Any]

_FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Entry:
    """What every registered thing has: a name, one line about it, and the plugin that brought it."""

    name: str
    summary: str
    plugin: str = field(default="", kw_only=True)
    version: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not self.name or "@" in self.name or any(letter.isspace() for letter in self.name):
            raise ValueError(f"name {self.name!r} is empty or holds a space or @")


@dataclass(frozen=True)
class ModelEntry(Entry):
    """An architecture: its network, the schema of its parameters and the domain it works in."""

    network: Target
    params: Target
    domain: str
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.domain not in DOMAINS:
            raise ValueError(f"{self.name}: domain {self.domain!r} is none of {', '.join(DOMAINS)}")
        if not isinstance(self.params, str):
            check_params(self.name, self.params)

    def load_network(self) -> Any:
        """Return the network's class; torch is imported here if it was not."""
        return load_target(self.network, self)

    def load_params(self) -> type[ModelParams]:
        """Return the schema of `model.params`."""
        try:
            return check_params(self.name, load_target(self.params, self))
        except TypeError as error:
            raise RegistryError(f"plugin {self.plugin}: {error}; tell its author") from error


@dataclass(frozen=True)
class LossEntry(Entry):
    """A value of `criterion`, and the training settings that its constructor takes."""

    loss: Target
    settings: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self.name, self.settings)


@dataclass(frozen=True)
class OptimizerEntry(Entry):
    """A value of `optimizer.name`, called with groups of parameters, `lr` and the arguments that are configured."""

    optimizer: Target


@dataclass(frozen=True)
class SchedulerEntry(Entry):
    """A value of `scheduler.name`, called with the optimizer, the named training settings and the arguments."""

    scheduler: Target
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self.name, self.settings)


@dataclass(frozen=True)
class DatasetEntry(Entry):
    """A data set type."""

    dataset: Target


@dataclass(frozen=True)
class LoggerEntry(Entry):
    """A training logger."""

    logger: Target


@dataclass(frozen=True)
class WeightsEntry(Entry):
    """Public weights: their files, what these must hash to, how a model is made of them, and under which terms.

    Args:
        type: The model type.
        files: File names and the URL of each. A tar archive is unpacked after its download.
        sha256: For each file its SHA-256, or the first digits of it (at least eight) where no more is known.
        licence: The terms, as its author states them.
        config: The groups of a configuration that differ from the type's defaults, or a function that makes them of the
            paths by file name.
        convert: A function that makes the network's state dict of these paths; without it there is one safetensors
            file that holds it.
    """

    type: str
    files: Mapping[str, str]
    sha256: Mapping[str, str]
    licence: str
    config: Target | Mapping[str, Any] = field(default_factory=dict)
    convert: Target | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.files or set(self.files) != set(self.sha256):
            raise ValueError(f"{self.name}: files and sha256 name different files, or none")
        for file, url in self.files.items():
            if not _FILE_NAME.fullmatch(file):
                raise ValueError(f"{self.name}: {file!r} is no file name of letters, digits, dots, dashes, underscores")
            if not url.startswith(("https://", "http://")):
                raise ValueError(f"{self.name}: {url!r} is no http or https URL")
            if not _DIGEST.fullmatch(self.sha256[file]):
                raise ValueError(f"{self.name}: sha256 of {file} is not 8 to 64 hexadecimal digits in lower case")
        is_one_file = len(self.files) == 1 and file.endswith(".safetensors")
        if self.convert is None and not is_one_file:
            raise ValueError(f"{self.name}: names no convert, which all but one safetensors file need")


@dataclass(frozen=True)
class ConfigFormatEntry(Entry):
    """A configuration file of another project: how it is recognised, and how it becomes one of ours.

    `detects` maps the file's data to whether it is of this format, `convert` to an `auralflow_core.config.Conversion`.
    """

    detects: Target
    convert: Target


KINDS: Mapping[str, type[Entry]] = {
    "models": ModelEntry,
    "losses": LossEntry,
    "optimizers": OptimizerEntry,
    "schedulers": SchedulerEntry,
    "datasets": DatasetEntry,
    "loggers": LoggerEntry,
    "weights": WeightsEntry,
    "config_formats": ConfigFormatEntry,
}
SINGULAR = {
    "models": "model type",
    "losses": "criterion",
    "optimizers": "optimizer",
    "schedulers": "scheduler",
    "datasets": "data set type",
    "loggers": "logger",
    "weights": "weights",
    "config_formats": "configuration format",
}


def load_target(target: Target, entry: Entry) -> Any:
    """Import what a `"package.module:Name"` names; anything but a string is returned as it is.

    Raises:
        RegistryError: The module cannot be imported or has no such name.
    """
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        raise RegistryError(
            f"{entry.name}: plugin {entry.plugin} names {target}, which cannot be loaded ({reason_of(error)}); "
            f"reinstall it with `pip install --force-reinstall {entry.plugin}` or tell its author"
        ) from error


def check_params(name: str, params: Any) -> type[ModelParams]:
    """Return the schema of an architecture's parameters, after looking at it.

    Raises:
        TypeError: It is none.
        ValueError: A default is out of its own range.
    """
    if not (isinstance(params, type) and issubclass(params, ModelParams)):
        raise TypeError(f"{name}: params {params!r} is no subclass of auralflow_core.ModelParams")
    if not any(field.is_required() for field in params.model_fields.values()):
        params()
    return params


def check_settings(name: str, settings: Iterable[str]) -> None:
    """Look at the names of training settings that something wants to be made with.

    Raises:
        ValueError: There is no such setting.
    """
    for setting in settings:
        if setting not in TrainingConfig.model_fields:
            near = did_you_mean(setting, TrainingConfig.model_fields)
            raise ValueError(f"{name}: settings names {setting!r}, which training does not have{near}")


def reason_of(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, RegistryError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
