"""Names of songs and data sets after their places on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each path: its end, as long as it takes to tell them apart, or else a number behind it."""
    parts = [path.relative_to(path.anchor).parts for path in paths]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = [" - ".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({number})" for number, path in enumerate(paths, start=1)]
