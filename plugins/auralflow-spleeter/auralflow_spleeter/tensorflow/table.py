"""Sorted tables of keys and values, as LevelDB lays them out: the index file of a tensor bundle.

A table is a row of blocks, an index block of their places, and a footer. A block's keys are prefix-compressed, and a
byte for its compression and a masked CRC-32C follow it.

Source: https://github.com/google/leveldb/blob/main/doc/table_format.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from auralflow_spleeter.tensorflow.crc32c import masked_crc32c
from auralflow_spleeter.tensorflow.snappy import decompress
from auralflow_spleeter.tensorflow.wire import Cursor, DamageError

_FOOTER_BYTES = 48
_MAGIC = 0xDB4775248B80FB57

# Far above what a checkpoint needs (those of Spleeter hold some hundred names in 20 kB): a damaged or hostile file
# shall not make its reader work or allocate at will.
MOST_BYTES = 1 << 24
_MOST_ENTRIES = 50_000
_MOST_KEY_BYTES = 1024
_MOST_BLOCK_BYTES = 1 << 22
_MOST_UNPACKED_BYTES = 1 << 26


def read_table(data: bytes) -> dict[bytes, bytes]:
    """Return all entries of a table, sorted by key.

    Raises:
        DamageError: The bytes are no whole table.
    """
    if len(data) < _FOOTER_BYTES:
        raise DamageError(f"has {len(data)} bytes and no footer")
    footer = Cursor(data[-_FOOTER_BYTES:])
    _, _, place, size = (footer.varint() for _ in range(4))
    if int.from_bytes(data[-8:], "little") != _MAGIC:
        raise DamageError("does not end as a table does")
    table: dict[bytes, bytes] = {}
    last: bytes | None = None
    left = _MOST_UNPACKED_BYTES
    for _, handle in _entries(_block(data, place, size)):
        cursor = Cursor(handle)
        place, size = cursor.varint(), cursor.varint()
        block = _block(data, place, size)
        # An index may lead to one block again and again, and that one may be without entries.
        left -= size + len(block)
        if left < 0:
            raise DamageError(f"its blocks have more than {_MOST_UNPACKED_BYTES} bytes together")
        for key, value in _entries(block):
            if last is not None and key <= last:
                raise DamageError("its keys are not in order")
            if len(table) == _MOST_ENTRIES:
                raise DamageError(f"has more than {_MOST_ENTRIES} entries")
            table[key] = value
            last = key
    return table


def _block(data: bytes, place: int, size: int) -> bytes:
    """Return a block's contents, checked and decompressed."""
    if place + size + 5 > len(data):
        raise DamageError(f"breaks off: a block ends at byte {place + size + 5} of {len(data)}")
    stored = data[place : place + size + 1]
    if masked_crc32c(stored) != int.from_bytes(data[place + size + 1 : place + size + 5], "little"):
        raise DamageError("the checksum of a block is wrong")
    contents, compression = stored[:-1], stored[-1]
    if compression > 1:
        raise DamageError(f"a block has an unknown compression ({compression})")
    return decompress(contents, _MOST_BLOCK_BYTES) if compression else contents


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise DamageError("a block is shorter than its list of restarts")
    cursor = Cursor(block[:end])
    key = b""
    while cursor.left:
        shared, added, length = cursor.varint(), cursor.varint(), cursor.varint()
        if shared > len(key) or shared + added > _MOST_KEY_BYTES:
            raise DamageError("a key is too long, or shares more than the last one has")
        key = key[:shared] + cursor.take(added)
        yield key, cursor.take(length)
