"""What the names of the files in one folder say: which song, and which of its stems or tracks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from auralflow_core.init_data.instruments import MIXTURE, instrument, is_label, words

_NUMBER = re.compile(r"\d+[\s_.\-]+(?=\D)")
# `Song (Vocals).wav`, and `Song_(Vocals)_model_name.wav` of separators that append their model.
_BRACKETED = re.compile(r"(?P<title>.*?)[\s_.\-]*[(\[](?P<label>[^()\[\]]+)[)\]](?P<model>.*)$")


@dataclass(frozen=True)
class Named:
    """What a name says.

    Attributes:
        title: The song; empty where the name has the label alone.
        label: The stem or the track, as it is written.
    """

    title: str
    label: str


def read_names(paths: Sequence[Path]) -> dict[Path, Named | None]:
    """Return what the names of the files in one folder say; none where they hold no name of a stem or a track.

    Where a name can be cut in several ways, it is the way by which most files are of one song.
    """
    names = _without_numbers(paths)
    choices = {path: _choices(name) for path, name in names.items()}
    inside = {path: found for path, name in names.items() if not choices[path] and (found := _inside(name))}
    shared = Counter(named.title for named in inside.values())
    choices |= {path: [named] for path, named in inside.items() if shared[named.title] > 1}
    support = Counter(title for found in choices.values() for title in {named.title for named in found})
    chosen = {path: _best(found, support) for path, found in choices.items()}
    titles = [named.title for named in chosen.values() if named]
    whole = Counter(titles)
    for path, named in chosen.items():
        # `A - Weird Vox` beside `A - drums`: no song `A - Weird`.
        if named and named.title and whole[named.title] == 1:
            chosen[path] = _within(names[path], named, whole, len(titles))
    return {path: named or _beside(names[path], titles) for path, named in chosen.items()}


def common_start(names: Sequence[str]) -> int:
    """Return the length of what all names begin with, up to the end of a word."""
    shortest = min(map(len, names))
    length = next((at for at in range(shortest) if len({name[at] for name in names}) > 1), shortest)
    match = re.match(r".*[\s_.\-()\[\]]+", names[0][:length])
    return match.end() if match else 0


def _without_numbers(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the names, without numbers in front where they count the files and not the songs."""
    found = {path: match[0] for path in paths if (match := _NUMBER.match(path.stem))}
    stripped = {path: path.stem[len(found.get(path, "")) :] for path in paths}
    counts_files = len({*found.values()}) == len(found) and len({stripped[path] for path in found}) > 1
    return stripped if counts_files else {path: path.stem for path in paths}


def _choices(name: str) -> list[Named]:
    """Return the ways to cut a name into song and label, the shortest labels first, those at the end first."""
    bracketed = _BRACKETED.match(name)
    if bracketed and is_label(words(bracketed["label"])):
        return [Named(_trimmed(bracketed["title"]), bracketed["label"].strip())]
    found = words(name)
    ends = [
        Named(_trimmed(name[: found[at].start]), _trimmed(name[found[at].start :]))
        for at in reversed(range(len(found)))
        if is_label(found[at:])
    ]
    starts = [
        Named(_trimmed(name[found[upto - 1].end :]), _trimmed(name[: found[upto - 1].end]))
        for upto in range(1, len(found))
        if is_label(found[:upto])
    ]
    return [*ends, *starts]


def _inside(name: str) -> Named | None:
    """Return a name cut at a stem's own name in its middle: `Song_vocals_split_by_someone`."""
    found = words(name)
    for first in range(1, len(found)):
        for last in reversed(range(first, len(found))):
            label = name[found[first].start : found[last].end]
            stem = instrument(label) if is_label(found[first : last + 1]) else None
            if stem and stem.is_whole:
                return Named(_trimmed(name[: found[first].start]), label)
    return None


def _best(choices: Sequence[Named], support: Mapping[str, int]) -> Named | None:
    return max(choices, key=lambda named: support[named.title], default=None)


def _within(name: str, named: Named, titles: Mapping[str, int], files: int) -> Named:
    """Return a name read as one of a song that other files have, if it begins with that song's title."""
    for title in sorted(titles, key=len, reverse=True):
        is_song = titles[title] > 1 and len(title) < len(named.title)
        if is_song and _begins(name, title) and (title or 2 * titles[title] > files):
            return Named(title, _trimmed(name[len(title) :]))
    return named


def _beside(name: str, titles: Sequence[str]) -> Named | None:
    """Return what a name without a known word says beside the songs of its folder."""
    for title in sorted({*titles}, key=len, reverse=True):
        if title and name.casefold() == title.casefold():
            return Named(title, MIXTURE)
        if _begins(name, title):
            return Named(title, _trimmed(name[len(title) :]))
    return None


def _trimmed(text: str) -> str:
    """Return a part of a name without what separates it from the others; `(` and `)` stay where both are there."""
    text = text.strip(" _.-").rstrip("([").lstrip(")]")
    for opening, closing in ("()", "[]"):
        text = text.removeprefix(opening) if closing not in text else text
        text = text.removesuffix(closing) if opening not in text else text
    return text.strip(" _.-")


def _begins(name: str, title: str) -> bool:
    rest = name[len(title) :]
    return name.casefold().startswith(title.casefold()) and (not title or not rest[:1].isalnum())
