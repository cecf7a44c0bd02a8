"""Find the audio files that some paths, patterns and playlists name."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from glob import glob
from itertools import takewhile
from pathlib import Path

from auralflow_core.audio.playlists import PLAYLIST_SUFFIXES, exists, read_playlist
from auralflow_core.audio.stdin import STDIN
from auralflow_core.errors import AudioError, did_you_mean

AUDIO_SUFFIXES = frozenset(
    {".aac", ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".m4a", ".mka", ".mkv"}
    | {".mp3", ".mp4", ".oga", ".ogg", ".opus", ".w64", ".wav", ".wave", ".webm"}
)

_WILD = re.compile(r"[*?[]")


def find_audio(
    paths: Iterable[str | Path], *, leave_out: Callable[[Path], bool] = lambda folder: False
) -> Iterator[Path]:
    """Return the audio files among `paths` and below them, each once, folder contents in order of name.

    A file that is named is returned whatever its suffix. In a folder, files are chosen by `AUDIO_SUFFIXES`
    (in any case); hidden files and folders are skipped, and links are followed. What is no file or folder but has one
    of `*?[` is a pattern (`**`: folders at any depth), whose files are chosen like those of a folder. A playlist
    (M3U, M3U8, PLS) stands for what it names, in its order; of that, a file that does not exist is returned too, to
    fail by itself. `-`, standard input, is returned as it is.

    Args:
        paths: Files, folders, patterns and playlists.
        leave_out: Tells of a folder inside another one whether to pass it by, as one for the folders of stems.

    Raises:
        AudioError: A path does not exist, a pattern fits no audio, or a folder or playlist cannot be read.
    """
    return _walk_all([root for path in paths for root in _roots(path, leave_out)], leave_out)


def missing_file(path: Path) -> AudioError:
    """Return the error for a path that does not exist, with the nearest name that does."""
    try:
        neighbours = [neighbour.name for neighbour in path.parent.iterdir()]
    except OSError:
        return AudioError(f"cannot read {path}: there is no folder {path.parent}; check the path")
    return AudioError(
        f"cannot read {path}: there is no such file or folder"
        f"{did_you_mean(path.name, neighbours) or '; check the path'}"
    )


def _roots(path: str | Path, leave_out: Callable[[Path], bool]) -> list[Path]:
    """Return the files and folders that one path names."""
    root = _spelt_as_on_disk(Path(path))
    if root == STDIN:
        return [root]
    if not exists(root):
        if _WILD.search(str(path)):
            return _matches(str(path), leave_out)
        raise missing_file(root)
    return _listed(root, ()) if _is_playlist(root) else [root]


def _spelt_as_on_disk(path: Path) -> Path:
    # One letter with an accent or two: keyboards and file systems disagree.
    spellings = [path, *(Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))]
    return next((spelling for spelling in spellings if exists(spelling)), path)


def _matches(pattern: str, leave_out: Callable[[Path], bool]) -> list[Path]:
    """Return the audio files and the folders that fit a pattern."""
    fixed = Path(*takewhile(lambda part: not _WILD.search(part), Path(pattern).parts))
    roots = [
        path
        for path in map(Path, sorted(glob(pattern, recursive=True)))  # noqa: PTH207 (this one skips hidden folders)
        if (path.is_dir() or path.suffix.casefold() in AUDIO_SUFFIXES)
        and not any(leave_out(folder) for folder in _folders_between(path, fixed))
    ]
    if not roots:
        raise AudioError(f"no audio file fits the pattern {pattern}; check the path")
    return roots


def _folders_between(path: Path, outer: Path) -> list[Path]:
    """Return `path`, if it is a folder, and the folders around it that lie in `outer`."""
    folders = [folder for folder in (path, *path.parents) if folder != outer and folder.is_relative_to(outer)]
    return [folder for folder in folders if folder.is_dir()]


def _is_playlist(path: Path) -> bool:
    return path.suffix.casefold() in PLAYLIST_SUFFIXES and path.is_file()


def _listed(playlist: Path, above: tuple[Path, ...]) -> list[Path]:
    """Return what a playlist names, and the playlists that it names."""
    if playlist in above:
        return []
    roots = []
    for path in map(_spelt_as_on_disk, read_playlist(playlist)):
        roots += _listed(path, (*above, playlist)) if _is_playlist(path) else [path]
    return roots


def _walk_all(roots: list[Path], leave_out: Callable[[Path], bool]) -> Iterator[Path]:
    # Real paths: one file named twice is yielded once, and a link to a folder above itself ends the walk.
    seen: set[str] = set()
    for root in roots:
        yield from _walk(root, leave_out, seen)


def _walk(path: Path, leave_out: Callable[[Path], bool], seen: set[str]) -> Iterator[Path]:
    real = os.path.realpath(path)
    if real in seen:
        return
    seen.add(real)
    if not path.is_dir():
        yield path
        return
    for child in _children(path):
        if (child.is_dir() and not leave_out(child)) or child.suffix.casefold() in AUDIO_SUFFIXES:
            yield from _walk(child, leave_out, seen)


def _children(folder: Path) -> list[Path]:
    try:
        children = sorted(folder.iterdir(), key=lambda child: child.name)
    except OSError as error:
        raise AudioError(f"cannot list {folder}: {error.strerror}; check its permissions") from error
    return [child for child in children if not child.name.startswith(".")]
