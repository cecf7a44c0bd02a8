"""Encode FLAC, Ogg and MP3 with libsndfile, with every failed write noticed and the same bytes each time."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from auralflow_core.audio.bitrates import compression_level
from auralflow_core.audio.id3 import id3_tag
from auralflow_core.audio.ogg import OggSink
from auralflow_core.audio.sinks import FlacSink, Sink
from auralflow_core.audio.surround import to_vorbis_order
from auralflow_core.audio.tags import Tags
from auralflow_core.errors import AudioError

_LIBSNDFILE = {"OPUS": "OGG"}  # where libsndfile names the container only
# Each write has this length: libsndfile's Vorbis encoder ends its pages by them, and long ones crash it.
_PIECE_FRAMES = 4096
_NO_TAGS = Tags()


class _OutFile(soundfile.SoundFile):  # type: ignore[misc, unused-ignore]
    """A SoundFile that does not seek after each write."""

    def seekable(self) -> bool:
        return False


class SoundFileEncoder:
    """Write samples to an open, empty file through libsndfile.

    Args:
        file: Where to write.
        format_: Name of the format, `FLAC`, `OGG`, `OPUS` or `MP3`.
        sample_rate: In Hz.
        channels: Samples per frame.
        subtype: The sample type.
        bitrate: In kbit/s; None: the encoder's usual one.
        tags: What the file says of itself.

    Raises:
        AudioError: libsndfile cannot encode.
        OSError: The file cannot be written.
    """

    def __init__(
        self,
        file: BinaryIO,
        format_: str,
        sample_rate: int,
        channels: int,
        subtype: str,
        bitrate: int | None = None,
        tags: Tags = _NO_TAGS,
    ) -> None:
        self._sink = _sink(file, format_, tags)
        self._format, self._subtype = format_, subtype
        options: dict[str, Any] = {}
        if bitrate is not None:
            options["compression_level"] = compression_level(format_, sample_rate, channels, bitrate)
        if bitrate is not None and format_ == "MP3":
            options["bitrate_mode"] = "CONSTANT"
        dtype = np.int32 if subtype.startswith("PCM_") else np.float32
        self._held: NDArray[Any] = np.zeros((0, channels), dtype)
        try:
            self._file = _OutFile(
                self._sink, "w", sample_rate, channels, subtype, format=_LIBSNDFILE.get(format_, format_), **options
            )
        except soundfile.LibsndfileError as error:
            self._raise_fault(error)

    def write(self, block: NDArray[np.float32] | NDArray[np.int32]) -> None:
        """Append frames `(time, channel)`: integers of the subtype's width in int32, else float32."""
        if self._subtype.startswith("PCM_"):
            # libsndfile takes an integer's upper bits.
            block = np.left_shift(block.astype(np.int32), 32 - int(self._subtype[4:]))
        if self._format in ("OGG", "OPUS"):
            block = to_vorbis_order(block)
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


def _sink(file: BinaryIO, format_: str, tags: Tags) -> Sink:
    if format_ in ("OGG", "OPUS"):
        return OggSink(file, tags)
    if format_ == "FLAC" and tags:
        return FlacSink(file, tags)
    if format_ == "MP3":
        file.write(id3_tag(tags))
    return Sink(file)
