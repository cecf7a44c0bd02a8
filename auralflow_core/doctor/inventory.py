"""The songs of a data set as they lie on disk, also those that training would refuse."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import get_args

from auralflow_core.audio import AudioInfo, audio_info
from auralflow_core.build import open_dataset
from auralflow_core.config import Config
from auralflow_core.data.csv import TABLE_NAMES, CsvDataset, read_rows
from auralflow_core.data.described import DescribedDataset
from auralflow_core.data.folder import MIXTURE_NAMES, SPLIT_FOLDERS, FolderDataset, stem_files
from auralflow_core.data.musdb import MusdbDataset
from auralflow_core.data.song import FileSource, Song, Source, song_from_files, widened
from auralflow_core.data.splits import Split
from auralflow_core.doctor.finding import Finding
from auralflow_core.errors import AudioError, AuralflowError
from auralflow_core.registry import Registry

MIXTURE = "mixture"
_SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Candidate:
    """A song that may have faults.

    Attributes:
        split: What it is for.
        name: Its name.
        files: Its files by the stem's name, its mixture as `mixture`; empty where it has no files of its own.
        song: The song as the data set gives it, where it has no files of its own.
    """

    split: Split
    name: str
    files: Mapping[str, Path] = field(default_factory=dict)
    song: Song | None = None

    @property
    def where(self) -> str:
        """Split and name."""
        return f"{self.split}/{self.name}"

    @property
    def stems(self) -> list[str]:
        """Names of the stems, without the mixture."""
        return list(self.song.stems) if self.song else [name for name in self.files if name != MIXTURE]

    @property
    def is_loose(self) -> bool:
        """Whether it is a file of one stem that belongs to no song."""
        return self.song is not None and self.song.is_loose

    @cached_property
    def infos(self) -> dict[str, AudioInfo | AudioError]:
        """What each file holds, or why it cannot be read."""
        return {name: _info(path) for name, path in self.files.items()}

    @property
    def is_whole(self) -> bool:
        """Whether all files can be opened and belong together."""
        if self.song:
            return True
        infos = [info for info in self.infos.values() if isinstance(info, AudioInfo)]
        is_aligned = len({(info.sample_rate, info.frames) for info in infos}) == 1
        has_one_width = len({info.channels for info in infos} - {1}) < 2
        return len(infos) == len(self.files) and is_aligned and has_one_width and bool(self.stems)

    @property
    def sources(self) -> dict[str, Source]:
        """The sources of the stems and, where there is one, of the mixture."""
        if self.song:
            mixture = {MIXTURE: self.song.mixture} if self.song.mixture else {}
            return {**self.song.stems, **mixture}
        channels = self.shape[1]
        return {
            name: widened(FileSource(path), self._info(name).channels, channels) for name, path in self.files.items()
        }

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sample rate, channel count and length in samples of a song that is whole."""
        if self.song:
            return self.song.sample_rate, self.song.channels, self.song.frames
        infos = list(map(self._info, self.files))
        return infos[0].sample_rate, max(info.channels for info in infos), infos[0].frames

    def _info(self, name: str) -> AudioInfo:
        info = self.infos[name]
        assert isinstance(info, AudioInfo)
        return info


def list_songs(root: Path, config: Config, registry: Registry) -> tuple[list[Candidate], list[Finding]]:
    """Return the songs of a data set, and what is wrong with it as a whole.

    Raises:
        DataError: The folder is missing or holds no songs.
    """
    dataset = open_dataset(root, config, registry)
    if isinstance(dataset, DescribedDataset):
        return _described(dataset)
    if isinstance(dataset, CsvDataset) and not dataset.is_loose:
        return _tables(root, config)
    if isinstance(dataset, FolderDataset) or (isinstance(dataset, MusdbDataset) and not _has_stem_files(root)):
        return list(_folders(root)), []
    songs, findings = [], []
    for split in _SPLITS:
        try:
            songs += [Candidate(split, song.name, song=song) for song in dataset.songs(split)]
        except AuralflowError as error:
            findings += [] if split == "test" else [_refused(split, error)]
    return songs, findings


def _described(dataset: DescribedDataset) -> tuple[list[Candidate], list[Finding]]:
    songs, findings = [], []
    for song in dataset.files:
        mixture = {MIXTURE: song.mixture} if song.mixture else {}
        files = {name: path for name, path in song.stems.items() if isinstance(path, Path)}
        if len(files) == len(song.stems):
            songs.append(Candidate(song.split, song.name, {**files, **mixture}))
            continue
        try:
            whole = song_from_files(song.name, song.stems, song.mixture)
            songs.append(Candidate(song.split, song.name, song=whole))
        except AuralflowError as error:
            findings.append(_refused(song.split, error))
    return songs, findings


def _tables(root: Path, config: Config) -> tuple[list[Candidate], list[Finding]]:
    """Return the rows of a data set's tables with all their stems, not the targets alone."""
    data = config.dataset
    named = {"train": data.train_csv, "valid": data.validation_csv, "test": ""}
    songs, findings = [], []
    for split, names in TABLE_NAMES.items():
        choices = (named[split],) if named[split] else names
        places = [path for name in choices for path in (root / name, Path(name))]
        table = next((path for path in places if path.is_file()), None)
        if table is None:
            continue
        try:
            targets = _columns(table, data.mix_name) or data.targets
            rows = read_rows(table, root, data.model_copy(update={"targets": targets}))
        except AuralflowError as error:
            findings.append(_refused(split, error))
            continue
        songs += [
            Candidate(split, f"{row.mixture.stem} (line {row.number})", {**row.stems, MIXTURE: row.mixture})
            for row in rows
        ]
    return songs, findings


def _columns(table: Path, mix_name: str) -> list[str]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    names = [column.removesuffix("_path") for column in header if column.endswith("_path")]
    return [name for name in names if name != mix_name]


def _folders(root: Path) -> Iterator[Candidate]:
    has_splits = False
    for split, names in SPLIT_FOLDERS.items():
        folder = next((root / name for name in names if (root / name).is_dir()), None)
        if folder is not None:
            has_splits = True
            yield from _song_folders(split, folder)
    if not has_splits:
        yield from _song_folders("train", root)


def _song_folders(split: Split, folder: Path) -> Iterator[Candidate]:
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = {MIXTURE if path.stem.lower() in MIXTURE_NAMES else path.stem: path for path in stem_files(place)}
        if files:
            yield Candidate(split, place.name, files)


def _info(path: Path) -> AudioInfo | AudioError:
    try:
        return audio_info(path)
    except AudioError as error:
        return error


def _refused(split: Split, error: AuralflowError) -> Finding:
    return Finding("files", "error", str(error), split, next_step="mend it and run doctor again")


def _has_stem_files(root: Path) -> bool:
    return any(True for _ in root.glob("*/*.stem.mp4"))
