"""What can be registered, and how a registered target is loaded. Names and strings only: no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from auralflow_core.config.params import ModelParams
from auralflow_core.errors import RegistryError

DOMAINS = ("magnitude", "complex", "waveform")

Target = str | type | Callable[..., Any]


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
    """Public weights: where they lie, what they must hash to, and under which terms."""

    type: str
    url: str
    sha256: str
    licence: str


KINDS: Mapping[str, type[Entry]] = {
    "models": ModelEntry,
    "losses": LossEntry,
    "datasets": DatasetEntry,
    "loggers": LoggerEntry,
    "weights": WeightsEntry,
}
SINGULAR = {
    "models": "model type",
    "losses": "criterion",
    "datasets": "data set type",
    "loggers": "logger",
    "weights": "weights",
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


def reason_of(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, RegistryError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
