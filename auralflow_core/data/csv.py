"""Songs as rows of CSV tables, as Spleeter's data sets have them."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from auralflow_core.config import DatasetConfig
from auralflow_core.data.descriptions import MOST_WEIGHT, is_weight
from auralflow_core.data.naming import short_names
from auralflow_core.data.song import Song, song_from_files
from auralflow_core.data.splits import Split, divide, existing
from auralflow_core.data.stem_folders import combined_songs, divided, loose_songs
from auralflow_core.errors import AudioError, DataError, did_you_mean

TABLE_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train.csv",),
    "valid": ("validation.csv", "valid.csv"),
    "test": ("test.csv",),
}

# A table's durations are rounded, and lossy formats add some milliseconds.
_DURATION_TOLERANCE = 1.0
_MOST_PROBLEMS = 5
_LOOSE_COLUMNS = {"instrum", "path"}


@dataclass(frozen=True)
class Row:
    """A song of a table.

    Attributes:
        number: The line it ends on.
        mixture: Its mixture.
        stems: Its targets.
        duration: Seconds of it that are used; none given: all.
        weight: How often training draws it, against the others.
    """

    number: int
    mixture: Path
    stems: dict[str, Path]
    duration: float | None
    weight: float = 1.0


class CsvDataset:
    """Songs named in `train.csv`, `validation.csv` and `test.csv`, or in the tables that the settings name.

    A table has the columns `<mix_name>_path`, `<target>_path` for each target, and `duration` in seconds and `weight`,
    which may be left out; others are ignored. One with the columns `instrum` and `path` names files of single stems, as
    stem folders hold them. Files may have any format. Paths are relative to the data set's folder, or else to the
    table's. Without a table for validation, `validation_split` of the training songs are kept for it.

    Args:
        root: The folder that the paths in the tables are relative to.
        config: The settings of the group `dataset`.

    Raises:
        DataError: The folder is missing.
    """

    def __init__(self, root: Path, config: DatasetConfig) -> None:
        self.root = existing(root)
        self._config = config

    @classmethod
    def detects(cls, root: Path) -> bool:
        """Whether the folder holds a table `train.csv`."""
        return (root / "train.csv").is_file()

    @property
    def is_loose(self) -> bool:
        """Whether the training table names files of single stems."""
        table = self._table("train")
        return table is not None and read_loose(table, self.root) is not None

    def songs(self, split: Split) -> list[Song]:
        """Return the songs of a split, sorted by name.

        Raises:
            DataError: There is no table, it has not the columns or names missing files, or files do not fit together.
        """
        table = self._table(split)
        if split == "valid" and table is None:
            return self._divided("valid")
        if split == "train" and self._table("valid") is None:
            return self._divided("train")
        return self._read(split, table)

    def _divided(self, split: Split) -> list[Song]:
        table = self._table("train")
        if table is not None and (files := read_loose(table, self.root)) is not None:
            training_files, validation_files = divided(files, self._config.validation_split)
            return loose_songs(training_files) if split == "train" else combined_songs(validation_files)
        songs = self._read("train", table)
        training, validation = divide(songs, self._config.validation_split, key=lambda song: song.name)
        return training if split == "train" else validation

    def _table(self, split: Split) -> Path | None:
        """Return the table of a split: the configured one, or the one in the folder, or none."""
        named = {"train": self._config.train_csv, "valid": self._config.validation_csv, "test": ""}[split]
        if not named:
            return next((path for name in TABLE_NAMES[split] if (path := self.root / name).is_file()), None)
        return next((path for path in (self.root / named, Path(named)) if path.is_file()), self.root / named)

    def _read(self, split: Split, table: Path | None) -> list[Song]:
        if table is None:
            raise DataError(f"{self.root}: has no table {TABLE_NAMES[split][0]}; add one with a row a song")
        if (files := read_loose(table, self.root)) is not None:
            return loose_songs(files) if split == "train" else combined_songs(files)
        rows = read_rows(table, self.root, self._config)
        names = short_names([row.mixture.with_suffix("") for row in rows])
        songs = [_song(name, row, table) for name, row in zip(names, rows, strict=True)]
        return sorted(songs, key=lambda song: song.name)


def read_rows(table: Path, root: Path, config: DatasetConfig) -> list[Row]:
    """Return the rows of a table.

    Raises:
        DataError: It is no table, lacks a column, or rows are incomplete or name missing files; the first are named.
    """
    columns = {name: f"{name}_path" for name in (config.mix_name, *config.targets)}
    rows: list[Row] = []
    problems: list[str] = []
    for number, cells in _cells(table, list(columns.values())):
        paths, faults = _paths(cells, columns, (root, table.parent))
        duration, fault = _number(cells, "duration", "number of seconds above 0", is_allowed=lambda number: number > 0)
        weight, other = _number(cells, "weight", f"number from 0 to {MOST_WEIGHT}", is_allowed=is_weight)
        problems += [f"line {number}: {text}" for text in (*faults, *fault, *other)]
        if not faults:
            mixture = paths.pop(config.mix_name)
            rows.append(Row(number, mixture, paths, duration, 1.0 if weight is None else weight))
    _refuse(table, problems)
    if not rows:
        raise DataError(f"{table}: has no rows; add a row a song")
    return rows


def read_loose(table: Path, root: Path) -> dict[str, list[Path]] | None:
    """Return the files of each stem that a table with the columns `instrum` and `path` names; none if it has not these.

    Raises:
        DataError: It is no table, has no rows, or names missing files; the first are named.
    """
    lines = _cells(table, ())
    if not lines or not lines[0][1].keys() >= _LOOSE_COLUMNS:
        return None
    files: dict[str, list[Path]] = {}
    problems: list[str] = []
    for number, cells in lines:
        paths, faults = _paths(cells, {"path": "path"}, (root, table.parent))
        stem = (cells["instrum"] or "").strip()
        problems += [f"line {number}: {text}" for text in (*faults, *(() if stem else ("instrum is empty",)))]
        if paths:
            files.setdefault(stem, []).append(paths["path"])
    _refuse(table, problems)
    return files


def _refuse(table: Path, problems: Sequence[str]) -> None:
    if problems:
        more = f"; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
        raise DataError(f"{table}: {'; '.join(problems[:_MOST_PROBLEMS])}{more}; mend or remove these rows")


def _cells(table: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str | None]]]:
    """Return the lines of a table that has these columns, each with its number."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or ())
            lines = [(reader.line_num, cells) for cells in reader]
    except FileNotFoundError:
        raise DataError(f"{table}: no such file; check the path of the table") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a CSV table ({error}); export it as UTF-8") from None
    for column in columns:
        if column not in header:
            raise DataError(
                f"{table}: has no column {column!r}{did_you_mean(column, header)} (it has "
                f"{', '.join(header) or 'none'}); add it, or change `targets` or `mix_name`"
            )
    return lines


def _paths(
    cells: dict[str, str | None], columns: dict[str, str], folders: Sequence[Path]
) -> tuple[dict[str, Path], list[str]]:
    """Return the files of a row by name, and what is wrong with it."""
    paths: dict[str, Path] = {}
    faults = []
    for name, column in columns.items():
        text = (cells[column] or "").strip()
        found = [path for folder in folders if text and _is_file(path := folder / text)]
        if found:
            paths[name] = found[0]
        else:
            faults.append(f"{text}: no such file" if text else f"{column} is empty")
    return paths, faults


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, for one
        return False


def _number(
    cells: dict[str, str | None], column: str, kind: str, *, is_allowed: Callable[[float], bool]
) -> tuple[float | None, list[str]]:
    """Return the number in a cell, and what is wrong with it."""
    text = cells.get(column)
    if not text or not text.strip():
        return None, []
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isfinite(number) and is_allowed(number):
        return number, []
    return None, [f"{column} {text!r} is no {kind}"]


def _song(name: str, row: Row, table: Path) -> Song:
    try:
        song = song_from_files(name, row.stems, row.mixture)
    except (AudioError, DataError) as error:
        raise type(error)(f"{table}, line {row.number}: {error}") from None
    song = replace(song, weight=row.weight)
    if row.duration is None:
        return song
    if row.duration > song.duration + _DURATION_TOLERANCE:
        raise DataError(
            f"{table}, line {row.number}: duration {row.duration:g} s, but {row.mixture} has {song.duration:.1f} s; "
            "correct the table, or replace the file if it is cut short"
        )
    return replace(song, frames=min(song.frames, math.ceil(row.duration * song.sample_rate)))
