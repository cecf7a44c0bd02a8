"""Decode MPEG-4, raw AAC and Matroska with PyAV (the extra `auralflow[av]`, which brings its own FFmpeg)."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralflow_core.audio.decoders import damaged, unreadable
from auralflow_core.errors import AudioError

_LONGEST_CODEC_FRAME = 4096


class PyAVDecoder:
    """Decode the first audio stream of a file.

    MPEG-4 names the length of a stream, which the last codec frame overshoots: what is beyond is cut. Other
    containers give what their packets give.

    Raises:
        AudioError: PyAV is missing or cannot read the file.
    """

    seeks_exactly = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._av = _import_av(path)
        self._position = 0
        self._pending: list[NDArray[np.float32]] = []
        try:
            self._container = self._av.open(str(path), metadata_errors="ignore")
        except self._av.error.FFmpegError as error:
            raise unreadable(path, f"it is not audio that FFmpeg knows ({error.strerror})") from error
        try:
            self._open_stream()
        except BaseException:
            self._container.close()
            raise

    def read(self, frames: int) -> NDArray[np.float32]:
        """Return the next frames, `(time, channel)`; fewer than asked only at the end."""
        if self.frames is not None:
            frames = min(frames, self.frames - self._position)
        have = sum(len(part) for part in self._pending)
        while have < frames and (part := next(self._parts, None)) is not None:
            self._pending.append(part)
            have += len(part)
        if have < frames:
            self._pending.append(self._ending(self._position + have))
        joined = np.concatenate([np.zeros((0, self.channels), np.float32), *self._pending])
        self._pending = [joined[frames:]]
        self._position += min(frames, len(joined))
        return joined[:frames]

    def read_stored(self, frames: int) -> NDArray[np.float32]:
        """Return what `read` does: compressed formats hold no integers."""
        return self.read(frames)

    def seek(self, frame: int) -> None:
        """Not supported."""
        raise AssertionError("PyAV decoding is read in order")

    def close(self) -> None:
        """Let the file go."""
        self._parts.close()
        self._container.close()

    def _open_stream(self) -> None:
        if not self._container.streams.audio:
            raise unreadable(self._path, "it has no audio stream")
        self._stream = self._container.streams.audio[0]
        self._parts = self._decode()
        # The header may name half the rate and one channel of two (HE-AAC): the first frame knows.
        first = next(self._parts, None)
        if first is None:
            raise unreadable(self._path, "its audio stream is empty")
        self._pending.append(first)
        self.format = self._container.format.name.split(",")[0].upper()
        self.subtype = self._stream.codec_context.name.upper()
        self.frames = self._promised_frames()

    def _promised_frames(self) -> int | None:
        if self.format != "MOV" or not self._stream.duration:
            return None
        frames: int = round(self._stream.duration * self._stream.time_base * self.sample_rate)
        return frames

    def _decode(self) -> Generator[NDArray[np.float32], None, None]:
        decoded = 0
        try:
            for frame in self._container.decode(self._stream):
                if decoded == 0:
                    self.sample_rate, self.channels = frame.sample_rate, frame.layout.nb_channels
                part = _to_float(frame)
                if part.shape[1] != self.channels or frame.sample_rate != self.sample_rate:
                    raise unreadable(self._path, f"rate or channels change after frame {decoded}")
                decoded += len(part)
                yield part
        except self._av.error.FFmpegError as error:
            raise damaged(self._path, decoded, error.strerror) from error

    def _ending(self, decoded: int) -> NDArray[np.float32]:
        """Return the zeros that an MPEG-4 stream lacks to its promised length; refuse more than rounding."""
        promised, tolerance = self._matroska_frames(), self.sample_rate
        if self.frames is not None:
            promised, tolerance = self.frames, _LONGEST_CODEC_FRAME
        if promised - decoded > tolerance:
            raise damaged(self._path, decoded, f"its header promises {promised}")
        return np.zeros((0 if self.frames is None else promised - decoded, self.channels), np.float32)

    def _matroska_frames(self) -> int:
        # The container's length is that of its longest stream, so a video may outlast the sound.
        if self.format != "MATROSKA" or self._container.streams.video or not self._container.duration:
            return 0
        return int(self._container.duration * self.sample_rate / self._av.time_base)


def _import_av(path: Path) -> Any:
    try:
        import av
    except ImportError as error:
        raise AudioError(
            f"cannot read {path}: its format needs PyAV, which is not installed; "
            "pip install auralflow[av], or convert it to WAV or FLAC"
        ) from error
    return av


def _to_float(frame: Any) -> NDArray[np.float32]:
    """Return a PyAV frame as float32 `(time, channel)`; integers are divided by their full scale."""
    samples = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
    if samples.dtype == np.uint8:
        return np.asarray((samples.astype(np.float32) - 128) / 128, np.float32)
    scale = 1.0 if samples.dtype.kind == "f" else -1.0 / float(np.iinfo(samples.dtype).min)
    return np.asarray(samples * scale, np.float32)
