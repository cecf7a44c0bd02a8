"""MADGRAD and its mirror descent, from the package madgrad (Defazio and Jelassi, 2021), where it is installed."""

from __future__ import annotations

import importlib
from typing import Any

from torch.optim import Optimizer

from auralflow_core.errors import ConfigError


def madgrad(groups: list[dict[str, Any]], **arguments: Any) -> Optimizer:
    """Return MADGRAD.

    Raises:
        ConfigError: The package is not installed.
    """
    return _make("MADGRAD", groups, arguments)


def mirrormadgrad(groups: list[dict[str, Any]], **arguments: Any) -> Optimizer:
    """Return MADGRAD with mirror descent.

    Raises:
        ConfigError: The package is not installed.
    """
    return _make("MirrorMADGRAD", groups, arguments)


def _make(name: str, groups: list[dict[str, Any]], arguments: dict[str, Any]) -> Optimizer:
    try:
        package = importlib.import_module("madgrad")
    except ImportError as error:
        raise ConfigError(
            f"training.optimizer: {name} is in the package madgrad, which is not installed; `pip install madgrad`, or "
            "choose adam, adamw, radam, sgd or muon"
        ) from error
    optimizer: Optimizer = getattr(package, name)(groups, **arguments)
    return optimizer
