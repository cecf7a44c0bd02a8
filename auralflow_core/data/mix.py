"""Several data sets in one training, each of its own type and with its share of the chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from auralflow_core.config import DatasetConfig
from auralflow_core.data.descriptions import MOST_WEIGHT, find_description, is_weight, read_entries
from auralflow_core.data.naming import short_names
from auralflow_core.data.open import SongDataset, detect
from auralflow_core.data.song import Root, Song
from auralflow_core.data.splits import Split
from auralflow_core.errors import AuralflowError, DataError

DESCRIPTION_NAMES = ("auralflow-mix.json", "auralflow-mix.yaml")
_KNOWN = ("root", "type", "weight")


class MixedRoot(NamedTuple):
    """A data set among several.

    Attributes:
        path: Its folder.
        type: Its type, or `auto`.
        weight: Its share of the chunks, against the others; none: its songs count like all others.
    """

    path: Path
    type: str = "auto"
    weight: float | None = None


Opener = Callable[[MixedRoot], SongDataset]


class SeveralDatasets:
    """The songs of several data sets, which are opened by `open_roots`.

    A song's name begins with that of its root's folder, so that names stay unique. Validation and test songs are those
    of each root.

    Args:
        roots: The data sets.
    """

    def __init__(self, roots: Sequence[MixedRoot]) -> None:
        self.roots = list(roots)
        self._datasets: list[tuple[Root, SongDataset]] = []

    @classmethod
    def detects(cls, root: Path) -> bool:
        """Whether the folder holds a description of several."""
        return find_description(root, DESCRIPTION_NAMES) is not None

    def open_roots(self, opener: Opener) -> None:
        """Open every root; songs can be listed from then on.

        Raises:
            AuralflowError: A root is missing or named twice, its type is unknown, or it is a mix itself.
        """
        folders = [root.path.resolve() for root in self.roots]
        for name, folder, root in zip(short_names(folders), folders, self.roots, strict=True):
            if folders.count(folder) > 1:
                raise DataError(f"{root.path}: is named twice; name each data set once")
            dataset = opener(root)
            if isinstance(dataset, SeveralDatasets):
                raise DataError(f"{root.path}: is a mix of data sets itself; name its roots in its place")
            self._datasets.append((Root(name, root.weight), dataset))

    def songs(self, split: Split) -> list[Song]:
        """Return the songs of a split, sorted by name; for `test`, of the roots that have any.

        Raises:
            AuralflowError: A root has no songs of the split, or for `test`, none of them has.
        """
        songs: list[Song] = []
        problems: list[AuralflowError] = []
        for root, dataset in self._datasets:
            try:
                found = dataset.songs(split)
            except DataError as error:
                if split != "test":
                    raise
                problems.append(error)
            else:
                songs += [replace(song, name=f"{root.name} - {song.name}", root=root) for song in found]
        if not songs:
            raise problems[0]
        return sorted(songs, key=lambda song: song.name)


class MixDataset(SeveralDatasets):
    """The data sets that `auralflow-mix.json` or `.yaml` lists: `{"roots": [{root, type, weight}]}`.

    Args:
        root: The folder of the description; paths in it are relative to this folder.
        config: The settings of the group `dataset`; of them the type is each root's own.

    Raises:
        DataError: There is no description, or it is not one.
    """

    def __init__(self, root: Path, config: DatasetConfig) -> None:
        path = find_description(root, DESCRIPTION_NAMES)
        if path is None:
            raise DataError(f"{root}: has no {DESCRIPTION_NAMES[0]}; write one, or name several folders to `train`")
        super().__init__(read_mix(path))


def open_data(
    root: Path | Sequence[Path], config: DatasetConfig, find: Callable[[str], type[SongDataset]], names: Sequence[str]
) -> SongDataset:
    """Return the data set in a folder, or one data set of those in several.

    Args:
        root: The folder or folders.
        config: The settings of the group `dataset`; `auto` stands for the type that a folder looks like.
        find: Returns the data set type of a name.
        names: The names of all types.

    Raises:
        AuralflowError: A folder is missing or empty, or a type unknown.
    """

    def opened(root: MixedRoot) -> SongDataset:
        name = detect(root.path, {name: find(name) for name in names}) if root.type == "auto" else root.type
        return find(name)(root.path, config)

    if isinstance(root, Path):
        dataset = opened(MixedRoot(root, config.type))
    else:
        dataset = SeveralDatasets([MixedRoot(path, config.type) for path in root])
    if isinstance(dataset, SeveralDatasets):
        dataset.open_roots(opened)
    return dataset


def read_mix(path: Path) -> list[MixedRoot]:
    """Return the roots that a description lists.

    Raises:
        ConfigError: It is missing or has a syntax error.
        DataError: It is no description of roots; the place is named.
    """
    advice = "give it one: [{root: FOLDER, weight: 1}]"
    found = [_mixed_root(path, where, root) for where, root in read_entries(path, "roots", _KNOWN, advice)]
    if len({root.weight is None for root in found}) > 1:
        raise DataError(f"{path}: some roots have a weight and some have none; give each one, or none")
    return found


def _mixed_root(path: Path, where: str, root: dict[str, Any]) -> MixedRoot:
    folder, type_, weight = root.get("root"), root.get("type", "auto"), root.get("weight")
    if not isinstance(folder, str) or not folder:
        raise DataError(f"{where}.root: {folder!r} is no folder; name one")
    if not isinstance(type_, str):
        raise DataError(f"{where}.type: {type_!r} is no name of a type; leave it out to have it found")
    if weight is not None and not (is_weight(weight) and weight > 0):
        raise DataError(
            f"{where}.weight: {weight!r} is no number above 0, up to {MOST_WEIGHT}; mend it, or leave the root out"
        )
    if (path.parent / folder).resolve() == path.parent.resolve() and type_ in ("auto", "mix"):
        raise DataError(f"{where}.root: {folder!r} is the mix itself; name another folder, or its type")
    return MixedRoot(path.parent / folder, type_, weight)
