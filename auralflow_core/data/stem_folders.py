"""Files of single stems that belong to no song: a folder a stem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from auralflow_core.config import DatasetConfig
from auralflow_core.data.folder import FolderDataset, split_folder, stem_files
from auralflow_core.data.naming import short_names
from auralflow_core.data.song import Song, song_from_files, widened
from auralflow_core.data.splits import Split, divide, existing
from auralflow_core.errors import DataError

STEM_NAMES = frozenset(
    {"accompaniment", "backing", "bass", "drums", "guitar", "instrumental", "other", "piano", "strings", "synth"}
    | {"vocals", "voice"}
)
"""Folders of these names are taken for folders of a stem's files."""

_SONG_FILES = STEM_NAMES | {"mixture", "mix"}


class StemFoldersDataset:
    """Songs that training makes of files which do not belong together: `train/` with a folder a stem.

    Each file is a song with one stem; chunks take their stems from different ones. `valid/` and `test/` may hold song
    folders, as those of the type `folder`, or stem folders, whose files are combined in a fixed way. Without `valid/`,
    `validation_split` of each stem's files are kept and combined.

    Args:
        root: The data set's folder.
        config: The settings of the group `dataset`.

    Raises:
        DataError: The folder is missing.
    """

    def __init__(self, root: Path, config: DatasetConfig) -> None:
        self.root = existing(root)
        self._config = config

    @classmethod
    def detects(cls, root: Path) -> bool:
        """Whether the folder for training has folders with names of stems, whose files have not."""
        files = _stem_files(split_folder(root, "train") or root)
        is_song = any(path.stem.lower() in _SONG_FILES for paths in files.values() for path in paths)
        return not is_song and any(name.lower() in STEM_NAMES for name in files)

    def songs(self, split: Split) -> list[Song]:
        """Return the songs of a split, sorted by name.

        Raises:
            DataError: The split is missing or empty, or no combination of its files makes a song.
        """
        folder = split_folder(self.root, split)
        if split == "train":
            files = self._files(folder or self.root)
            return loose_songs(files if split_folder(self.root, "valid") else self._divided(files)[0])
        if split == "valid" and folder is None:
            return combined_songs(self._divided(self._files(split_folder(self.root, "train") or self.root))[1])
        if folder is None:
            raise DataError(f"{self.root}: has no folder {split}/; add one with a folder a song")
        if self.detects(folder):
            return combined_songs(_stem_files(folder))
        return FolderDataset(self.root, self._config).songs(split)

    def _files(self, folder: Path) -> dict[str, list[Path]]:
        files = _stem_files(folder)
        if not files:
            raise DataError(f"{folder}: holds no folders with audio; add one for each stem: vocals/, drums/, ...")
        return files

    def _divided(self, files: Mapping[str, list[Path]]) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
        return divided(files, self._config.validation_split)


def divided(files: Mapping[str, Sequence[Path]], share: float) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Return each stem's files for training, and those for validation.

    Raises:
        DataError: A stem has fewer than two.
    """
    halves = {}
    for stem, paths in files.items():
        try:
            halves[stem] = divide(list(paths), share, key=str)
        except DataError as error:
            raise DataError(f"stem {stem!r}: {error}") from None
    return {stem: half[0] for stem, half in halves.items()}, {stem: half[1] for stem, half in halves.items()}


def loose_songs(files: Mapping[str, Sequence[Path]]) -> list[Song]:
    """Return each file as a song with one stem, sorted by name.

    Raises:
        AudioError: A file is no audio.
    """
    songs = [
        song_from_files(f"{stem} - {name}", {stem: path}, None)
        for stem, paths in files.items()
        for name, path in zip(short_names([path.with_suffix("") for path in paths]), paths, strict=True)
    ]
    return sorted(songs, key=lambda song: song.name)


def combined_songs(files: Mapping[str, Sequence[Path]]) -> list[Song]:
    """Return songs that are made of one file of each stem, in the order of their names, as many as there are of each.

    A song is as long as its shortest file, and has as many channels as most of them; its files have one rate.

    Raises:
        AudioError: A file is no audio.
        DataError: There is no rate at which there are files of all stems.
    """
    by_rate: dict[int, dict[str, list[Song]]] = {}
    for song in loose_songs(files):
        (stem,) = song.stems
        by_rate.setdefault(song.sample_rate, {}).setdefault(stem, []).append(song)
    combinations = [
        combination
        for _, stems in sorted(by_rate.items())
        if len(stems) == len(files)
        for combination in zip(*stems.values(), strict=False)
    ]
    if not combinations:
        raise DataError(
            f"no rate at which there are files of {' and '.join(files)}, so that they make no song; convert them, or "
            "add a folder valid/ with a folder a song"
        )
    return [_combined(f"combination {number}", songs) for number, songs in enumerate(combinations, start=1)]


def _combined(name: str, songs: Sequence[Song]) -> Song:
    channels = max(song.channels for song in songs)
    stems = {stem: widened(source, song.channels, channels) for song in songs for stem, source in song.stems.items()}
    return replace(songs[0], name=name, stems=stems, channels=channels, frames=min(song.frames for song in songs))


def _stem_files(folder: Path) -> dict[str, list[Path]]:
    """Return the audio files in each folder inside a folder, those without any left out."""
    if not folder.is_dir():
        return {}
    found = {inner.name: stem_files(inner) for inner in sorted(folder.iterdir()) if inner.is_dir()}
    return {name: paths for name, paths in found.items() if paths}
