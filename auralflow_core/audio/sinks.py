"""Files as libsndfile writes them, with tags put in on the way."""

from __future__ import annotations

import os
from typing import BinaryIO

from auralflow_core.audio.tags import Tags
from auralflow_core.audio.vorbis_comments import picture_block, with_comments

_STREAMINFO_END = 42  # the name of the format, the head of the first block, and its 34 bytes
_COMMENTS, _PICTURE = 4, 6
_LAST = 0x80


class Sink:
    """A file that libsndfile writes to. Its callbacks cannot raise, so the first fault is kept.

    What libsndfile sees begins where the file stands; what stands before is left alone.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.fault: OSError | None = None
        self._file = file
        self._start = self._at = file.tell()
        self._position = self._length = 0

    def write(self, data: bytes) -> int:
        """Take what is written at the present position."""
        try:
            self.put(bytes(data), self._position)
        except OSError as error:
            # As if written: an encoder that is told of a failure may abort the process.
            self.fault = self.fault or error
        self._position += len(data)
        self._length = max(self._length, self._position)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, as libsndfile counts."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        return self._position

    def tell(self) -> int:
        """Return the position, as libsndfile counts."""
        return self._position

    def put(self, data: bytes, position: int) -> None:
        """Take what the encoder writes at `position`."""
        self.write_at(data, position)

    def write_at(self, data: bytes, position: int) -> None:
        """Write to the file, counted from where it stood."""
        # A buffered file that seeks writes out its buffer, so it does only where it must.
        if self._at != self._start + position:
            self._file.seek(self._start + position)
        self._at = -1
        self._file.write(data)
        self._at = self._start + position + len(data)


class FlacSink(Sink):
    """A FLAC file whose comments and picture are those of `tags`.

    The encoder comes back to the first block alone, which keeps its place; all that follows is moved.
    """

    def __init__(self, file: BinaryIO, tags: Tags) -> None:
        super().__init__(file)
        self._tags = tags
        self._head = b""
        self._moved: int | None = None

    def put(self, data: bytes, position: int) -> None:
        """Take what the encoder writes at `position`."""
        if self._moved is not None:
            self.write_at(data, position if position < _STREAMINFO_END else position + self._moved)
            return
        assert position == len(self._head), "libFLAC writes its metadata in order"
        self._head += data
        blocks, end = _metadata_blocks(self._head)
        if end:
            tagged = self._head[:4] + _joined(self._with_tags(blocks))
            self._moved = len(tagged) - end
            self.write_at(tagged + self._head[end:], 0)

    def _with_tags(self, blocks: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        tagged = [
            (kind, with_comments(body, self._tags, picture=False) if kind == _COMMENTS else body)
            for kind, body in blocks
        ]
        return [*tagged, (_PICTURE, picture_block(self._tags.cover))] if self._tags.cover else tagged


def _metadata_blocks(head: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """Return kind and body of each block in the beginning of a FLAC file, and their end; 0 if it is not there yet."""
    blocks, position = [], 4
    while position + 4 <= len(head):
        kind, body_end = head[position], position + 4 + int.from_bytes(head[position + 1 : position + 4], "big")
        if body_end > len(head):
            break
        blocks.append((kind & ~_LAST, head[position + 4 : body_end]))
        position = body_end
        if kind & _LAST:
            return blocks, position
    return blocks, 0


def _joined(blocks: list[tuple[int, bytes]]) -> bytes:
    last = len(blocks) - 1
    return b"".join(
        bytes([kind | (_LAST if number == last else 0)]) + len(body).to_bytes(3, "big") + body
        for number, (kind, body) in enumerate(blocks)
    )
