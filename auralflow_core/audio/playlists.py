"""Playlists: M3U, M3U8 and PLS."""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from auralflow_core.errors import AudioError

PLAYLIST_SUFFIXES = frozenset({".m3u", ".m3u8", ".pls"})


def read_playlist(path: Path) -> list[Path]:
    """Return the files that a playlist names, whether they exist or not; relative ones lie beside the playlist.

    `file:` addresses and names with percent signs for bytes are understood, and so are the backslashes of Windows.

    Raises:
        AudioError: The playlist cannot be read, or names something on the network.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AudioError(f"cannot read {path}: {error.strerror}; check the path and permissions") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # M3U is older than UTF-8
    lines = [line.strip() for line in text.splitlines()]
    if path.suffix.casefold() == ".pls":
        found = (re.fullmatch(r"File\d+\s*=\s*(.*)", line, re.IGNORECASE) for line in lines)
        entries = [match.group(1) for match in found if match and match.group(1)]
    else:
        entries = [line for line in lines if line and not line.startswith("#")]
    return [_file(path, entry) for entry in entries]


def _file(playlist: Path, entry: str) -> Path:
    address = urlsplit(entry) if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", entry) else None
    if address and address.scheme.casefold() == "file":
        return Path(url2pathname(address.path))
    if address:
        raise AudioError(f"cannot read {entry} in {playlist}: it is not a file on this machine; download it first")
    spellings = (entry, unquote(entry), PureWindowsPath(entry).as_posix(), unquote(PureWindowsPath(entry).as_posix()))
    paths = [playlist.parent / spelling for spelling in spellings]
    return next((path for path in paths if exists(path)), paths[0])


def exists(path: Path) -> bool:
    """Return whether there is such a file or folder; not if its name is too long or its folder may not be entered."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
