"""From a folder to its songs."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from auralflow_core.config import DatasetConfig
from auralflow_core.data.song import Song
from auralflow_core.data.splits import Split


class SongDataset(Protocol):
    """What a registered data set type is: made of a folder and the settings, it lists the songs of a split."""

    def __init__(self, root: Path, config: DatasetConfig) -> None: ...

    @classmethod
    def detects(cls, root: Path) -> bool:
        """Whether the folder looks like this type; `folder` is asked last."""
        ...

    def songs(self, split: Split) -> list[Song]:
        """Return the songs of a split, sorted by name."""
        ...


def detect(root: Path, types: Mapping[str, type[SongDataset]]) -> str:
    """Return the name of the data set type that recognises the folder; `folder` takes what no other one does."""
    special = [name for name in types if name != "folder"]
    return next((name for name in special if types[name].detects(root)), "folder")


def pool(songs: list[Song], max_num_tracks: int, seed: int) -> list[Song]:
    """Return at most `max_num_tracks` of the songs: a seeded choice, in the given order."""
    if len(songs) <= max_num_tracks:
        return songs
    chosen = set(random.Random(seed).sample(range(len(songs)), max_num_tracks))
    return [song for number, song in enumerate(songs) if number in chosen]


def fingerprint(songs: list[Song]) -> dict[str, Any]:
    """Return what identifies the songs of a training: their names, and a hash over names, lengths and stems."""
    facts = [[song.name, song.frames, song.sample_rate, sorted(song.stems)] for song in songs]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return {"songs": [song.name for song in songs], "sha256": digest}
