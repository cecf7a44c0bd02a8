"""The core of auralflow: contracts, config, registry, transforms, data, trainer, separation, evaluation, CLI."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auralflow_core.config import Config as Config
    from auralflow_core.config import ModelParams as ModelParams
    from auralflow_core.errors import AuralflowError as AuralflowError
    from auralflow_core.hookspecs import hookimpl as hookimpl
    from auralflow_core.registry import Registry as Registry

# Loaded when first used (PEP 562), so that naming one does not pay for the others.
_HOMES = {
    "AuralflowError": "auralflow_core.errors",
    "Config": "auralflow_core.config",
    "MaskActivation": "auralflow_core.config",
    "ModelParams": "auralflow_core.config",
    "Registry": "auralflow_core.registry",
    "hookimpl": "auralflow_core.hookspecs",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
