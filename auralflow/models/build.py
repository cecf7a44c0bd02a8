"""The architectures that are built from lists of layers.

from auralflow.models.build import AdaptiveUNet, UNet
"""

from __future__ import annotations

from typing import Any

__all__ = ["AdaptiveUNet", "UNet"]

# Handed on by `__getattr__`, so that the plugin is found through the registry and torch is loaded on demand.
AdaptiveUNet: Any
UNet: Any


def __getattr__(name: str) -> Any:
    """Return an architecture's network.

    Raises:
        ImportError: The plugin is not installed or cannot be loaded; the message says what to do.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from auralflow.models.pretrained import network_class
    from auralflow_core.errors import RegistryError

    try:
        return network_class(name)
    except RegistryError as error:
        raise ImportError(f"{error}; `pip install auralflow-adaptive-unet` adds it") from error
