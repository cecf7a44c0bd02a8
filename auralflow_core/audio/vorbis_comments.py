"""Vorbis comments and FLAC pictures, for FLAC, Ogg Vorbis and Opus (xiph.org, RFC 9639 sections 8.6 and 8.8)."""

from __future__ import annotations

import base64
import struct

from auralflow_core.audio.tags import Cover, Tags

_FRONT_COVER = 3


def with_comments(original: bytes, tags: Tags, *, picture: bool) -> bytes:
    """Return a list of comments that says what `tags` say.

    Args:
        original: What an encoder wrote; its name is kept.
        tags: The tags.
        picture: Whether the cover is one of the comments, as in Ogg.
    """
    vendor_end = 4 + struct.unpack_from("<I", original)[0]
    comments = [text.encode() for text in _comments(tags)]
    if picture and tags.cover:
        comments.append(b"METADATA_BLOCK_PICTURE=" + base64.b64encode(picture_block(tags.cover)))
    counted = (struct.pack("<I", len(comment)) + comment for comment in comments)
    return original[:vendor_end] + struct.pack("<I", len(comments)) + b"".join(counted)


def picture_block(cover: Cover) -> bytes:
    """Return the body of FLAC's metadata block of a front cover; its size in pixels is not told."""
    mime = cover.mime.encode("ascii", "replace")
    return (
        struct.pack(">II", _FRONT_COVER, len(mime)) + mime + struct.pack(">IIIIII", 0, 0, 0, 0, 0, len(cover.data))
    ) + cover.data


def _comments(tags: Tags) -> list[str]:
    values = {
        "TITLE": tags.title,
        "ARTIST": tags.artist,
        "ALBUM": tags.album,
        "ALBUMARTIST": tags.album_artist,
        "COMPOSER": tags.composer,
        "GENRE": tags.genre,
        "DATE": tags.date,
        "COMMENT": tags.comment,
        "TRACKNUMBER": tags.track,
        "TRACKTOTAL": tags.track_total,
        "DISCNUMBER": tags.disc,
        "DISCTOTAL": tags.disc_total,
    }
    return [f"{name}={value}" for name, value in values.items() if value is not None]
