"""Snappy's raw format, in which a table may keep its blocks.

Source: https://github.com/google/snappy/blob/main/format_description.txt.
"""

from __future__ import annotations

from auralflow_spleeter.tensorflow.wire import Cursor, DamageError

_LONGEST_SHORT = 60


def decompress(data: bytes, limit: int) -> bytes:
    """Return the decompressed bytes.

    Raises:
        DamageError: The bytes are not in this format, or announce more than `limit` bytes.
    """
    cursor = Cursor(data)
    size = cursor.varint()
    if size > limit:
        raise DamageError(f"announces a block of {size} bytes, above {limit}")
    out = bytearray()
    while cursor.left and len(out) <= size:
        tag = cursor.fixed(1)
        if tag & 3 == 0:
            out += cursor.take(_literal_length(tag >> 2, cursor))
        else:
            _copy(out, *_copy_place(tag, cursor))
    if len(out) != size or cursor.left:
        raise DamageError(f"a block of {size} bytes decompresses to another size")
    return bytes(out)


def _literal_length(code: int, cursor: Cursor) -> int:
    return code + 1 if code < _LONGEST_SHORT else cursor.fixed(code - _LONGEST_SHORT + 1) + 1


def _copy_place(tag: int, cursor: Cursor) -> tuple[int, int]:
    """Return how far back a copy begins, and its length."""
    if tag & 3 == 1:
        return (tag >> 5) << 8 | cursor.fixed(1), (tag >> 2 & 7) + 4
    return cursor.fixed(2 if tag & 3 == 2 else 4), (tag >> 2) + 1


def _copy(out: bytearray, back: int, length: int) -> None:
    if not 0 < back <= len(out):
        raise DamageError("a block copies from before its start")
    # A copy may run into what it writes: it repeats.
    piece = out[len(out) - back :][:length]
    out += (piece * (length // len(piece) + 1))[:length]
