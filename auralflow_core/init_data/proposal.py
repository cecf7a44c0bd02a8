"""What the files of a folder could be: songs, stems and splits, guessed from names and places."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from auralflow_core.audio import find_audio
from auralflow_core.data.csv import CsvDataset
from auralflow_core.data.described import SongFiles
from auralflow_core.data.musdb import MusdbDataset
from auralflow_core.data.open import SongDataset
from auralflow_core.data.song import song_from_files
from auralflow_core.data.splits import Split, divide
from auralflow_core.data.stem_folders import StemFoldersDataset
from auralflow_core.errors import AuralflowError, ConfigError, DataError, did_you_mean
from auralflow_core.init_data.grouping import Key, Part, grouped, note_odd_stems
from auralflow_core.init_data.instruments import MIXTURE, SUMMED_STEMS, instrument, is_no_music, words
from auralflow_core.init_data.labels import written_labels
from auralflow_core.init_data.titles import Named, common_start, read_names

_SPLIT_OF: dict[str, Split] = {
    "train": "train", "training": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
# Folders that say nothing about a song, such as MedleyDB's `Song_STEMS`.
_PLAIN_FOLDER = re.compile(r"(.*[ _-])?stems?|sources|audio|wav|flac|tracks|multitracks?|songs|data", re.I)
_LOSSLESS = frozenset((".wav", ".wave", ".flac", ".aif", ".aiff", ".w64", ".caf"))


@dataclass
class Proposal:
    """What a folder's files are taken for.

    Attributes:
        songs: The songs, sorted by split and name.
        doubts: What could also be otherwise, or what was left out, one line each.
    """

    songs: list[SongFiles]
    doubts: list[str] = field(default_factory=list)


def propose(folder: Path, *, valid: float = 0.2, test: float = 0.0, stems: Sequence[str] | None = None) -> Proposal:
    """Propose a description of a folder; nothing is changed or written, and of audio only headers are read.

    Args:
        folder: Any folder with audio files.
        valid: Share of the training songs that is kept for validation where no folder says which, in [0, 1).
        test: As `valid`, for test; where there is no folder for test.
        stems: The stems that files are summed into, what is none of them into `other`; empty: each file is a stem of
            its own name; none: the usual four where there are tracks of instruments, and else as empty.

    Raises:
        DataError: The folder is missing or holds no song with stems.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check the path")
    doubts = _known_layouts(folder)
    places: dict[Path, list[Path]] = defaultdict(list)
    for path in find_audio([folder]):
        places[path.parent].append(path)
    songs = _whole(grouped(_parts(folder, places, doubts), folder, stems, doubts), doubts)
    if not songs:
        found = "".join(f"; {line}" for line in dict.fromkeys((*doubts[:1], *doubts[-1:])))
        raise DataError(
            f"{folder}: holds no song with stems in its {sum(map(len, places.values()))} audio files{found}; "
            "name files as in `Song - vocals.wav` or `Song/vocals.wav`"
        )
    note_odd_stems(songs, doubts)
    songs = _divided(songs, valid, test, doubts)
    _refuse_loose(folder, songs)
    return Proposal(songs, doubts)


def read_stems(text: str) -> list[str] | None:
    """Return `propose`'s stems of what a user writes: `auto`, `own` or names such as `vocals,guitar,other`.

    Raises:
        ConfigError: One of several names is no stem that files could be summed into.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names in (["auto"], ["own"]):
        return None if names == ["auto"] else []
    for name in names:
        if name not in SUMMED_STEMS:
            raise ConfigError(
                f"--stems: {name!r} is none of {', '.join(SUMMED_STEMS)}{did_you_mean(name, SUMMED_STEMS)}"
            )
    return names


def _parts(root: Path, places: Mapping[Path, list[Path]], doubts: list[str]) -> list[Part]:
    """Return what all files are."""
    files: dict[Key, list[Path]] = defaultdict(list)
    labels: dict[Path, str] = {}
    for place, paths in sorted(places.items()):
        if reason := _left_out(root, place, places):
            doubts.append(f"{place.relative_to(root)}: left out, {reason}")
            continue
        files[_place(root, place)] += sorted(paths, key=lambda path: (path.suffix.lower() not in _LOSSLESS, path))
        written = written_labels(place, root)
        labels |= {path: written[path.stem] for path in paths if path.stem in written}
    songs_of_folders = _songs_of_folders(files)
    parts: list[Part] = []
    for (split, folders), paths in files.items():
        if (split, folders[:-1]) in songs_of_folders:
            parts.append(Part((split, folders[:-1]), folders[-1], tuple(paths), is_plain=True))
        elif folders and _is_stem(folders[-1]):  # a folder a stem: vocals/Song.wav
            parts += _files_of_a_stem(split, folders, paths)
        else:
            parts += _files_of_songs(root, (split, folders), paths, labels, doubts)
    return parts


def _left_out(root: Path, place: Path, places: Iterable[Path]) -> str:
    """Return why a folder's files are no stems, if they are not."""
    folders = [folder for folder in (place, *place.parents) if folder != root and folder.is_relative_to(root)]
    for folder in folders:
        stems = folder.with_name(re.sub("raw$", "STEMS", folder.name, flags=re.I))
        if stems != folder and stems in places:
            return f"the same is in {stems.relative_to(root)}"
        if folder.name == "omitted" and any((folder.with_name(name)).is_dir() for name in _SPLIT_OF):
            return "the data set omits it"
    return ""


def _place(root: Path, place: Path) -> Key:
    """Return the split that the folders above a file name, and the other folders."""
    folders = place.relative_to(root).parts
    splits = [_SPLIT_OF[name.lower()] for name in folders if name.lower() in _SPLIT_OF]
    rest = tuple(name for name in folders if name.lower() not in _SPLIT_OF and not _PLAIN_FOLDER.fullmatch(name))
    # `Mixtures/Song/mixture.wav` beside `Sources/Song/vocals.wav`, and not `mixtures/Song.wav`.
    if len(rest) > 1 and _is_stem(rest[0], MIXTURE):
        rest = rest[1:]
    return (splits[0] if splits else None), rest


def _is_stem(name: str, stem: str = "") -> bool:
    """Whether a name is that of a whole stem."""
    found = instrument(name)
    return found is not None and found.is_whole and stem in ("", found.stem)


def _songs_of_folders(files: Mapping[Key, list[Path]]) -> set[Key]:
    """Return the songs that have a folder a stem, with files of any name in it: `Song/vocals/lead.wav`.

    Where files of two such folders have one name, that is a song's, as in `Album/vocals/Song.wav`.
    """
    names: dict[Key, list[str]] = defaultdict(list)
    for (split, folders), paths in files.items():
        if len(folders) > 1 and _is_stem(folders[-1]):
            names[split, folders[:-1]] += {path.stem for path in paths}
    return {key for key, found in names.items() if len(set(found)) == len(found)}


def _files_of_a_stem(split: Split | None, folders: tuple[str, ...], paths: list[Path]) -> list[Part]:
    """Return the files of a folder that is called as a stem, each of a song: `vocals/A.wav`, `vocals/A_vocals.wav`."""
    stem, named = instrument(folders[-1]), read_names(paths)
    titles = {
        path: found.title for path, found in named.items() if found and found.title and instrument(found.label) == stem
    }
    return [
        Part((split, (*folders[:-1], titles.get(path, path.stem))), folders[-1], (path,), is_plain=True)
        for path in paths
    ]


def _files_of_songs(
    root: Path, key: Key, paths: list[Path], labels: Mapping[Path, str], doubts: list[str]
) -> list[Part]:
    """Return what the files of one folder are."""
    (split, folders), shown = key, {path: path.relative_to(root) for path in paths}
    for path in [path for path in paths if is_no_music(path.stem)]:
        doubts.append(f"{shown[path]}: left out, by its name it is in no mixture")
        paths = [path for path in paths if not is_no_music(path.stem)]
    named = read_names(paths)
    titles = {found.title for found in named.values() if found}
    if not titles:
        return _unknown_stems(root, key, paths, labels, doubts)
    if folders and len(titles) == 1:
        # In a folder of one song its title says nothing that the folder does not.
        named = {path: Named("", found.label if found else path.stem) for path, found in named.items()}
    named = _named_by_number(root, named, doubts)
    parts = []
    for path, found in named.items():
        if found is None:
            doubts.append(f"{shown[path]}: left out, its name says neither the song nor the stem")
            continue
        song = (*folders, found.title) if found.title else folders
        parts.append(Part((split, song), labels.get(path, found.label), (path,), is_written=path in labels))
    return parts


def _named_by_number(root: Path, named: dict[Path, Named | None], doubts: list[str]) -> dict[Path, Named | None]:
    """Return names whose numbers are those of songs with the numbers in their titles: `vocals_0`, `drums_0`, ...

    They are if there are no other names, and each of several stems has the same numbers.
    """
    numbers: dict[tuple[str, str], list[str]] = defaultdict(list)
    found: dict[Path, Named | None] = {}
    for path, name in named.items():
        stem, digits = instrument(name.label) if name else None, [w.text for w in words(path.stem) if w.is_number]
        if name is None or stem is None or not stem.is_whole or not digits or not path.stem.endswith(digits[-1]):
            return named
        numbers[name.title, stem.stem].append(digits[-1])
        found[path] = Named(f"{name.title} {digits[-1]}".strip(), name.label.removesuffix(digits[-1]).rstrip(" _.-"))
    sets = {tuple(sorted(each)) for each in numbers.values()}
    if len(numbers) < 2 or len(sets) > 1 or len(*sets) < 2:
        return named
    doubts.append(f"{next(iter(named)).relative_to(root)} and others: their numbers are taken for those of songs")
    return found


def _unknown_stems(
    root: Path, key: Key, paths: list[Path], labels: Mapping[Path, str], doubts: list[str]
) -> list[Part]:
    """Return the files of a folder without one usual name: stems of one song, if the folder can be a song."""
    _, folders = key
    if not folders or len(paths) < 2:
        doubts += [f"{path.relative_to(root)}: left out, its name holds no known stem" for path in paths]
        return []
    start = common_start([path.stem for path in paths])
    names = {path: path.stem[start:].strip(" _.-") or path.stem for path in paths}
    if not all(path in labels for path in paths):
        where, stems = paths[0].parent.relative_to(root), ", ".join(sorted(names.values())[:6])
        doubts.append(f"{where}: no usual names, each file is taken for a stem ({stems})")
    return [Part(key, labels.get(path, names[path]), (path,), is_written=path in labels) for path in paths]


def _known_layouts(root: Path) -> list[str]:
    """Say which other layout training sees in a folder, with what that holds besides names."""
    types: dict[str, type[SongDataset]] = {"csv": CsvDataset, "musdb": MusdbDataset, "stem-folders": StemFoldersDataset}
    return [
        f"without a description, training reads this folder as the type {name} (docs/data.md)"
        for name, type_ in types.items()
        if type_.detects(root)
    ]


def _whole(songs: Iterable[SongFiles], doubts: list[str]) -> list[SongFiles]:
    """Return the songs that training takes, without mixtures that do not fit their stems."""
    kept = []
    for song in songs:
        summed, problem = replace(song, mixture=None), _problem(song)
        if problem and (song.mixture is None or _problem(summed)):
            doubts.append(f"the song is left out: {problem}")
            continue
        if problem:
            doubts.append(f"the mixture is left out: {problem.partition('; ')[0]}")
        kept.append(summed if problem else song)
    return kept


def _problem(song: SongFiles) -> str:
    """Return why training would refuse a song, if it would."""
    try:
        song_from_files(song.name, song.stems, song.mixture)
    except AuralflowError as error:
        return str(error)
    return ""


def _refuse_loose(root: Path, songs: Sequence[SongFiles]) -> None:
    """Refuse what would be described as songs of one stem each, with which nothing can be validated."""
    judged = [song for song in songs if song.split == "valid"] or songs
    is_loose = all(len(song.stems) == 1 and song.mixture is None for song in judged)
    if is_loose and len({stem for song in songs for stem in song.stems}) > 1:
        raise DataError(
            f"{root}: its files are stems of different songs; with a folder a stem `auralflow train` takes them "
            "as they are (the type stem-folders), without a description; if they are of one song, name them as in "
            "`Song/vocals.wav`"
        )


def _divided(songs: list[SongFiles], valid: float, test: float, doubts: list[str]) -> list[SongFiles]:
    """Return the songs with shares of the training songs given to the splits that no folder names."""
    for share, split in ((test, "test"), (valid, "valid")):
        training = [song for song in songs if song.split == "train"]
        if not share or len(training) < 2 or any(song.split == split for song in songs):
            continue
        _, chosen = divide(training, share, key=lambda song: song.name)
        doubts.append(f"{split}: no folder says which songs, {len(chosen)} of {len(training)} drawn by seed")
        songs = [_moved(song, split) if song in chosen else song for song in songs]
    order = {"train": 0, "valid": 1, "test": 2}
    return sorted(songs, key=lambda song: (order[song.split], song.name))


def _moved(song: SongFiles, split: str) -> SongFiles:
    return replace(song, split="test" if split == "test" else "valid")
