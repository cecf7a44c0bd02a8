"""What the files of a folder could be: songs, stems and splits, guessed from names and places alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from auralflow_core.audio import find_audio
from auralflow_core.data.described import SongFiles
from auralflow_core.data.splits import Split, divide
from auralflow_core.errors import DataError

MIXTURE = "mixture"
_ROLES = {
    "vocals": ("vocals", "vocal", "vox", "voice", "voices", "singing", "singer"),
    "drums": ("drums", "drum"),
    "bass": ("bass",),
    "other": ("other", "others", "rest"),
    "accompaniment": ("accompaniment", "instrumental", "backing track"),
    MIXTURE: ("mixture", "mixtures", "mix", "mixes", "full mix", "fullmix", "full", "master"),
}
_ROLE_OF = {word: role for role, words in _ROLES.items() for word in words}
_SPLIT_OF: dict[str, Split] = {
    "train": "train", "training": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
# Folders that say nothing about a song.
_PLAIN_FOLDERS = {"stems", "stem", "sources", "audio", "wav", "flac", "tracks", "multitrack", "songs", "data"}

_WORDS = "|".join(sorted(map(re.escape, _ROLE_OF), key=len, reverse=True)).replace(r"\ ", "[ _-]?")
_ROLE = rf"(?P<role>(?:{_WORDS})(?:[ _-]?\d+)?)"
_BREAK = r"[\s_.\-()\[\]]+"
_WHOLE = re.compile(rf"{_ROLE}$", re.I)
_LAST = re.compile(rf"(?P<song>.*\S){_BREAK}{_ROLE}[)\]]?$", re.I)
_FIRST = re.compile(rf"{_ROLE}{_BREAK}(?P<song>\S.*)$", re.I)
_NUMBER = re.compile(r"\d+[\s_.\-]+(?=\D)")

Key = tuple[Split | None, tuple[str, ...]]


@dataclass
class Proposal:
    """What a folder's files are taken for.

    Attributes:
        songs: The songs, sorted by split and name.
        doubts: What could also be otherwise, or what was left out, one line each.
    """

    songs: list[SongFiles]
    doubts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Part:
    """A file, or several that are one together, taken for a stem of a song."""

    key: Key
    stem: str
    files: Path | tuple[Path, ...]


def propose(folder: Path, *, valid: float = 0.2, test: float = 0.0) -> Proposal:
    """Propose a description of a folder; nothing is changed or written.

    Args:
        folder: Any folder with audio files.
        valid: Share of the training songs that is kept for validation where no folder says which, in [0, 1).
        test: As `valid`, for test; where there is no folder for test.

    Raises:
        DataError: The folder is missing or holds no song with stems.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check the path")
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in find_audio([folder]):
        by_folder[path.parent].append(path)
    doubts: list[str] = []
    parts: list[_Part] = []
    songs_of_folders = _songs_of_folders(folder, by_folder)
    for place, paths in sorted(by_folder.items()):
        split, folders = _place(folder, place)
        if (split, folders[:-1]) in songs_of_folders:
            stem = _role(folders[-1]) or folders[-1]
            parts.append(_Part((split, folders[:-1]), stem, tuple(paths) if len(paths) > 1 else paths[0]))
        else:
            parts += _parts(folder, place, paths, doubts)
    songs = _songs(parts, folder, doubts)
    if not songs:
        found = f"; {doubts[0]}" if doubts else ""
        raise DataError(
            f"{folder}: holds no song with stems in its {sum(map(len, by_folder.values()))} audio files{found}; "
            "name files as in `Song - vocals.wav` or `Song/vocals.wav`"
        )
    return Proposal(_divided(songs, valid, test, doubts), doubts)


def _songs_of_folders(root: Path, by_folder: Mapping[Path, list[Path]]) -> set[Key]:
    """Return the songs that have a folder a stem, with files of any name in it: `Song/vocals/lead.wav`.

    Where files of two such folders have one name, that is a song's, as in `Album/vocals/Song.wav`.
    """
    names: dict[Key, list[str]] = defaultdict(list)
    for place, paths in by_folder.items():
        split, folders = _place(root, place)
        if len(folders) > 1 and _role(folders[-1]):
            names[split, folders[:-1]] += {path.stem for path in paths}
    return {key for key, found in names.items() if len(set(found)) == len(found)}


def _parts(root: Path, place: Path, paths: list[Path], doubts: list[str]) -> list[_Part]:
    """Return what the files of one folder are."""
    split, folders = _place(root, place)
    role = _role(folders[-1]) if folders else None
    if role is not None:  # a folder a stem: vocals/song.wav
        return [_Part((split, (*folders[:-1], path.stem)), role, path) for path in paths]
    names = {path: _without_number(path.stem, paths) for path in paths}
    found = {path: _split_name(name) for path, name in names.items()}
    known = {path: pair for path, pair in found.items() if pair is not None}
    if not known:
        return _unknown_stems(root, split, folders, names, doubts)
    titles = sorted({title for title, _ in known.values()}, key=len, reverse=True)
    parts = [_Part((split, _song_key(folders, title, titles)), stem, path) for path, (title, stem) in known.items()]
    for path in [path for path in paths if path not in known]:
        title = next((title for title in titles if names[path].casefold().startswith(title.casefold())), None)
        stem = names[path][len(title or "") :].strip(" _.-()[]") if title is not None else ""
        if not stem:
            doubts.append(f"{path.relative_to(root)}: left out, its name says neither the song nor the stem")
            continue
        if not folders and title == "":
            doubts.append(f"{path.relative_to(root)}: taken for a stem called {stem!r}")
        parts.append(_Part((split, _song_key(folders, title or "", titles)), stem, path))
    return parts


def _place(root: Path, place: Path) -> tuple[Split | None, tuple[str, ...]]:
    """Return the split that the folders above a file name, and the other folders."""
    folders = place.relative_to(root).parts
    splits = [_SPLIT_OF[name.lower()] for name in folders if name.lower() in _SPLIT_OF]
    rest = tuple(name for name in folders if name.lower() not in _SPLIT_OF and name.lower() not in _PLAIN_FOLDERS)
    # `Mixtures/Song/mixture.wav` beside `Sources/Song/vocals.wav`, and not `mixtures/Song.wav`.
    if len(rest) > 1 and _role(rest[0]) == MIXTURE:
        rest = rest[1:]
    return (splits[0] if splits else None), rest


def _role(name: str) -> str | None:
    return _stem_name(name) if _WHOLE.match(name) else None


def _stem_name(word: str) -> str:
    """Return the usual name of a stem's name: `Vox` is vocals, `vox 2` is `vocals 2`."""
    match = re.fullmatch(r"(.*?)[ _-]?(\d*)", word)
    assert match is not None
    role = _ROLE_OF.get(re.sub("[ _-]+", " ", match[1].lower()))
    role = role or _ROLE_OF[match[1].lower().replace("-", "").replace("_", "").replace(" ", "")]
    return f"{role} {match[2]}".strip()


def _split_name(name: str) -> tuple[str, str] | None:
    """Return the song's and the stem's part of a file name, if it holds a usual name of a stem."""
    if match := _WHOLE.match(name):
        return "", _stem_name(match["role"])
    for pattern in (_LAST, _FIRST):
        if match := pattern.match(name):
            return match["song"].strip(" _.-"), _stem_name(match["role"])
    return None


def _without_number(name: str, paths: list[Path]) -> str:
    """Return a name without the number in front, where every file of the folder has one of its own."""
    numbers = [match[0] for path in paths if (match := _NUMBER.match(path.stem))]
    if len(paths) > 1 and len(set(numbers)) == len(paths):
        return _NUMBER.sub("", name, count=1)
    return name


def _song_key(folders: tuple[str, ...], title: str, titles: list[str]) -> tuple[str, ...]:
    # In a folder of one song its title says nothing that the folder does not.
    return folders if folders and len(titles) == 1 else (*folders, title) if title else folders


def _unknown_stems(
    root: Path, split: Split | None, folders: tuple[str, ...], names: Mapping[Path, str], doubts: list[str]
) -> list[_Part]:
    """Return the files of a folder without one usual name: stems of one song, if the folder can be a song."""
    if not folders or len(names) < 2:
        doubts += [f"{path.relative_to(root)}: left out, its name holds no known stem" for path in names]
        return []
    start = _common_start(list(names.values()))
    where = next(iter(names)).parent.relative_to(root)
    stems = {path: name[start:].strip(" _.-") or name for path, name in names.items()}
    doubts.append(f"{where}: no usual names, each file is taken for a stem ({', '.join(sorted(stems.values())[:6])})")
    return [_Part((split, folders), stem, path) for path, stem in stems.items()]


def _common_start(names: list[str]) -> int:
    """Return the length of what all names begin with, up to the end of a word."""
    shortest = min(map(len, names))
    length = next((at for at in range(shortest) if len({name[at] for name in names}) > 1), shortest)
    match = re.match(rf".*{_BREAK}", names[0][:length])
    return match.end() if match else 0


def _songs(parts: Iterable[_Part], root: Path, doubts: list[str]) -> list[SongFiles]:
    groups: dict[Key, dict[str, Path | tuple[Path, ...]]] = defaultdict(dict)
    for part in parts:
        stems = groups[part.key]
        if part.stem in stems:
            first, other = _shown(stems[part.stem], root), _shown(part.files, root)
            doubts.append(f"{other}: left out, {first} is {part.stem} of that song already")
        stems.setdefault(part.stem, part.files)
    splits = {split for split, _ in groups}
    has_splits = splits != {None}
    if "valid" in splits and not splits & {"train", None}:
        doubts.append("no folder is called train: what lies in the one for validation is taken for training")
        groups = {("train" if split == "valid" else split, words): stems for (split, words), stems in groups.items()}
    songs = []
    for (split, words), stems in groups.items():
        name = " - ".join(words) or root.resolve().name
        mixture = stems.pop(MIXTURE, None)
        if not stems or isinstance(mixture, tuple):
            reason = "a mixture of several files" if stems else "a mixture without stems"
            doubts.append(f"{_shown(mixture or (), root)}: left out, {reason}")
            mixture = None
        if not stems:
            continue
        if split is None and has_splits:
            doubts.append(f"{name}: lies in no folder of a split, taken for training")
        songs.append(SongFiles(name, split or "train", dict(sorted(stems.items())), mixture))
    _note_odd_stems(songs, doubts)
    return sorted(songs, key=lambda song: (song.split, song.name))


def _shown(files: Path | tuple[Path, ...], root: Path) -> str:
    parts = (files,) if isinstance(files, Path) else files
    return " + ".join(str(path.relative_to(root)) for path in parts)


def _note_odd_stems(songs: list[SongFiles], doubts: list[str]) -> None:
    every = {stem for song in songs for stem in song.stems}
    for song in songs:
        if missing := sorted(every - set(song.stems)):
            doubts.append(f"{song.name}: has no {', '.join(missing)}, which other songs have")


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
    return SongFiles(song.name, "test" if split == "test" else "valid", song.stems, song.mixture)
