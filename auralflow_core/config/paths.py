"""Nested settings and their paths, such as `optimizer.args.lr`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def by_path(settings: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their paths; an empty mapping counts as a value."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            found |= by_path(value, f"{path}.")
        else:
            found[path] = value
    return found


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by their paths as nested mappings."""
    result: dict[str, Any] = {}
    for path, value in settings.items():
        *groups, last = path.split(".")
        inner = result
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return result
