"""The hooks of a plugin: implement any of them with `@hookimpl`, each is called once with `register`."""

from __future__ import annotations

from collections.abc import Callable

import pluggy

PROJECT = "auralflow"

Register = Callable[..., None]
"""What each hook is called with; its arguments are those of the hook's docstring."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_models(register: Register) -> None:
    """Register architectures: `register(type, network=, params=, domain=, summary=, aliases=())`."""


@hookspec
def register_losses(register: Register) -> None:
    """Register values of `criterion`: `register(name, loss=, summary=, settings=())`."""


@hookspec
def register_optimizers(register: Register) -> None:
    """Register values of `optimizer.name`: `register(name, optimizer=, summary=)`."""


@hookspec
def register_schedulers(register: Register) -> None:
    """Register values of `scheduler.name`: `register(name, scheduler=, summary=, settings=())`."""


@hookspec
def register_datasets(register: Register) -> None:
    """Register data set types: `register(name, dataset=, summary=)`."""


@hookspec
def register_loggers(register: Register) -> None:
    """Register training loggers: `register(name, logger=, summary=)`."""


@hookspec
def register_weights(register: Register) -> None:
    """Register public weights: `register(name, type=, files=, sha256=, licence=, summary=, config=, convert=)`."""


@hookspec
def register_config_formats(register: Register) -> None:
    """Register other projects' configuration files: `register(name, detects=, convert=, summary=)`."""
