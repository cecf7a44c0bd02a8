"""Instruments by file, where a data set has them in a file of its own, as MedleyDB and Slakh2100 do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from auralflow_core.config import read_mapping
from auralflow_core.errors import ConfigError


def written_labels(folder: Path, root: Path) -> dict[str, str]:
    """Return the instrument of each audio file in a folder, by the file's name without suffix.

    Read are the YAML files of the folder and of that around it, within the data set, which list `stems`: MedleyDB's
    `{S01: {filename: X_STEM_01.wav, instrument: male singer}}`, Slakh2100's `{S00: {inst_class: Bass}}`. What else
    lies there, or cannot be read, says nothing.
    """
    around = [folder.parent] if folder != root else []
    found: dict[str, str] = {}
    for path in (path for place in (*around, folder) for path in sorted(place.glob("*.yaml"))):
        try:
            stems = read_mapping(path).get("stems")
        except ConfigError:
            continue
        found |= dict(_labels(stems)) if isinstance(stems, dict) else {}
    return found


def _labels(stems: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    for name, facts in stems.items():
        label = facts.get("instrument", facts.get("inst_class")) if isinstance(facts, dict) else None
        if isinstance(label, list):
            label = ", ".join(map(str, label))
        if isinstance(label, str):
            yield Path(str(facts.get("filename", name))).stem, label
