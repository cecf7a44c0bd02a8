"""The configuration of a model folder: schemas, files and settings. Imports no torch."""

from auralflow_core.config.files import config_path, load_config, read_mapping, save_config
from auralflow_core.config.params import MaskActivation, ModelParams
from auralflow_core.config.schema import (
    Config,
    DatasetConfig,
    ModelConfig,
    SeparationConfig,
    TrainingConfig,
    VisualsConfig,
)
from auralflow_core.config.settings import Setting, apply_settings, setting_paths, validate

__all__ = [
    "Config",
    "DatasetConfig",
    "MaskActivation",
    "ModelConfig",
    "ModelParams",
    "SeparationConfig",
    "Setting",
    "TrainingConfig",
    "VisualsConfig",
    "apply_settings",
    "config_path",
    "load_config",
    "read_mapping",
    "save_config",
    "setting_paths",
    "validate",
]
