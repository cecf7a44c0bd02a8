"""Paths of stems by a template: `{artist}/{track}_{stem}.{ext}`."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from string import Formatter

from auralflow_core.audio import STDIN, Tags
from auralflow_core.errors import ConfigError, did_you_mean

FIELDS: Mapping[str, str] = {
    "artist": "artist, or `unknown artist`",
    "album_artist": "artist of the album, or of the song",
    "album": "album, or `unknown album`",
    "title": "title, or the name of the song's file without its suffix",
    "number": "number on the album with two digits, or `00`",
    "year": "year with four digits, or `unknown year`",
    "genre": "genre, or `unknown genre`",
    "track": "name of the song's file without its suffix",
    "stem": "name of the stem",
    "ext": "suffix of the stem's format",
}
"""The fields of a template and what they stand for. All but the last three are what the song's tags say."""

# File systems allow 255 bytes for a name; some are kept for an underscore in front and a number in brackets.
_LONGEST = 240
_DIGITS = 8
_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|]')
_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\..*)?", re.IGNORECASE | re.DOTALL)
_KEPT_WHOLE = ("stem", "ext")

_Part = tuple[str, str | None]
"""A literal text and the field that follows it."""


def check_template(template: str) -> None:
    """Refuse a template that does not stand for a path below the output folder, or not for one of each stem.

    Raises:
        ConfigError: With the place and what to write instead.
    """
    components = _parsed(template)
    fields = {field for component in components for _, field in component}
    if "stem" not in fields:
        raise ConfigError(f"name template {template!r}: all stems would have one name; put {{stem}} into it")
    if not any(field == "ext" for _, field in components[-1]):
        raise ConfigError(f"name template {template!r}: the file would have no suffix; end it with .{{ext}}")


def stem_path(template: str, source: Path, tags: Tags, *, stem: str, ext: str) -> Path:
    """Return the path of a stem, relative to the output folder.

    What the tags say is made fit for a name on every system: separators, control characters and what Windows does not
    allow become `_`; dots and spaces at the ends go. Parts of the path above 240 bytes are made shorter, and a digest
    keeps those apart that begin alike. Different songs may still have one path.

    Args:
        template: Folders and name with the `FIELDS` in braces.
        source: The song.
        tags: Its tags.
        stem: The stem.
        ext: The suffix of its format, without a dot.

    Raises:
        ConfigError: The template is no path below the output folder, or its fixed part alone is too long.
    """
    check_template(template)
    values = _values(source, tags, stem, ext)
    return Path(*(_component(template, parts, values) for parts in _parsed(template)))


def inside(root: Path, relative: Path) -> Path:
    """Return `root / relative`, refused where a link or the path itself leads out of `root`.

    Raises:
        ConfigError: The path lies outside.
    """
    path = root / relative
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise ConfigError(f"{path}: lies outside {root}; check the name template, and links in that folder")
    return path


def _parsed(template: str) -> list[list[_Part]]:
    """Return the folders of a template and its name, each as parts."""
    components = []
    for component in template.split("/"):
        if component in ("", ".", ".."):
            raise ConfigError(
                f"name template {template!r}: {component or 'an empty name'!r} is not allowed between its slashes; "
                "it stands for a path below the output folder, such as {artist}/{track}_{stem}.{ext}"
            )
        components.append(_parts(template, component))
    return components


def _parts(template: str, component: str) -> list[_Part]:
    try:
        parsed = list(Formatter().parse(component))
    except ValueError as error:
        raise ConfigError(f"name template {template!r}: {error}; write {{{{ and }}}} for braces") from error
    for literal, field, spec, conversion in parsed:
        if field is not None and field not in FIELDS:
            raise ConfigError(
                f"name template {template!r}: there is no field {{{field}}}{did_you_mean(field, FIELDS)} "
                f"(there are {', '.join(FIELDS)})"
            )
        if spec or conversion:
            raise ConfigError(
                f"name template {template!r}: {{{field}}} takes no format; leave out what follows {field}"
            )
        if literal != _fit(literal):
            raise ConfigError(f"name template {template!r}: {literal!r} has characters that no file name can have")
    return [(literal, field) for literal, field, _, _ in parsed]


def _values(source: Path, tags: Tags, stem: str, ext: str) -> dict[str, str]:
    name = "standard input" if source == STDIN else source.stem
    said = {
        "artist": (tags.artist, "unknown artist"),
        "album_artist": (tags.album_artist or tags.artist, "unknown artist"),
        "album": (tags.album, "unknown album"),
        "title": (tags.title, name),
        "number": (f"{tags.track:02d}" if tags.track else None, "00"),
        "year": (tags.year, "unknown year"),
        "genre": (tags.genre, "unknown genre"),
        "track": (name, "_"),
        "stem": (stem, "_"),
        "ext": (ext, "_"),
    }
    return {field: _cleaned(value or "") or _cleaned(usual) or "_" for field, (value, usual) in said.items()}


def _cleaned(value: str) -> str:
    return _fit(unicodedata.normalize("NFC", value)).strip(". \u00a0")


def _fit(text: str) -> str:
    """Replace what cannot be in a name: what Windows forbids, control characters, halves of characters."""
    text = _NOT_IN_NAMES.sub("_", text)
    return "".join("_" if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") else letter for letter in text)


def _component(template: str, parts: list[_Part], values: Mapping[str, str]) -> str:
    """Return one name of the path."""
    free = [field for _, field in parts if field is not None and field not in _KEPT_WHOLE]
    fixed = sum(len(text.encode()) for text, _ in parts)
    fixed += sum(len(values[field].encode()) for _, field in parts if field in _KEPT_WHOLE)
    room = (_LONGEST - fixed) // max(1, len(free))
    if fixed > _LONGEST or (free and room <= _DIGITS + 4):
        raise ConfigError(f"name template {template!r}: its own text alone is too long for a file name; shorten it")
    whole = "".join(text + values.get(field or "", "") for text, field in parts)
    if len(whole.encode()) > _LONGEST:
        short = {field: _shortened(values[field], room) for field in free}
        whole = "".join(text + {**values, **short}.get(field or "", "") for text, field in parts)
    # Windows drops dots and spaces at the end, and takes some names for devices, whatever their suffix.
    whole = whole.rstrip(". ") or "_"
    return f"_{whole}" if _RESERVED.fullmatch(whole) else whole


def _shortened(value: str, size: int) -> str:
    """Return a value of at most `size` bytes; those that differ stay different."""
    data = value.encode()
    if len(data) <= size:
        return value
    digest = hashlib.sha256(data).hexdigest()[:_DIGITS]
    return data[: size - _DIGITS - 1].decode(errors="ignore") + "~" + digest
