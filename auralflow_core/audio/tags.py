"""Tags of a song and its cover: what they say, and reading them."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

from tinytag import Image, TinyTag, TinyTagException

# The length of a FLAC metadata block has 24 bits, and base64 in Ogg takes a third more.
_LARGEST_COVER = 11 << 20


@dataclass(frozen=True)
class Cover:
    """A picture of the front cover, as it lies in the file, and its MIME type."""

    data: bytes
    mime: str


@dataclass(frozen=True)
class Tags:
    """What the tags of a song say; what they do not say is None.

    `date` begins with the year. What holds for a recording alone (loudness, fingerprints, identifiers, lyrics) is not
    among them: it would be wrong of a stem.
    """

    title: str | None = None
    artist: str | None = None
    album: str | None = None
    album_artist: str | None = None
    composer: str | None = None
    genre: str | None = None
    date: str | None = None
    comment: str | None = None
    track: int | None = None
    track_total: int | None = None
    disc: int | None = None
    disc_total: int | None = None
    cover: Cover | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) is not None for field in fields(self))

    @property
    def year(self) -> str | None:
        """The four digits of the year."""
        found = re.match(r"\d{4}", self.date or "")
        return found.group() if found else None

    @property
    def track_of_total(self) -> str | None:
        """The track's number, and how many there are: `3` or `3/12`."""
        return _of(self.track, self.track_total)

    @property
    def disc_of_total(self) -> str | None:
        """The disc's number, and how many there are."""
        return _of(self.disc, self.disc_total)

    def for_stem(self, stem: str) -> Tags:
        """Return the tags of a stem: the same, the title followed by the stem in brackets."""
        return self if self.title is None else replace(self, title=f"{self.title} ({stem})")


def read_tags(path: str | Path) -> Tags:
    """Return the tags of a file and its cover; none where there are none, or none that can be read.

    MP3, MPEG-4, FLAC, Ogg, WAV, AIFF and WMA are known. Where a tag has several values, the first counts.

    Raises:
        OSError: The file cannot be opened.
    """
    with Path(path).open("rb") as file:
        try:
            found = TinyTag.get(file_obj=file, duration=False, image=True)
        except (TinyTagException, ValueError, LookupError, ArithmeticError):  # damaged tags are no reason to fail
            return Tags()
    return Tags(
        title=_text(found.title),
        artist=_text(found.artist),
        album=_text(found.album),
        album_artist=_text(found.albumartist),
        composer=_text(found.composer),
        genre=_text(found.genre),
        date=_text(found.year),
        comment=_text(found.comment),
        track=found.track or None,
        track_total=found.track_total or None,
        disc=found.disc or None,
        disc_total=found.disc_total or None,
        cover=_cover(found.images.front_cover or found.images.any),
    )


def _of(number: int | None, total: int | None) -> str | None:
    if number is None:
        return None
    return str(number) if total is None else f"{number}/{total}"


def _text(value: str | None) -> str | None:
    # A null byte ends a text in ID3 and in C; what cannot be encoded cannot be written.
    text = (value or "").split("\0")[0].encode("utf-8", "replace").decode().strip()
    return text or None


def _cover(image: Image | None) -> Cover | None:
    if image is None or not image.data or len(image.data) > _LARGEST_COVER:
        return None
    # The bytes are surer than the name: `image/jpg` and `PNG` are common.
    known = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"GIF8": "image/gif", b"BM": "image/bmp"}
    for start, mime in known.items():
        if image.data.startswith(start):
            return Cover(image.data, mime)
    return Cover(image.data, image.mime_type) if image.mime_type else None
