"""What a plugin makes of another project's configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Conversion:
    """A configuration that was another project's, and what became of each of its keys.

    Attributes:
        data: The configuration, as grouped mappings: `{"model": {"type": ...}, "dataset": {...}}`.
        taken: Each key that has a counterpart, with the paths of the settings that carry its value.
        left: Each key that was not taken, with what takes its place, or with the remark that it is unknown.
    """

    data: Mapping[str, Any]
    taken: Mapping[str, str]
    left: Mapping[str, str]
