"""Files in which a user describes data: found in a folder, and read entry by entry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from auralflow_core.config import read_mapping
from auralflow_core.errors import DataError, did_you_mean

MOST_WEIGHT = 1_000_000


def find_description(root: Path, names: Sequence[str]) -> Path | None:
    """Return the first file of these names that is in a folder."""
    return next((path for name in names if (path := root / name).is_file()), None)


def read_entries(path: Path, key: str, known: Sequence[str], advice: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the entries of a description's list, each with the words that name its place.

    Args:
        path: The description.
        key: The list's name.
        known: What an entry may hold.
        advice: What to do where there is no list.

    Raises:
        ConfigError: The file is missing or has a syntax error.
        DataError: There is no list, or an entry is no mapping or holds what is not known.
    """
    entries = read_mapping(path).get(key)
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: has no list `{key}`; {advice}")
    found = [(f"{path}: {key}[{number}]", entry) for number, entry in enumerate(entries)]
    for where, entry in found:
        if not isinstance(entry, dict):
            raise DataError(f"{where} is no mapping; write one of {', '.join(known)}")
        for name in entry:
            if name not in known:
                near = did_you_mean(str(name), known)
                raise DataError(f"{where}.{name}: unknown{near} (known are {', '.join(known)})")
    return found


def is_weight(value: object) -> bool:
    """Whether a value is a number from 0 to `MOST_WEIGHT`; `true` and `false` are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MOST_WEIGHT
