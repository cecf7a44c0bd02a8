"""ID3v2.3 tags, for MP3 and for the `id3 ` chunk of WAV (id3.org, informal standard of 1999)."""

from __future__ import annotations

import struct

from auralflow_core.audio.tags import Cover, Tags

_LATIN_1, _UTF_16 = b"\0", b"\1"
_FRONT_COVER = b"\3"


def id3_tag(tags: Tags) -> bytes:
    """Return an ID3 tag; nothing if there is nothing to say."""
    texts = {
        b"TIT2": tags.title,
        b"TPE1": tags.artist,
        b"TALB": tags.album,
        b"TPE2": tags.album_artist,
        b"TCOM": tags.composer,
        b"TCON": tags.genre,
        b"TYER": tags.year,
        b"TRCK": tags.track_of_total,
        b"TPOS": tags.disc_of_total,
    }
    frames = b"".join(_frame(name, _UTF_16 + _utf_16(text)) for name, text in texts.items() if text)
    if tags.comment:
        # A language and a short description stand before the comment.
        frames += _frame(b"COMM", _UTF_16 + b"eng" + _utf_16("") + b"\0\0" + _utf_16(tags.comment))
    if tags.cover:
        frames += _frame(b"APIC", _picture(tags.cover))
    return b"ID3\3\0\0" + _size(len(frames)) + frames if frames else b""


def _frame(name: bytes, body: bytes) -> bytes:
    return name + struct.pack(">IH", len(body), 0) + body


def _utf_16(text: str) -> bytes:
    return b"\xff\xfe" + text.encode("utf-16-le")


def _picture(cover: Cover) -> bytes:
    return _LATIN_1 + cover.mime.encode("latin-1", "replace") + b"\0" + _FRONT_COVER + b"\0" + cover.data


def _size(size: int) -> bytes:
    # Four bytes of seven bits, so that no MPEG frame seems to begin there.
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
