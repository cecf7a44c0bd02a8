"""Write WAV, and RF64 where a file outgrows the four gigabytes of WAV.

libsndfile stamps floating-point WAV files with the time of day and writes RF64 only if told beforehand; this
one writes the same bytes each time and changes to RF64 when it must.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from auralflow_core.audio.id3 import id3_tag
from auralflow_core.audio.tags import Tags

RIFF_LIMIT = (1 << 32) - 1
_LONG = 0xFFFFFFFF
_PCM, _IEEE_FLOAT = 1, 3
_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4}
_NO_TAGS = Tags()


class WavEncoder:
    """Write samples to an open, empty file.

    Layout: EBU Tech 3306 (RF64), with `JUNK` in the place of its `ds64` chunk while the file is small. Tags follow
    the samples in a chunk called `id3 `, the only one that can hold a cover.
    """

    def __init__(self, file: BinaryIO, sample_rate: int, channels: int, subtype: str, tags: Tags = _NO_TAGS) -> None:
        self._file = file
        self._trailer = _chunk(b"id3 ", id3_tag(tags)) if tags else b""
        self._sample_rate = sample_rate
        self._channels = channels
        self._subtype = subtype
        self._frame_bytes = channels * _BYTES[subtype]
        self._frames = 0
        file.write(self._header())

    def write(self, block: NDArray[np.float32] | NDArray[np.int32]) -> None:
        """Append frames `(time, channel)`: float32 for FLOAT, else integers in int32."""
        self._file.write(_packed(block, self._subtype))
        self._frames += len(block)

    @property
    def data_bytes(self) -> int:
        """Bytes of samples written."""
        return self._frames * self._frame_bytes

    def close(self) -> None:
        """Write the final header; the file stays open."""
        if self.data_bytes % 2:
            self._file.write(b"\0")
        self._file.write(self._trailer)
        self._file.seek(0)
        self._file.write(self._header())

    def _header(self) -> bytes:
        data_bytes = self.data_bytes
        fmt = self._format_chunks()
        riff_bytes = 4 + 36 + len(fmt) + 8 + data_bytes + data_bytes % 2 + len(self._trailer)
        if riff_bytes <= RIFF_LIMIT:
            start = struct.pack("<4sI4s4sI28x", b"RIFF", riff_bytes, b"WAVE", b"JUNK", 28)
            return start + fmt + struct.pack("<4sI", b"data", data_bytes)
        start = struct.pack("<4sI4s4sI", b"RF64", _LONG, b"WAVE", b"ds64", 28)
        sizes = struct.pack("<QQQI", riff_bytes, data_bytes, self._frames, 0)
        return start + sizes + fmt + struct.pack("<4sI", b"data", _LONG)

    def _format_chunks(self) -> bytes:
        is_float = self._subtype == "FLOAT"
        fields = struct.pack(
            "<HHIIHH",
            _IEEE_FLOAT if is_float else _PCM,
            self._channels,
            self._sample_rate,
            min(self._sample_rate * self._frame_bytes, _LONG),
            self._frame_bytes,
            8 * _BYTES[self._subtype],
        )
        if not is_float:
            return struct.pack("<4sI", b"fmt ", len(fields)) + fields
        # All but PCM has an extension size and a fact chunk with the frame count.
        fact = struct.pack("<4sII", b"fact", 4, min(self._frames, _LONG))
        return struct.pack("<4sI", b"fmt ", len(fields) + 2) + fields + b"\0\0" + fact


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack("<4sI", name, len(body)) + body + b"\0" * (len(body) % 2)


def _packed(block: NDArray[np.float32] | NDArray[np.int32], subtype: str) -> bytes:
    if subtype == "PCM_24":
        return np.ascontiguousarray(block, "<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    stored = {"PCM_16": "<i2", "PCM_32": "<i4", "FLOAT": "<f4"}[subtype]
    return block.astype(stored).tobytes()
