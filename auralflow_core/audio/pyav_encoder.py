"""Encode MPEG-4 with PyAV (the extra `auralflow[av]`)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from auralflow_core.audio.bitrates import usual_aac_bitrate
from auralflow_core.audio.tags import Tags
from auralflow_core.errors import AudioError

_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1"}
_PIECE_FRAMES = 1024


class AacEncoder:
    """Write samples to an open, empty file as AAC in MPEG-4, with start and length told to the frame.

    Raises:
        AudioError: FFmpeg cannot encode.
        OSError: The file cannot be written.
    """

    def __init__(self, file: BinaryIO, sample_rate: int, channels: int, bitrate: int | None, tags: Tags) -> None:
        import av  # an extra

        self._av = av
        self._sample_rate = sample_rate
        self._held: NDArray[np.float32] = np.zeros((0, channels), np.float32)
        self._frames = 0
        # The edit list that tells start and length counts in this scale, by default in milliseconds.
        scale = {"movie_timescale": str(sample_rate)}
        self._container: Any = av.open(file, "w", format="ipod", options=scale)
        self._container.metadata.update(_metadata(tags))
        self._stream = self._container.add_stream("aac", rate=sample_rate, layout=_LAYOUTS[channels])
        self._stream.bit_rate = 1000 * (bitrate or usual_aac_bitrate(sample_rate, channels))
        self._layout = _LAYOUTS[channels]

    def write(self, block: NDArray[Any]) -> None:
        """Append frames `(time, channel)`, float32."""
        joined = np.concatenate([self._held, block])
        whole = len(joined) - len(joined) % _PIECE_FRAMES
        for start in range(0, whole, _PIECE_FRAMES):
            self._encode(joined[start : start + _PIECE_FRAMES])
        self._held = joined[whole:].copy()

    def close(self) -> None:
        """Write what the encoder holds back; the file stays open."""
        try:
            if len(self._held):
                self._encode(self._held)
            self._mux(None)
        finally:
            self._call(self._container.close)

    def _encode(self, piece: NDArray[np.float32]) -> None:
        frame = self._av.AudioFrame.from_ndarray(np.ascontiguousarray(piece.T), format="fltp", layout=self._layout)
        frame.sample_rate, frame.time_base, frame.pts = self._sample_rate, Fraction(1, self._sample_rate), self._frames
        self._frames += len(piece)
        self._mux(frame)

    def _mux(self, frame: Any) -> None:
        self._call(lambda: self._container.mux(self._stream.encode(frame)))

    def _call(self, action: Any) -> None:
        try:
            action()
        except self._av.error.FFmpegError as error:
            # PyAV's errors are OSErrors too; those of the disk keep their number.
            if isinstance(error, OSError) and 0 < (error.errno or 0) < 4096:
                raise OSError(error.errno, error.strerror) from error
            raise AudioError(f"FFmpeg cannot encode M4A: {error}; choose WAV") from error


def _metadata(tags: Tags) -> dict[str, str]:
    values = {
        "title": tags.title,
        "artist": tags.artist,
        "album": tags.album,
        "album_artist": tags.album_artist,
        "composer": tags.composer,
        "genre": tags.genre,
        "date": tags.date,
        "comment": tags.comment,
        "track": tags.track_of_total,
        "disc": tags.disc_of_total,
    }
    return {name: value for name, value in values.items() if value}
