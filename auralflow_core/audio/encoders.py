"""Encode FLAC, Ogg and MP3 with libsndfile, with every failed write noticed and the same bytes each time."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from auralflow_core.errors import AudioError

_LIBSNDFILE = {"OPUS": "OGG"}  # where libsndfile names the container only
# Each write has this length: libsndfile's Vorbis encoder ends its pages by them, and long ones crash it.
_PIECE_FRAMES = 4096


class _Sink:
    """The file as libsndfile sees it. Its callbacks cannot raise, so the first fault is kept."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.fault: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.fault = self.fault or error
            # As if written: an encoder that is told of a failure may abort the process.
            return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError as error:  # a buffered file writes before it seeks
            self.fault = self.fault or error
            return 0

    def tell(self) -> int:
        return self._file.tell()


class _OutFile(soundfile.SoundFile):  # type: ignore[misc, unused-ignore]
    """A SoundFile that does not seek after each write."""

    def seekable(self) -> bool:
        return False


class SoundFileEncoder:
    """Write samples to an open, empty file through libsndfile.

    Raises:
        AudioError: libsndfile cannot encode.
        OSError: The file cannot be written.
    """

    def __init__(self, file: BinaryIO, format_: str, sample_rate: int, channels: int, subtype: str) -> None:
        self._sink = _Sink(file)
        self._format, self._subtype = format_, subtype
        dtype = np.int32 if subtype.startswith("PCM_") else np.float32
        self._held: NDArray[Any] = np.zeros((0, channels), dtype)
        try:
            self._file = _OutFile(
                self._sink, "w", sample_rate, channels, subtype, format=_LIBSNDFILE.get(format_, format_)
            )
        except soundfile.LibsndfileError as error:
            self._raise_fault(error)

    def write(self, block: NDArray[np.float32] | NDArray[np.int32]) -> None:
        """Append frames `(time, channel)`: integers of the subtype's width in int32, else float32."""
        if self._subtype.startswith("PCM_"):
            # libsndfile takes an integer's upper bits.
            block = np.left_shift(block.astype(np.int32), 32 - int(self._subtype[4:]))
        joined = np.concatenate([self._held, block]).astype(self._held.dtype, copy=False)
        whole = len(joined) - len(joined) % _PIECE_FRAMES
        for start in range(0, whole, _PIECE_FRAMES):
            self._write_piece(joined[start : start + _PIECE_FRAMES])
        self._held = joined[whole:].copy()

    def close(self) -> None:
        """Write what the encoder holds back; the file stays open."""
        try:
            try:
                self._write_piece(self._held)
            finally:
                self._file.close()
        except soundfile.LibsndfileError as error:
            self._raise_fault(error)
        if self._sink.fault is not None:
            self._raise_fault(None)

    def _write_piece(self, piece: NDArray[Any]) -> None:
        expected = self._file.frames + len(piece)
        try:
            self._file.write(piece)
        except (soundfile.LibsndfileError, AssertionError) as error:
            self._raise_fault(error)
        if self._sink.fault is not None or self._file.frames != expected:
            self._raise_fault(None)

    def _raise_fault(self, error: Exception | None) -> None:
        if self._sink.fault is not None:
            raise self._sink.fault
        reason = str(error or "frames were lost").strip().rstrip(".")
        raise AudioError(f"libsndfile cannot encode {self._format}: {reason}; choose WAV") from error


_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def fix_ogg_serial(path: Path) -> None:
    """Give the pages of an Ogg file the serial number 1.

    libsndfile draws it by the clock, which makes two encodings of one signal differ.
    """
    with path.open("r+b") as file:
        while len(header := file.read(27)) == 27:
            lacing = file.read(header[26])
            start = file.tell() - 27 - len(lacing)
            # RFC 3533: bytes 14 to 17 are the serial number, 22 to 25 the checksum, zero in its own sum.
            page = bytearray(header + lacing + file.read(sum(lacing)))
            page[14:18] = (1).to_bytes(4, "little")
            page[22:26] = bytes(4)
            page[22:26] = _ogg_checksum(page).to_bytes(4, "little")
            file.seek(start)
            file.write(page)


def _ogg_checksum(page: bytes | bytearray) -> int:
    """Return the CRC-32 of RFC 3533: zlib's polynomial, bits unreversed, register and output uninverted."""
    register = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{register:032b}"[::-1], 2)
