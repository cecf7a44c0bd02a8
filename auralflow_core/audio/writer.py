"""Write audio files block by block, under their final name only when they are whole."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from auralflow_core.audio.encoders import SoundFileEncoder
from auralflow_core.audio.formats import check_output, output_format, subtype_for
from auralflow_core.audio.tags import Tags
from auralflow_core.audio.wav import WavEncoder
from auralflow_core.errors import AudioError, AuralflowError
from auralflow_core.files import atomic_file, explain_os_errors


class Encoder(Protocol):
    """Writes frames to a file that is open."""

    def write(self, block: NDArray[Any]) -> None:
        """Append frames `(time, channel)`."""

    def close(self) -> None:
        """Write what is held back and the final header; the file stays open."""


class AudioWriter:
    """An audio file being written; a context manager.

    The file appears at `path`, flushed to the disk, when the `with` block ends without an exception;
    otherwise nothing is left, and what stood there before stays. The same samples give the same bytes, in
    whatever blocks they come.

    Args:
        path: Where the file will be.
        sample_rate: In Hz.
        channels: Samples per frame.
        format: `"WAV"` (RF64 beyond 4 GiB), `"FLAC"`, `"OGG"` (Vorbis), `"OPUS"`, `"MP3"` or, with PyAV, `"M4A"`
            (AAC); in any case; default by suffix.
        subtype: `"PCM_16"`, `"PCM_24"`, `"PCM_32"` or `"FLOAT"`; default by `bit_depth`.
        bit_depth: `"16"`, `"24"`, `"32"` or `"32f"`, see `subtype_for`; default the usual one.
        bitrate: In kbit/s, of the lossy formats: MP3 has it exactly, the others come near it; default the encoder's.
        tags: What the file says of itself; M4A has no room for the cover.

    Attributes:
        frames: Frames written so far.
        clipped: Samples so far beyond [-1, 1], cut to full scale; 0 for FLOAT and lossy formats.

    Raises:
        AudioError: The format cannot hold this rate, channel count, sample type or bit rate.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        channels: int,
        *,
        format: str | None = None,  # noqa: A002
        subtype: str | None = None,
        bit_depth: str | None = None,
        bitrate: int | None = None,
        tags: Tags | None = None,
    ) -> None:
        self.path = Path(path)
        self.sample_rate = sample_rate
        self.channels = channels
        chosen = output_format(self.path, format)
        self.format = chosen.name
        self.subtype = subtype or subtype_for(bit_depth, chosen.name)
        check_output(chosen, sample_rate, channels, self.subtype, bitrate)
        self._bitrate = bitrate
        self._tags = tags or Tags()
        self.frames = 0
        self.clipped = 0
        self._stack = ExitStack()

    def __enter__(self) -> AudioWriter:
        self._stack = ExitStack()
        with ExitStack() as opening:
            self._scratch = opening.enter_context(atomic_file(self.path))
            self._file = opening.enter_context(self._scratch.open("w+b"))
            self._encoder = self._new_encoder(self._file)
            self._stack = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            with self._stack:
                self._finish()
            return
        # The body's own exception is the one to hear about, not what follows from it.
        with suppress(AuralflowError, OSError):
            self._encoder.close()
        with suppress(AuralflowError):
            self._stack.__exit__(kind, error, trace)

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a block `(channel, frames)`.

        Raises:
            AudioError: The block has another number of channels or holds NaN or infinity.
            AuralflowError: The disk is full or otherwise cannot be written.
        """
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise AudioError(f"cannot write shape {block.shape} to {self.path}: expected ({self.channels}, frames)")
        samples = np.ascontiguousarray(block.T, np.float32)
        peak = max(float(samples.max()), -float(samples.min())) if samples.size else 0.0
        if not np.isfinite(peak):
            raise AudioError(
                f"cannot write {self.path}: the signal has NaN or infinite values after frame {self.frames}; "
                "the song has some itself, or the model has diverged"
            )
        if self.subtype.startswith("PCM_"):
            if peak > 1.0:
                self.clipped += int(np.count_nonzero(np.abs(samples) > 1.0))
            self._encode(_rounded(samples, int(self.subtype[4:])))
        else:
            self._encode(samples)
        self.frames += len(samples)

    def _new_encoder(self, file: BinaryIO) -> Encoder:
        rate, channels = self.sample_rate, self.channels
        if self.format == "WAV":
            return WavEncoder(file, rate, channels, self.subtype, self._tags)
        if self.format == "M4A":
            from auralflow_core.audio.pyav_encoder import AacEncoder  # PyAV is an extra

            return AacEncoder(file, rate, channels, self._bitrate, self._tags)
        return SoundFileEncoder(file, self.format, rate, channels, self.subtype, self._bitrate, self._tags)

    def _encode(self, samples: NDArray[np.float32] | NDArray[np.int32]) -> None:
        with explain_os_errors(self.path):
            self._encoder.write(samples)

    def _finish(self) -> None:
        self._encoder.close()
        self._file.close()
        self._check_size()

    def _check_size(self) -> None:
        if self.format != "WAV" and self.frames == 0:
            raise AudioError(f"cannot write {self.path}: {self.format} cannot hold no frames; choose WAV")
        # Network file systems report some faults of writing by nothing but a file that is too short.
        written = self._scratch.stat().st_size
        least = self._encoder.data_bytes if isinstance(self._encoder, WavEncoder) else 1
        if written < least:
            raise AudioError(f"cannot write {self.path}: only {written} of {least} bytes arrived on the disk")


def _rounded(samples: NDArray[np.float32], bits: int) -> NDArray[np.int32]:
    """Return the nearest integers, ties to even, with full scale 2**(bits - 1), cut to what `bits` hold."""
    full_scale = 1 << (bits - 1)
    # A power of two scales exactly; only the upper limit of 32 bits needs more digits than float32 has.
    scaled = np.rint(samples.astype(np.float64 if bits > 24 else np.float32) * full_scale)
    return np.asarray(np.clip(scaled, -full_scale, full_scale - 1), np.int32)
