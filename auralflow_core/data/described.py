"""Songs as a description file names them: any layout, any stems."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from auralflow_core.config import DatasetConfig
from auralflow_core.config.yaml import dump_yaml
from auralflow_core.data.descriptions import MOST_WEIGHT, find_description, is_weight, read_entries
from auralflow_core.data.song import Song, song_from_files
from auralflow_core.data.splits import Split, divide
from auralflow_core.errors import DataError
from auralflow_core.files import write_text

DESCRIPTION_NAMES = ("auralflow-data.json", "auralflow-data.yaml")
_KNOWN = ("name", "split", "mixture", "stems", "weight")
_SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class SongFiles:
    """A song of a description.

    Attributes:
        name: Unique within its split.
        split: What it is for.
        stems: Its stems' files by name, several where the stem is their sum; none where only the mixture is there.
        mixture: The file of its mixture; without one the mixture is the sum of the stems.
        weight: How often training draws it, against the others.
    """

    name: str
    split: Split
    stems: dict[str, Path | tuple[Path, ...]]
    mixture: Path | None
    weight: float = 1.0


class DescribedDataset:
    """Songs that `auralflow-data.json` or `.yaml` lists; `auralflow init-data` writes one.

    Without validation songs, `validation_split` of the training songs are kept for it.

    Args:
        root: The folder of the description; paths in it are relative to this folder.
        config: The settings of the group `dataset`.

    Raises:
        DataError: There is no description, or it is not one.
    """

    def __init__(self, root: Path, config: DatasetConfig) -> None:
        path = find_description(root, DESCRIPTION_NAMES)
        if path is None:
            raise DataError(f"{root}: has no {DESCRIPTION_NAMES[0]}; write one with `auralflow init-data {root}`")
        self.root = root
        self.path = path
        self._config = config
        self.files = read_description(path)

    @classmethod
    def detects(cls, root: Path) -> bool:
        """Whether the folder holds a description."""
        return find_description(root, DESCRIPTION_NAMES) is not None

    def songs(self, split: Split) -> list[Song]:
        """Return the songs of a split, sorted by name.

        Raises:
            DataError: The split is empty, or a song's files do not fit together.
            AudioError: A file is missing or no audio.
        """
        if split == "test" or any(files.split == "valid" for files in self.files):
            return self._read([files for files in self.files if files.split == split], split)
        training = [files for files in self.files if files.split == "train"]
        kept, validation = divide(training, self._config.validation_split, key=lambda files: files.name)
        return self._read(kept if split == "train" else validation, split)

    def _read(self, songs: list[SongFiles], split: Split) -> list[Song]:
        if not songs:
            raise DataError(f"{self.path}: has no songs for {split}; give some the split {split!r}")
        songs = sorted(songs, key=lambda files: files.name)
        return [
            replace(song_from_files(files.name, files.stems, files.mixture), weight=files.weight) for files in songs
        ]


def read_description(path: Path) -> list[SongFiles]:
    """Return the songs of a description file.

    Raises:
        ConfigError: It is missing or has a syntax error.
        DataError: It is no description of songs; the place is named.
    """
    advice = "write it anew with `auralflow init-data`"
    songs = [_song_files(path, where, song) for where, song in read_entries(path, "songs", _KNOWN, advice)]
    for (split, name), count in Counter((song.split, song.name) for song in songs).items():
        if count > 1:
            raise DataError(f"{path}: two songs of {split} are called {name!r}; rename one of them")
    return songs


def write_description(path: Path, songs: Iterable[SongFiles]) -> None:
    """Write a description, as JSON or YAML by its suffix; paths are kept relative to its folder.

    Raises:
        AuralflowError: It cannot be written.
    """

    def relative(file: Path) -> str:
        return Path(os.path.relpath(file, path.parent)).as_posix()

    def listed(files: Path | tuple[Path, ...]) -> str | list[str]:
        return relative(files) if isinstance(files, Path) else [relative(file) for file in files]

    entries = [
        {
            "name": files.name,
            "split": files.split,
            **({"mixture": relative(files.mixture)} if files.mixture else {}),
            "stems": {stem: listed(parts) for stem, parts in files.stems.items()},
            **({"weight": files.weight} if files.weight != 1 else {}),
        }
        for files in songs
    ]
    data = {"songs": entries}
    is_json = path.suffix == ".json"
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n" if is_json else dump_yaml(data))


def _song_files(path: Path, where: str, song: dict[str, Any]) -> SongFiles:
    name, split, mixture, stems = (song.get(key) for key in _KNOWN[:4])
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}.name: {name!r} is no name; give the song one")
    if split not in _SPLITS:
        raise DataError(f"{where}.split: {split!r} is none of {', '.join(_SPLITS)}; choose one")
    if mixture is not None and not isinstance(mixture, str):
        raise DataError(f"{where}.mixture: {mixture!r} is no path; name a file, or leave it out")
    if not isinstance(stems, dict) or not stems or not all(map(_is_file_or_several, stems.values())):
        raise DataError(f"{where}.stems: {stems!r} does not map names of stems to files; name at least one")
    weight = song.get("weight", 1)
    if not is_weight(weight):
        raise DataError(
            f"{where}.weight: {weight!r} is no number from 0 to {MOST_WEIGHT}; 2 has a song drawn twice as often"
        )
    files = {
        str(stem): path.parent / parts if isinstance(parts, str) else tuple(path.parent / part for part in parts)
        for stem, parts in stems.items()
    }
    return SongFiles(name, split, files, path.parent / mixture if mixture else None, float(weight))


def _is_file_or_several(value: Any) -> bool:
    parts = value if isinstance(value, list) else [value]
    return bool(parts) and all(isinstance(part, str) for part in parts)
