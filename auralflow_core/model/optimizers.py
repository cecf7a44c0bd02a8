"""From `training.optimizer` to what updates the parameters."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

from auralflow_core.builtin import OPTIMIZERS
from auralflow_core.config import TrainingConfig
from auralflow_core.errors import ConfigError, did_you_mean

ParameterGroup = dict[str, Any]
OptimizerMaker = Callable[..., Optimizer]
"""Called with groups of parameters, `lr` and the configured arguments."""


def make_optimizer(network: nn.Module, training: TrainingConfig, find: Callable[[str], OptimizerMaker]) -> Optimizer:
    """Return the configured optimizer over the parameters that are trained.

    Args:
        network: The network.
        training: The settings of the group `training`.
        find: Returns what makes the optimizer of a name.

    Raises:
        ConfigError: torch or the installed packages lack it, it refuses an argument, or a pattern fits no parameter.
    """
    config = training.optimizer
    arguments = {name: value for name, value in config.args.items() if name != "lr"}
    if config.fused:
        arguments["fused"] = True
    groups = parameter_groups(network, training)
    make = find(config.name)
    try:
        return make(groups, lr=base_rate(training), **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"training.optimizer.args: {config.name} refuses {config.args}: {error}") from error


def base_rate(training: TrainingConfig) -> float:
    """Return the learning rate of the parameters that have none of their own."""
    return float(training.optimizer.args.get("lr", training.lr))


def parameter_groups(network: nn.Module, training: TrainingConfig) -> list[ParameterGroup]:
    """Return the trained parameters by learning rate; a parameter goes with the first pattern that fits its name.

    Raises:
        ConfigError: A pattern fits no parameter, or none is trained.
    """
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    if not trained:
        raise ConfigError(f"training.freeze: {', '.join(training.freeze)} leaves no parameter to train; freeze fewer")
    groups: list[ParameterGroup] = []
    for pattern, rate in training.optimizer.lr_by_name.items():
        chosen = matching(pattern, trained, "training.optimizer.lr_by_name")
        groups.append({"params": [trained.pop(name) for name in chosen], "lr": float(rate)})
    rest = {"params": list(trained.values()), "lr": base_rate(training)}
    return [rest, *groups] if trained else groups


def matching(pattern: str, names: Iterable[str], setting: str) -> list[str]:
    """Return the names that a pattern with `*` and `?` fits.

    Raises:
        ConfigError: There is none.
    """
    names = list(names)
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise ConfigError(
            f"{setting}: {pattern!r} fits the name of no parameter that is left (there are {', '.join(names[:8])} ...)"
        )
    return found


def freeze(network: nn.Module, patterns: Iterable[str]) -> None:
    """Keep the parameters whose names fit a pattern from being trained.

    Raises:
        ConfigError: A pattern fits no parameter.
    """
    parameters = dict(network.named_parameters())
    for pattern in patterns:
        for name in matching(pattern, parameters, "training.freeze"):
            parameters[name].requires_grad_(False)


def core_optimizer(name: str) -> OptimizerMaker:
    """Return what makes one of the core's own optimizers; `build.find_optimizer` knows those of plugins too.

    Raises:
        ConfigError: There is none of this name.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(
            f"training.optimizer.name: {name!r} is none of {', '.join(OPTIMIZERS)}{did_you_mean(name, OPTIMIZERS)}"
        )
    module, _, maker = OPTIMIZERS[name][0].partition(":")
    found: OptimizerMaker = getattr(importlib.import_module(module), maker)
    return found
