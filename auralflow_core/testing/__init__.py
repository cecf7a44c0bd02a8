"""The conformance kit: what a plugin's author subclasses to get the checks that every model must pass.

from auralflow_core.testing import ModelConformance
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auralflow_core.testing.conformance import ModelConformance as ModelConformance
    from auralflow_core.testing.verdict import ConformanceError as ConformanceError

# Loaded when first used (PEP 562): one check runs a part of the kit in a process that must not import torch.
_HOMES = {
    "ConformanceError": "auralflow_core.testing.verdict",
    "ModelConformance": "auralflow_core.testing.conformance",
}
__all__ = ["ConformanceError", "ModelConformance"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
