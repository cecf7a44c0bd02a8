"""Tell from a file's own headers whether bytes are missing at its end.

libsndfile reads what is there and says nothing, so half a download would pass for a short song.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from auralflow_core.audio.mpeg_frames import missing_of_last_frame
from auralflow_core.errors import AudioError

_OGG_PAGE_MAX = 65_307  # 27 bytes of header, 255 lacing values, 255 segments of 255 bytes
_XING_REACH = 2048  # the Xing header lies in the first MPEG frame, which is shorter than this


def check_whole(path: Path) -> None:
    """Refuse a WAV, AIFF, Ogg, MP3 or ADTS file that is shorter than its headers promise.

    Raises:
        AudioError: Bytes are missing.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        missing = _missing_bytes(file, size)
    if missing > 0:
        raise AudioError(
            f"cannot read {path}: it is truncated, {missing} of {size + missing} bytes are missing; "
            "copy or download it again"
        )


def skip_id3(file: BinaryIO) -> int:
    """Set `file` to the first byte after the ID3v2 tags that it starts with; return that position."""
    position = 0
    while True:
        file.seek(position)
        header = file.read(10)
        if len(header) < 10 or header[:3] != b"ID3":
            file.seek(position)
            return position
        # Four bytes of seven bits; bit 4 of the flags announces a footer of ten bytes (ID3v2.4, 3.1).
        a, b, c, d = header[6:10]
        position += 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if header[5] & 0x10 else 0)


def _missing_bytes(file: BinaryIO, size: int) -> int:
    head = file.read(12)
    if head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE":
        return _missing_chunk_bytes(file, size, "<I")
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        return _missing_chunk_bytes(file, size, ">I")
    if head[:4] == b"OggS":
        return _missing_ogg_bytes(file, size)
    return _missing_mpeg_bytes(file, size)


def _missing_chunk_bytes(file: BinaryIO, size: int, length_format: str) -> int:
    position, long_length = 12, None
    while position + 8 <= size:
        file.seek(position)
        name = file.read(4)
        (length,) = struct.unpack(length_format, file.read(4))
        if name == b"ds64":
            long_length = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        if name in (b"data", b"SSND"):
            length = long_length if length == 0xFFFFFFFF and long_length is not None else length
            return 0 if _stands_for_unknown(length) else position + 8 + length - size
        position += 8 + length + length % 2
    return 0


def _stands_for_unknown(length: int) -> bool:
    # What programs write that send WAV down a pipe and cannot come back to fill in the length.
    return 0xFFFFF000 <= length <= 0xFFFFFFFF or 0x7FFFF000 <= length <= 0x7FFFFFFF


def _missing_ogg_bytes(file: BinaryIO, size: int) -> int:
    start = max(0, size - 2 * _OGG_PAGE_MAX)
    file.seek(start)
    tail = file.read()
    page = tail.rfind(b"OggS")
    header, lacing = tail[page : page + 27], tail[page + 27 : page + 27 + 255]
    if len(header) < 27 or len(lacing) < header[26]:
        return 27 - len(header) or header[26] - len(lacing)
    return start + page + 27 + header[26] + sum(lacing[: header[26]]) - size


def is_mpeg_of_unknown_length(path: Path) -> bool:
    """Return whether a file is MP3 without a Xing header that counts its frames."""
    with path.open("rb") as file:
        skip_id3(file)
        first = file.read(_XING_REACH)
    if not _is_mpeg_frame(first):
        return False
    xing = _xing_header(first)
    return xing is None or xing[0] is None


def _missing_mpeg_bytes(file: BinaryIO, size: int) -> int:
    start = skip_id3(file)
    first = file.read(_XING_REACH)
    if not _is_mpeg_frame(first):
        return 0
    xing = _xing_header(first)
    if xing is not None and xing[1] is not None:
        return start + xing[1] - size
    return missing_of_last_frame(file, start)


def _is_mpeg_frame(first: bytes) -> bool:
    return len(first) >= 2 and first[0] == 0xFF and first[1] & 0xE0 == 0xE0


def _xing_header(first: bytes) -> tuple[int | None, int | None] | None:
    """Return the counts of frames and bytes in a first frame's Xing header, each None if not there."""
    at = max(first.find(b"Xing"), first.find(b"Info"))
    if at < 0 or len(first) < at + 16:
        return None
    flags, one, two = struct.unpack_from(">III", first, at + 4)
    frames = one if flags & 1 else None
    length = two if flags & 1 else one
    return frames, length if flags & 2 else None
