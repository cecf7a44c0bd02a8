"""Decoders: audio files as streams of interleaved frames, read in order.

libsndfile reads most formats; PyAV, an extra, reads MPEG-4, raw AAC and Matroska.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from auralflow_core.audio.containers import check_whole, is_mpeg_of_unknown_length, skip_id3
from auralflow_core.audio.find import missing_file
from auralflow_core.audio.surround import from_vorbis_order
from auralflow_core.errors import AudioError

_PYAV_SUFFIXES = frozenset({".aac", ".m4a", ".mka", ".mkv", ".mov", ".mp4", ".webm"})
_UNKNOWN_FORMAT = 7  # with which libsndfile says that the file does not exist, though it does
_UNKNOWN_LENGTH = 1 << 62  # libsndfile says 2**63 - 1 where a header has no length


Samples = NDArray[np.float32 | np.int16]
"""Samples as they are stored; of integers 2**15 is what 1 is of the others."""


class Decoder(Protocol):
    """An open audio file. `frames` is None where only decoding can tell."""

    sample_rate: int
    channels: int
    frames: int | None
    format: str
    subtype: str
    seeks_exactly: bool

    def read(self, frames: int) -> NDArray[np.float32]:
        """Return the next frames, `(time, channel)`; fewer than asked only at the end."""

    def read_stored(self, frames: int) -> Samples:
        """Return what `read` does, as 16-bit integers where the file holds these."""

    def seek(self, frame: int) -> None:
        """Continue at `frame`; only where `seeks_exactly`."""

    def close(self) -> None:
        """Let the file go."""


def as_floats(samples: Samples) -> NDArray[np.float32]:
    """Return samples as float32, full scale at 1."""
    scaled = samples * np.float32(2.0**-15) if samples.dtype == np.int16 else samples
    return scaled.astype(np.float32, copy=False)


def open_decoder(path: Path) -> Decoder:
    """Open an audio file with the decoder for its content.

    Raises:
        AudioError: There is no such file, or it is no whole audio file.
    """
    try:
        first = _first_bytes(path)
        check_whole(path)
        if _needs_pyav(path, first):
            from auralflow_core.audio.pyav import PyAVDecoder  # PyAV is an extra

            return PyAVDecoder(path)
        return SoundFileDecoder(path)
    except OSError as error:
        raise AudioError(f"cannot read {path}: {error.strerror}; check the path and permissions") from error


def unreadable(path: Path, reason: str) -> AudioError:
    """Return the error for a file whose content cannot be decoded."""
    return AudioError(
        f"cannot read {path}: {reason.strip().rstrip('.') or 'unknown fault'}; "
        "if it plays elsewhere, convert it to WAV or FLAC first"
    )


def damaged(path: Path, frame: int, reason: str) -> AudioError:
    """Return the error for a file that stops being decodable at `frame`."""
    return AudioError(
        f"cannot read {path}: it is truncated or damaged after frame {frame} ({reason.strip().rstrip('.')}); "
        "copy or download it again"
    )


def _first_bytes(path: Path) -> bytes:
    if not path.exists():
        raise missing_file(path)
    if path.is_dir():
        raise AudioError(f"cannot read {path}: it is a folder, not an audio file; name a file in it")
    with path.open("rb") as file:
        first = file.read(16)
    if not first:
        raise AudioError(f"cannot read {path}: it is an empty file; copy or download it again")
    return first


def _needs_pyav(path: Path, first: bytes) -> bool:
    # By content first: an MPEG-4 file is often called .mp3. ADTS is an MPEG sync word with layer 0.
    is_mpeg4 = first[4:8] == b"ftyp"
    is_matroska = first[:4] == b"\x1aE\xdf\xa3"
    is_adts = len(first) > 1 and first[0] == 0xFF and first[1] & 0xF6 == 0xF0
    return is_mpeg4 or is_matroska or is_adts or path.suffix.casefold() in _PYAV_SUFFIXES


class _InOrderFile(soundfile.SoundFile):  # type: ignore[misc, unused-ignore]
    """A SoundFile that never seeks by itself: after a seek, MP3 and Ogg go on with other samples."""

    def seekable(self) -> bool:
        return False


class SoundFileDecoder:
    """Decode with libsndfile.

    Raises:
        AudioError: libsndfile cannot read the file, or its end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        # Of an MP3 file without a Xing header libsndfile guesses the length, by the file's size and the bit
        # rate of the first frame, and silently stops there.
        self._unmeasured = _UnmeasuredFile(path) if is_mpeg_of_unknown_length(path) else None
        try:
            self._file = _InOrderFile(self._unmeasured or _system_path(path))
        except soundfile.LibsndfileError as error:
            self._close_unmeasured()
            reason = "" if error.code == _UNKNOWN_FORMAT else f" ({error.error_string.strip().rstrip('.')})"
            raise unreadable(path, f"it is not audio that libsndfile knows{reason}") from error
        self.sample_rate = int(self._file.samplerate)
        self.channels = int(self._file.channels)
        self.format, self.subtype = str(self._file.format), str(self._file.subtype)
        self.frames = None if self._file.frames >= _UNKNOWN_LENGTH else int(self._file.frames)
        is_pcm = self.subtype.startswith(("PCM", "FLOAT", "DOUBLE"))
        self.seeks_exactly = is_pcm and self.frames is not None
        if self.format == "FLAC" and self.frames:
            self._probe_end(self.frames)
        if self.format == "OGG" and self.frames == 0:  # where the length is lost libsndfile calls it zero
            self.close()
            raise damaged(path, 0, "its pages do not tell its length")

    def read(self, frames: int) -> NDArray[np.float32]:
        """Return the next frames, `(time, channel)`; fewer than asked only at the end."""
        block = np.asarray(self._read(frames, "float32"), np.float32)
        return from_vorbis_order(block) if self.subtype in ("VORBIS", "OPUS") else block

    def read_stored(self, frames: int) -> Samples:
        """Return what `read` does, as 16-bit integers where the file holds these."""
        return self._read(frames, "int16") if self.subtype == "PCM_16" else self.read(frames)

    def _read(self, frames: int, dtype: str) -> Samples:
        try:
            block: Samples = self._file.read(frames, dtype=dtype, always_2d=True)
        except soundfile.LibsndfileError as error:
            raise damaged(self._path, self._position, error.error_string) from error
        self._position += len(block)
        if len(block) < frames and self.frames is not None and self._position < self.frames:
            raise damaged(self._path, self._position, f"its header promises {self.frames}")
        return block

    def seek(self, frame: int) -> None:
        """Continue at `frame`."""
        assert self.seeks_exactly
        try:
            self._file.seek(frame)
        except soundfile.LibsndfileError as error:
            raise damaged(self._path, self._position, error.error_string) from error
        self._position = frame

    def close(self) -> None:
        """Let the file go."""
        self._file.close()
        self._close_unmeasured()

    def _close_unmeasured(self) -> None:
        if self._unmeasured is not None:
            self._unmeasured.close()

    def _probe_end(self, frames: int) -> None:
        try:
            self._file.seek(frames - 1)
            self._file.read(1)
            self._file.seek(0)
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"cannot read {self._path}: it is truncated or damaged, the last of the {frames} frames that "
                "its header promises cannot be read; copy or download it again"
            ) from error


class _UnmeasuredFile:
    """An MP3 file as libsndfile shall see it: without its tags, and of a size that cannot be told.

    Seeks to the end do nothing, so libsndfile finds no size to guess by, and counts the frames.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._start = skip_id3(self._file)

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET:
            self._file.seek(self._start + offset)
        elif whence == os.SEEK_CUR:
            self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return self._file.tell() - self._start

    def close(self) -> None:
        self._file.close()


def _system_path(path: Path) -> str | bytes:
    # soundfile encodes names strictly and so refuses a name that is not valid UTF-8; bytes pass as they are.
    return str(path) if os.name == "nt" else os.fsencode(path)
