"""auralflow: train, evaluate and run music source separation models. Every architecture is a plugin."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auralflow_core.library import separate_files as separate_files
    from auralflow_core.separate import Ensemble as Ensemble
    from auralflow_core.separate import Separator as Separator

__all__ = ["Ensemble", "Separator", "list_models", "models", "separate_files", "utils"]


def list_models() -> list[str]:
    """Return the installed model types, as `model.type` takes them."""
    from auralflow_core.registry import default_registry

    models = default_registry().models
    return [f"{entry.name}@{entry.plugin}" if models.is_ambiguous(entry) else entry.name for entry in models]


def __getattr__(name: str) -> Any:
    if name in ("models", "utils"):
        return importlib.import_module(f"auralflow.{name}")
    if name in ("Ensemble", "Separator"):
        return getattr(importlib.import_module("auralflow_core.separate"), name)
    if name == "separate_files":
        return importlib.import_module("auralflow_core.library").separate_files
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
