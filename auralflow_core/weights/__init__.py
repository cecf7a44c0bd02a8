"""Public weights: fetched once, checked against their digests, read without executing anything.

Nothing here imports torch until a checkpoint is read, so that weights can be listed and downloaded quickly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auralflow_core.weights.cache import cache_folder as cache_folder
    from auralflow_core.weights.contents import weights_groups as weights_groups
    from auralflow_core.weights.contents import weights_state as weights_state
    from auralflow_core.weights.listener import Listener as Listener
    from auralflow_core.weights.listener import LogListener as LogListener
    from auralflow_core.weights.pickle_machine import Record as Record
    from auralflow_core.weights.store import WeightsStore as WeightsStore
    from auralflow_core.weights.unpickle import load_checkpoint as load_checkpoint
    from auralflow_core.weights.unpickle import load_state_dict as load_state_dict

# Loaded when first used (PEP 562).
_HOMES = {
    "Listener": "listener",
    "LogListener": "listener",
    "Record": "pickle_machine",
    "WeightsStore": "store",
    "cache_folder": "cache",
    "load_checkpoint": "unpickle",
    "load_state_dict": "unpickle",
    "weights_groups": "contents",
    "weights_state": "contents",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
