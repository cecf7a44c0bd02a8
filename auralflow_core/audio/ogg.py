"""Ogg pages (RFC 3533): the same bytes for the same samples, and comments put in."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from auralflow_core.audio.sinks import Sink
from auralflow_core.audio.tags import Tags
from auralflow_core.audio.vorbis_comments import with_comments

_SERIAL = 1
_CONTINUED = 1
_NO_GRANULE = b"\xff" * 8
_MAX_SEGMENTS = 255
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class OggSink(Sink):
    """An Ogg file of one Vorbis or Opus stream whose comments are those of `tags`.

    libsndfile draws the serial number by the clock, which makes two encodings of one signal differ: here it is 1.
    """

    def __init__(self, file: BinaryIO, tags: Tags) -> None:
        super().__init__(file)
        self._tags = tags
        self._waiting = bytearray()
        self._header: list[_Page] | None = []
        self._number = 0
        self._end = 0

    def put(self, data: bytes, position: int) -> None:
        """Take what the encoder writes, which is always at the end."""
        self._waiting += data
        while (page := _Page.taken_from(self._waiting)) is not None:
            self._pass_on(page)

    def _pass_on(self, page: _Page) -> None:
        if self._header is None:
            self._emit(page)
            return
        self._header.append(page)
        packets = _packets(self._header)
        wanted = 2 if packets[0].startswith(b"OpusHead") else 3
        # The samples begin on a page of their own.
        if len(packets) == wanted and page.ends_packet:
            self._emit(self._header[0])
            for header in _pages([_commented(packets[1], self._tags), *packets[2:]]):
                self._emit(header)
            self._header = None

    def _emit(self, page: _Page) -> None:
        data = page.with_number(self._number)
        self._number += 1
        self.write_at(data, self._end)
        self._end += len(data)


class _Page:
    """One page: its flags and granule position, the lengths of its segments and their bytes."""

    def __init__(self, flags: int, granule: bytes, lacing: bytes, body: bytes) -> None:
        self.flags, self.granule, self.lacing, self.body = flags, granule, lacing, body

    @staticmethod
    def taken_from(data: bytearray) -> _Page | None:
        """Take a whole page off the front of `data`."""
        if len(data) < 27 or len(data) < 27 + data[26]:
            return None
        head = 27 + data[26]
        end = head + sum(data[27:head])
        if len(data) < end:
            return None
        page = _Page(data[5], bytes(data[6:14]), bytes(data[27:head]), bytes(data[head:end]))
        del data[:end]
        return page

    @property
    def ends_packet(self) -> bool:
        return self.lacing[-1:] < b"\xff"

    def with_number(self, number: int) -> bytes:
        """Return the page's bytes as page `number` of the stream."""
        head = struct.pack("<4sBB8sII", b"OggS", 0, self.flags, self.granule, _SERIAL, number)
        rest = bytes([len(self.lacing)]) + self.lacing + self.body
        return head + struct.pack("<I", _checksum(head + bytes(4) + rest)) + rest


def _packets(pages: list[_Page]) -> list[bytes]:
    """Return the packets that the pages hold; the last one may go on."""
    packets: list[bytes] = []
    is_open = False
    for page in pages:
        start = 0
        for length in page.lacing:
            part = page.body[start : start + length]
            start += length
            if is_open:
                packets[-1] += part
            else:
                packets.append(part)
            is_open = length == 255
    return packets


def _pages(packets: list[bytes]) -> Iterator[_Page]:
    """Yield pages that hold the packets of a header."""
    lengths = [[255] * (len(packet) // 255) + [len(packet) % 255] for packet in packets]
    lacing = bytes(length for packet in lengths for length in packet)
    body, start, flags = b"".join(packets), 0, 0
    for first in range(0, len(lacing), _MAX_SEGMENTS):
        part = lacing[first : first + _MAX_SEGMENTS]
        end = start + sum(part)
        ends_any = any(length < 255 for length in part)
        yield _Page(flags, bytes(8) if ends_any else _NO_GRANULE, part, body[start:end])
        start, flags = end, 0 if part[-1] < 255 else _CONTINUED


def _commented(packet: bytes, tags: Tags) -> bytes:
    """Return a comment packet with the comments of `tags`; as it is if there are none."""
    if not tags:
        return packet
    name = b"OpusTags" if packet.startswith(b"OpusTags") else b"\3vorbis"
    end = b"" if name == b"OpusTags" else b"\1"
    return name + with_comments(packet[len(name) :], tags, picture=True) + end


def _checksum(page: bytes) -> int:
    """Return the CRC-32 of RFC 3533: zlib's polynomial, bits unreversed, register and output uninverted."""
    register = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{register:032b}"[::-1], 2)
