"""Uncompressed samples in a file, read where they lie: only the bytes of a chunk are touched."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auralflow_core.audio import AudioInfo
from auralflow_core.errors import AudioError

Audio = NDArray[np.float32]

_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4}
# Frames that are read and converted at once.
_BLOCK_FRAMES = 1 << 15
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
        audio = np.empty((self.channels, frames), np.float32)
        self.read_into(start, audio)
        return audio

    def read_into(self, start: int, audio: Audio) -> None:
        """Fill `audio`, float32 `(channel, frames)`, from sample `start` on.

        Raises:
            AudioError: There are no such samples, or the file is gone.
        """
        frames = audio.shape[1]
        if start < 0 or start + frames > self.frames:
            raise AudioError(f"cannot read {self.path} to frame {start + frames}: it has only {self.frames} frames")
        try:
            # Read and not mapped: as fast where the page is new to the process, nothing of the file counts as the
            # process's memory, and a file that is cut short meanwhile is an error, not the end of the process.
            # Without a buffer of the file's own, which would hold each block's end a second time.
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset + start * self._frame_bytes)
                self._fill(file, audio)
        except OSError as error:
            raise AudioError(f"cannot read {self.path}: {error.strerror}; start again to have it looked for") from error

    def _fill(self, file: FileIO, audio: Audio) -> None:
        """Fill `(channel, frames)` block by block: a block stays in the processor's cache until it is converted."""
        stored = np.dtype(_STORED[self.subtype])
        frames, items = audio.shape[1], self._frame_bytes // stored.itemsize
        raw = np.empty(min(frames, _BLOCK_FRAMES) * items, stored)
        scratch = np.empty(min(frames, _BLOCK_FRAMES), np.int32)
        is_stereo_16 = self.subtype == "PCM_16" and self.channels == 2
        for start in range(0, frames, _BLOCK_FRAMES):
            part = audio[:, start : start + _BLOCK_FRAMES]
            block = raw[: part.shape[1] * items]
            if (file.readinto(block.data) or 0) < block.nbytes:
                raise AudioError(f"cannot read {self.path} to its last frame: it was cut short; restore it")
            if is_stereo_16:
                _split(block.view("<i4"), part, scratch[: part.shape[1]])
            else:
                _convert(block, self.subtype, part)


def wav_source(info: AudioInfo) -> PcmSource | None:
    """Return a WAV file's samples as a source, or None where they have to be decoded or the file is no WAV."""
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


def _split(pairs: NDArray[np.int32], audio: Audio, scratch: NDArray[np.int32]) -> None:
    """Write 16-bit stereo, of which each number holds both samples of a frame, to float32 `(2, frames)`.

    It does what `_convert` does, in three quarters of its time: nothing is transposed. Each sample is the upper half of
    a number of 32 bits, which float32 holds exactly. `pairs` are overwritten.
    """
    audio[0] = np.left_shift(pairs, 16, out=scratch)
    audio[1] = np.bitwise_and(pairs, -(1 << 16), out=pairs)
    audio *= np.float32(2.0**-31)


def _convert(raw: NDArray[np.generic], subtype: str, audio: Audio) -> None:
    """Write stored samples to float32 `(channel, frames)`; integers are divided by their full scale."""
    if subtype == "PCM_24":
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = raw.reshape(-1, 3)
        raw = wide.view("<i4").reshape(-1)
    # Converted in the stored order and transposed last: in one pass numpy would convert sample by sample.
    samples = raw.astype(np.float32)
    if raw.dtype.kind == "i":
        samples *= np.float32(2.0 ** (1 - 8 * raw.dtype.itemsize))
    audio[:] = samples.reshape(-1, len(audio)).T
