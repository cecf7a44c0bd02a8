"""The models: the core's wrappers, `load`, and every installed architecture's network by its type.

from auralflow.models import SpectrogramMaskModel, SpectrogramNetSimple, load

load("my_model") or load("umxhq")     a trained model: a model folder, or public weights by name
OpenUnmix(pretrained="umxhq")         its network alone
save_as_folder(model, Path("mine"))   the model as a model folder
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from auralflow_core.build import load_model as load
from auralflow_core.build import model_parts, save_as_folder
from auralflow_core.config import Config, validate
from auralflow_core.errors import ConfigError
from auralflow_core.model import SeparationModel
from auralflow_core.model import SpectrogramMaskModel as _SpectrogramMaskModel
from auralflow_core.registry import default_registry

__all__ = ["SeparationModel", "SpectrogramMaskModel", "load", "save_as_folder"]


class SpectrogramMaskModel(_SpectrogramMaskModel):
    """Deep mask estimation in the spectrogram domain, made of a configuration.

    Args:
        config: The configuration, or its data as read from a `config.json`.

    Raises:
        ConfigError: The configured architecture does not mask magnitudes.
    """

    def __init__(self, config: Config | Mapping[str, Any]) -> None:
        config = config if isinstance(config, Config) else validate(Config, config)
        domain = default_registry().models.get(config.model.type).domain
        if domain != self.domain:
            raise ConfigError(
                f"model.type: {config.model.type} works in the {domain} domain, and SpectrogramMaskModel masks "
                "magnitudes; use auralflow_core.build.build_model(load_config(FOLDER))"
            )
        super().__init__(**model_parts(config), folder=config.folder)


def __getattr__(name: str) -> Any:
    """Return an architecture's network; its constructor takes `pretrained`, too.

    Raises:
        ImportError: No installed plugin has it; the message says which package adds it.
    """
    from auralflow_core.errors import RegistryError

    if name == "build":
        return importlib.import_module("auralflow.models.build")
    # Types begin with a capital; the import machinery asks for submodules and dunder names here too.
    if not name[:1].isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from auralflow.models.pretrained import network_class

    try:
        return network_class(name)
    except RegistryError as error:
        raise ImportError(str(error)) from error
