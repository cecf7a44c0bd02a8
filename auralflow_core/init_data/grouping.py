"""From files with labels to songs with stems: what is summed, and what is left out."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from auralflow_core.data.described import SongFiles
from auralflow_core.data.splits import Split
from auralflow_core.init_data.instruments import ACCOMPANIMENT, MIXTURE, OTHER, USUAL_STEMS, instrument, words

Key = tuple[Split | None, tuple[str, ...]]

# Where it is no stem of its own.
_PART_OF = {"percussion": "drums"}
_MOST_NAMES = 5


@dataclass(frozen=True)
class Part:
    """A file, or several that are one together, taken for a stem or a track of a song.

    Attributes:
        key: The split, if a folder names it, and the folders and the title that name the song.
        label: What it is called.
        files: At least one.
        is_plain: Whether the label is a folder's, which is a stem's name whatever it is.
        is_written: Whether the label is the data set's own word for an instrument.
    """

    key: Key
    label: str
    files: tuple[Path, ...]
    is_plain: bool = False
    is_written: bool = False

    @property
    def is_track(self) -> bool:
        """Whether it is only a part of one of the usual stems."""
        found = instrument(self.label)
        is_part = found is not None and not found.is_whole and found.stem in ("vocals", "drums", "bass")
        return self.is_written or (is_part and not self.is_plain)

    @property
    def bare_name(self) -> str:
        """The stem that it is called as, with nothing behind; empty if it is not, and may be one of several."""
        found = instrument(self.label)
        may_be_one_of_several = self.is_written or any(word.is_number for word in words(self.label))
        return found.stem if found is not None and found.is_whole and not may_be_one_of_several else ""

    def shown(self, root: Path) -> str:
        """Return its files for a message."""
        return _shown(self.files, root)


def grouped(parts: Sequence[Part], root: Path, stems: Sequence[str] | None, doubts: list[str]) -> list[SongFiles]:
    """Return the songs that parts make.

    Args:
        parts: All of them.
        root: The folder that is described, for messages.
        stems: As for `propose`.
        doubts: Gets what could also be otherwise.
    """
    if stems is None and any(part.is_track for part in parts):
        stems = USUAL_STEMS
        doubts.append(f"tracks of instruments are summed into {', '.join(stems)}; choose others with --stems")
    _note_unknown(parts, f"taken for {OTHER}" if stems else "taken for stems of their own", doubts)
    names = _names(parts, root)
    splits = {part.key[0] for part in parts}
    if "valid" in splits and not splits & {"train", None}:
        doubts.append("no folder is called train: what lies in the one for validation is taken for training")
        names = [("train" if split == "valid" else split, name) for split, name in names]
    songs: dict[tuple[Split, str], dict[str, list[Part]]] = defaultdict(lambda: defaultdict(list))
    for (split, name), part in zip(names, parts, strict=True):
        songs[split, name][_stem(part, stems)].append(part)
    made = [
        SongFiles(name, split, chosen, mixture)
        for (split, name), found in songs.items()
        for chosen, mixture in [_chosen(name, found, root, doubts)]
        if chosen
    ]
    if splits != {None}:
        kept = {song.name for song in made}
        unplaced = {name for (_, name), part in zip(names, parts, strict=True) if part.key[0] is None}
        doubts += [f"{name}: lies in no folder of a split, taken for training" for name in sorted(unplaced & kept)]
    return made


def _names(parts: Sequence[Part], root: Path) -> list[tuple[Split, str]]:
    """Return split and name of each part's song, without the folders that all songs share."""
    levels = zip(*(part.key[1][:-1] for part in parts), strict=False)
    shared = sum(1 for _ in takewhile(lambda folders: len(set(folders)) == 1, levels))
    return [
        (split or "train", " - ".join(folders[shared:]) or root.resolve().name)
        for split, folders in (part.key for part in parts)
    ]


def _stem(part: Part, stems: Sequence[str] | None) -> str:
    """Return the stem that a part belongs to."""
    found = instrument(part.label)
    if found is None:
        return OTHER if stems else part.label
    if found.stem in (MIXTURE, ACCOMPANIMENT) or found.stem.startswith("no "):
        return found.stem
    if not stems:
        return found.stem if found.is_whole else part.label
    names = (found.stem, _PART_OF.get(found.stem, OTHER))
    return next((name for name in names if name in stems), OTHER)


def _chosen(
    song: str, found: Mapping[str, list[Part]], root: Path, doubts: list[str]
) -> tuple[dict[str, Path | tuple[Path, ...]], Path | None]:
    """Return the files of a song's stems, and of its mixture."""
    stems = {name: _summed(name, parts, song, root, doubts) for name, parts in found.items() if name != MIXTURE}
    for name in [name for name in stems if _holds_others(name, stems)]:
        doubts.append(f"{song}: {_shown(stems.pop(name), root)} left out, it holds stems that are there by themselves")
    mixture = None
    for part in found.get(MIXTURE, []):
        if not stems:
            reason = "a mixture without stems"
        elif len(part.files) > 1:
            reason = "a mixture of several files"
        elif mixture is None:
            (mixture,) = part.files
            continue
        else:
            reason = f"{_shown((mixture,), root)} is the mixture of that song already"
        doubts.append(f"{part.shown(root)}: left out, {reason}")
    return {name: files[0] if len(files) == 1 else files for name, files in sorted(stems.items())}, mixture


def _summed(stem: str, parts: Sequence[Part], song: str, root: Path, doubts: list[str]) -> tuple[Path, ...]:
    """Return the files of a stem: all of its parts, but of two with one instrument's bare name the first alone."""
    bare: dict[str, Part] = {}
    kept = []
    for part in parts:
        first = bare.setdefault(part.bare_name, part) if part.bare_name else part
        if first is part:
            kept.append(part)
        else:
            doubts.append(f"{part.shown(root)}: left out, {first.shown(root)} is {stem} of that song already")
    if stem in bare and stem != OTHER and len(kept) > 1 and not bare[stem].is_plain:
        doubts.append(
            f"{song}: {bare[stem].shown(root)} is added to what else is {stem}; "
            "if it is the sum of that, take it out of the list"
        )
    return tuple(path for part in kept for path in part.files)


def _holds_others(name: str, stems: Iterable[str]) -> bool:
    """Whether a stem is all but one, and others of these are there."""
    alone = "vocals" if name == ACCOMPANIMENT else name.removeprefix("no ")
    return name != alone and bool(set(stems) - {name, alone})


def _shown(files: Sequence[Path], root: Path) -> str:
    return " + ".join(os.path.relpath(path, root) for path in files)


def _note_unknown(parts: Sequence[Part], what: str, doubts: list[str]) -> None:
    """List the names that are not known."""
    unknown = Counter(part.label for part in parts if instrument(part.label) is None)
    if unknown:
        often = [f"{name} ({count} times)" if count > 1 else name for name, count in sorted(unknown.items())]
        doubts.append(f"{what}, for their names are of no known instrument: {', '.join(often)}")


def note_odd_stems(songs: Sequence[SongFiles], doubts: list[str]) -> None:
    """List what songs lack, those that lack the same together."""
    every = {stem for song in songs for stem in song.stems}
    lacking: dict[str, list[str]] = defaultdict(list)
    for song in songs:
        lacking[", ".join(sorted(every - set(song.stems)))].append(song.name)
    for missing, names in lacking.items():
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        if missing:
            verb = "has" if len(names) == 1 else "have"
            doubts.append(f"{', '.join(names[:_MOST_NAMES])}{more}: {verb} no {missing}, which other songs have")
