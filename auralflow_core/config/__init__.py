"""The configuration of a model folder: schemas, files and settings. Imports no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auralflow_core.config.conversion import Conversion as Conversion
    from auralflow_core.config.files import config_path as config_path
    from auralflow_core.config.files import load_config as load_config
    from auralflow_core.config.files import read_mapping as read_mapping
    from auralflow_core.config.files import save_config as save_config
    from auralflow_core.config.params import MaskActivation as MaskActivation
    from auralflow_core.config.params import ModelParams as ModelParams
    from auralflow_core.config.paths import by_path as by_path
    from auralflow_core.config.paths import nested as nested
    from auralflow_core.config.schema import Config as Config
    from auralflow_core.config.schema import DatasetConfig as DatasetConfig
    from auralflow_core.config.schema import ModelConfig as ModelConfig
    from auralflow_core.config.schema import SeparationConfig as SeparationConfig
    from auralflow_core.config.schema import TrainingConfig as TrainingConfig
    from auralflow_core.config.schema import VisualsConfig as VisualsConfig
    from auralflow_core.config.setting import Setting as Setting
    from auralflow_core.config.settings import apply_settings as apply_settings
    from auralflow_core.config.settings import setting_paths as setting_paths
    from auralflow_core.config.settings import validate as validate

# Loaded when first used (PEP 562): `list-models` needs the base of parameters and not the schema of config.json.
_MODULES = {
    "conversion": ("Conversion",),
    "files": ("config_path", "load_config", "read_mapping", "save_config"),
    "params": ("MaskActivation", "ModelParams"),
    "paths": ("by_path", "nested"),
    "schema": (
        "Config",
        "DatasetConfig",
        "ModelConfig",
        "SeparationConfig",
        "TrainingConfig",
        "VisualsConfig",
    ),
    "setting": ("Setting",),
    "settings": ("apply_settings", "setting_paths", "validate"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
