"""Find the audio files under some paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from auralflow_core.errors import AudioError, did_you_mean

AUDIO_SUFFIXES = frozenset(
    {".aac", ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".m4a", ".mka"}
    | {".mp3", ".mp4", ".oga", ".ogg", ".opus", ".w64", ".wav", ".wave", ".webm"}
)


def find_audio(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Return the audio files among `paths` and below them, each once, folder contents in order of name.

    A file that is named is returned whatever its suffix. In a folder, files are chosen by `AUDIO_SUFFIXES`
    (in any case); hidden files and folders are skipped, and links are followed.

    Raises:
        AudioError: A path does not exist, or a folder cannot be listed.
    """
    roots = [Path(path) for path in paths]
    for root in roots:
        if not _exists(root):
            raise missing_file(root)
    return _walk_all(roots)


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


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


def _walk_all(roots: list[Path]) -> Iterator[Path]:
    # Real paths: one file named twice is yielded once, and a link to a folder above itself ends the walk.
    seen: set[str] = set()
    for root in roots:
        yield from _walk(root, seen)


def _walk(path: Path, seen: set[str]) -> Iterator[Path]:
    real = os.path.realpath(path)
    if real in seen:
        return
    seen.add(real)
    if not path.is_dir():
        yield path
        return
    for child in _children(path):
        if child.is_dir() or child.suffix.casefold() in AUDIO_SUFFIXES:
            yield from _walk(child, seen)


def _children(folder: Path) -> list[Path]:
    try:
        children = sorted(folder.iterdir(), key=lambda child: child.name)
    except OSError as error:
        raise AudioError(f"cannot list {folder}: {error.strerror}; check its permissions") from error
    return [child for child in children if not child.name.startswith(".")]
