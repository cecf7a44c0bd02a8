"""Numbers and bytes as they stand in TensorFlow's files: variable-length integers and protocol buffer messages.

Source: "Encoding", https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT_BYTES = 10


class DamageError(ValueError):
    """Bytes that are not what they should be."""


class Cursor:
    """Reads bytes from the start to the end.

    Raises:
        DamageError: From every method, where the bytes break off.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def left(self) -> int:
        """Number of bytes that were not read yet."""
        return len(self._data) - self._place

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        if count > self.left:
            raise DamageError(f"breaks off: {count} bytes are announced where {self.left} are left")
        self._place += count
        return self._data[self._place - count : self._place]

    def fixed(self, count: int) -> int:
        """Return a little-endian number of so many bytes."""
        return int.from_bytes(self.take(count), "little")

    def varint(self) -> int:
        """Return a number of seven bits a byte, the lowest first; the last byte's high bit is clear."""
        value = 0
        for number in range(_VARINT_BYTES):
            byte = self.fixed(1)
            value |= (byte & 0x7F) << (7 * number)
            if byte < 0x80:
                return value
        raise DamageError(f"holds a number of more than {_VARINT_BYTES} bytes")


def message_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a protocol buffer message as `(number, value)`, in their order.

    Raises:
        DamageError: The bytes are no message.
    """
    cursor = Cursor(data)
    while cursor.left:
        tag = cursor.varint()
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            yield number, cursor.varint()
        elif kind == 1:
            yield number, cursor.fixed(8)
        elif kind == 2:
            yield number, cursor.take(cursor.varint())
        elif kind == 5:
            yield number, cursor.fixed(4)
        else:
            raise DamageError(f"holds a message with a field of unknown kind {kind}")


def number_of(value: int | bytes) -> int:
    """Return a field's value that must be a number."""
    if isinstance(value, bytes):
        raise DamageError("holds a message with bytes where a number is expected")
    return value


def bytes_of(value: int | bytes) -> bytes:
    """Return a field's value that must be bytes."""
    if isinstance(value, int):
        raise DamageError("holds a message with a number where bytes are expected")
    return value
