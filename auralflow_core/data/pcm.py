"""Uncompressed samples in a file, read where they lie: only the bytes of a chunk are touched."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auralflow_core.audio import AudioInfo
from auralflow_core.errors import AudioError

Audio = NDArray[np.float32]

_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4}
_STORED = {"PCM_16": "<i2", "PCM_24": "u1", "PCM_32": "<i4", "FLOAT": "<f4"}


@dataclass(frozen=True)
class PcmSource:
    """A source whose interleaved little-endian samples lie in one piece of a file.

    Attributes:
        path: The file.
        offset: Bytes before the first sample.
        subtype: `PCM_16`, `PCM_24`, `PCM_32` or `FLOAT` (32 bits).
        channels: Samples per frame.
        frames: Length in samples.
    """

    path: Path
    offset: int
    subtype: str
    channels: int
    frames: int

    @property
    def num_bytes(self) -> int:
        """Bytes of all samples."""
        return self.frames * self._frame_bytes

    @property
    def _frame_bytes(self) -> int:
        return self.channels * _BYTES[self.subtype]

    def read(self, start: int, frames: int) -> Audio:
        """Return float32 `(channel, frames)` from sample `start` on.

        Raises:
            AudioError: There are no such samples, or the file is gone.
        """
        if start < 0 or start + frames > self.frames:
            raise AudioError(f"cannot read {self.path} to frame {start + frames}: it has only {self.frames} frames")
        # Read and not mapped: as fast, and a file that is cut short meanwhile is an error, not the end of the process.
        stored = np.dtype(_STORED[self.subtype])
        count = frames * self._frame_bytes // stored.itemsize
        try:
            raw = np.fromfile(self.path, stored, count, offset=self.offset + start * self._frame_bytes)
        except OSError as error:
            raise AudioError(f"cannot read {self.path}: {error.strerror}; start again to have it looked for") from error
        if len(raw) < count:
            raise AudioError(f"cannot read {self.path} to frame {start + frames}: it was cut short; restore it")
        return _planar(raw, self.subtype, self.channels)


def wav_source(info: AudioInfo) -> PcmSource | None:
    """Return a WAV file's samples as a source, or None if they have to be decoded or are no such file's."""
    if info.format not in ("WAV", "WAVEX", "RF64") or info.subtype not in _BYTES:
        return None
    offset = _data_offset(info.path)
    if offset is None:
        return None
    source = PcmSource(info.path, offset, info.subtype, info.channels, info.frames)
    return source if offset + source.num_bytes <= info.path.stat().st_size else None


def _data_offset(path: Path) -> int | None:
    """Return where the samples of a little-endian WAV file begin."""
    with path.open("rb") as file:
        form, _, kind = struct.unpack("<4sI4s", file.read(12).ljust(12))
        if form not in (b"RIFF", b"RF64") or kind != b"WAVE":
            return None
        while len(header := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", header)
            if name == b"data":
                return file.tell()
            file.seek(size + size % 2, 1)
    return None


def _planar(raw: NDArray[np.generic], subtype: str, channels: int) -> Audio:
    """Return stored samples as float32 `(channel, frames)`; integers are divided by their full scale."""
    if subtype == "PCM_24":
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = raw.reshape(-1, 3)
        return _planar(wide.view("<i4").reshape(-1), "PCM_32", channels)
    samples = raw.reshape(-1, channels).T
    if subtype == "FLOAT":
        return np.ascontiguousarray(samples, np.float32)
    scale = np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))
    # `samples` is a transposed view, whose order the result would otherwise keep.
    planar = np.empty(samples.shape, np.float32)
    np.multiply(samples, scale, out=planar, dtype=np.float32, casting="same_kind")
    return planar
