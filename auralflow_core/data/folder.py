"""Any folder of songs: `train/`, `valid/` and `test/`, each with a folder a song, each with a file a stem."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from auralflow_core.audio import AUDIO_SUFFIXES
from auralflow_core.config import DatasetConfig
from auralflow_core.data.song import Song, song_from_files
from auralflow_core.data.splits import Split, divide, existing
from auralflow_core.errors import DataError

MIXTURE_NAMES = ("mixture", "mix")
SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test",),
}


class FolderDataset:
    """Songs as folders of audio files of any format, one a stem; a file named `mixture` or `mix` is the song's mixture.

    Without split folders every song folder belongs to training and, where a test set is asked for, to that. Without
    a folder for validation, `validation_split` of the training songs are kept for it.

    Args:
        root: The data set's folder.
        config: The settings of the group `dataset`.
        validation_songs: Names of training songs that are kept for validation, where the data set has a fixed choice.

    Raises:
        DataError: The folder is missing or holds no songs.
    """

    def __init__(self, root: Path, config: DatasetConfig, validation_songs: Collection[str] = ()) -> None:
        self.root = existing(root)
        self._config = config
        self._validation_songs = frozenset(validation_songs)
        self._folders = {split: split_folder(root, split) for split in SPLIT_FOLDERS}
        if not any(self._folders.values()) and not _song_folders(root):
            raise DataError(
                f"{root}: holds no songs; expected train/ (and valid/, test/) with a folder a song, each with an "
                "audio file a stem"
            )

    @classmethod
    def detects(cls, root: Path) -> bool:
        """Whether the folder looks like this type."""
        return root.is_dir()

    def songs(self, split: Split) -> list[Song]:
        """Return the songs of a split, sorted by name.

        Raises:
            DataError: The split is missing or empty, or a song's files do not fit together.
        """
        if split == "test" or self._folders["valid"] is not None:
            return self._read(split, self._song_folders(split))
        folders = self._song_folders("train")
        if not folders:
            return self._read(split, folders)
        training, validation = divide(
            folders,
            self._config.validation_split,
            self._validation_songs,
            key=lambda path: path.name,
        )
        return self._read(split, training if split == "train" else validation)

    def _song_folders(self, split: Split) -> list[Path]:
        folder = self._folders[split]
        if folder is None and any(self._folders.values()):
            raise DataError(f"{self.root}: has no folder {split}/; add one with a folder a song")
        return _song_folders(folder or self.root)

    def _read(self, split: Split, folders: list[Path]) -> list[Song]:
        if not folders:
            raise DataError(f"{self.root}: {split}/ is empty, no songs to {_PURPOSE[split]}; add a folder a song to it")
        return [_read_song(folder) for folder in folders]


_PURPOSE: dict[Split, str] = {"train": "train with", "valid": "validate with", "test": "test with"}


def split_folder(root: Path, split: Split) -> Path | None:
    """Return the folder of a split in a data set's folder, by any of its names, if there is one."""
    return next((folder for name in SPLIT_FOLDERS[split] if (folder := root / name).is_dir()), None)


def _song_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and stem_files(path))


def stem_files(folder: Path) -> list[Path]:
    """Return the audio files of a song's folder, hidden ones left out.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error.strerror}; check its permissions") from error
    return [
        path
        for path in paths
        if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]


def _read_song(folder: Path) -> Song:
    stems: dict[str, Path] = {}
    mixture = None
    for path in stem_files(folder):
        if path.stem.lower() in MIXTURE_NAMES:
            if mixture is not None:
                raise DataError(
                    f"song {folder.name!r}: the mixture is there twice, {mixture.name} and {path.name}; remove one"
                )
            mixture = path
        elif path.stem in stems:
            raise DataError(
                f"song {folder.name!r}: stem {path.stem!r} is there twice, {stems[path.stem].name} and {path.name}; "
                "remove one"
            )
        else:
            stems[path.stem] = path
    if not stems:
        raise DataError(f"song {folder.name!r}: has a mixture but no stems; add them or remove {folder}")
    return song_from_files(folder.name, stems, mixture)
