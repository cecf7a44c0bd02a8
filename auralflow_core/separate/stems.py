"""The stems of one song, written block by block and made to fit the range of their format together."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from auralflow_core.audio import AudioWriter, Limiter, Tags, check_writable, read_tags, subtype_for
from auralflow_core.files import explain_os_errors
from auralflow_core.separate.pipeline import threads

Audio = NDArray[np.float32]
Clip = Literal["rescale", "limit", "clamp"]

_FLOAT_BYTES = 4
_COPY_FRAMES = 1 << 16


@dataclass(frozen=True)
class StemFormat:
    """How stems are stored.

    Attributes:
        format: `wav`, `flac`, `ogg`, `opus`, `mp3` or `m4a`.
        bit_depth: `16`, `24`, `32` or `32f`; none given: 16 where the format has a depth.
        bitrate: In kbit/s, of the formats that have one.
        clip: What is done where a stem goes beyond full scale: `rescale` multiplies all stems of the song by one
            factor, so that they stay in proportion; `limit` turns the stem down around the place; `clamp` cuts.
        tags: Whether tags and cover of the song are copied.
    """

    format: str = "wav"
    bit_depth: str | None = None
    bitrate: int | None = None
    clip: Clip = "rescale"
    tags: bool = True

    @property
    def subtype(self) -> str:
        """The sample type, as `AudioWriter` names it."""
        return subtype_for(self.bit_depth, self.format)

    @property
    def is_float(self) -> bool:
        """Whether samples beyond full scale can be stored."""
        return self.subtype == "FLOAT"

    @property
    def needs_scratch(self) -> bool:
        """Whether all of a song must be known before its first sample can be stored."""
        return self.clip == "rescale" and not self.is_float

    def check(self, sample_rate: int, channels: int) -> None:
        """Refuse what the format cannot hold.

        Raises:
            AudioError: With the value, the limit and what to choose instead.
        """
        check_writable(self.format, sample_rate, channels, self.bit_depth, self.bitrate)


class StemWriters:
    """The files of a song's stems; a context manager.

    They appear when the `with` block ends without an exception; otherwise nothing is left.

    Args:
        outputs: The file of each stem.
        source: The song, whose tags are copied.
        sample_rate: In Hz.
        channels: Samples per frame.
        format: How the stems are stored.

    Attributes:
        gain: The factor that all stems were multiplied by; known at the end.
        clipped: Samples that were cut to full scale; known at the end.

    Raises:
        AudioError: The format cannot hold this rate or channel count.
    """

    def __init__(
        self,
        outputs: Mapping[str, Path],
        source: Path,
        sample_rate: int,
        channels: int,
        format: StemFormat,  # noqa: A002
    ) -> None:
        tags = read_tags(source) if format.tags else Tags()
        self._files = {
            stem: AudioWriter(
                path,
                sample_rate,
                channels,
                format=format.format,
                bit_depth=format.bit_depth,
                bitrate=format.bitrate,
                tags=tags.for_stem(stem),
            )
            for stem, path in outputs.items()
        }
        self._limiters = {
            stem: Limiter(channels, sample_rate) for stem in outputs if format.clip == "limit" and not format.is_float
        }
        self._needs_scratch = format.needs_scratch
        self._scratch: dict[str, IO[bytes]] = {}
        self._peak = 0.0
        self.gain = 1.0

    @property
    def clipped(self) -> int:
        """Samples that were cut to full scale."""
        return sum(file.clipped for file in self._files.values())

    def __enter__(self) -> StemWriters:
        with ExitStack() as opening:
            for stem, file in self._files.items():
                if self._needs_scratch:
                    self._scratch[stem] = opening.enter_context(_nameless_file(file.path))
                opening.enter_context(file)
            self._stack = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            for stem, limiter in self._limiters.items():
                file = self._files[stem]
                file.write(limiter.process(np.zeros((file.channels, 0), np.float32), last=True))
            if self._needs_scratch:
                self._rescale()

    def write(self, stems: Mapping[str, Audio]) -> None:
        """Append a block `(channel, frames)` of each stem."""
        for stem, block in stems.items():
            peak = float(np.abs(block).max(initial=0))
            # What is not finite goes straight to the writer, which refuses it.
            if self._needs_scratch and np.isfinite(peak):
                self._peak = max(self._peak, peak)
                with explain_os_errors(self._files[stem].path):
                    self._scratch[stem].write(block.astype("<f4").T.tobytes())
            elif stem in self._limiters and np.isfinite(peak):
                self._files[stem].write(self._limiters[stem].process(block))
            else:
                self._files[stem].write(block)

    def _rescale(self) -> None:
        """Copy the scratch files to the stems; each is encoded in a thread of its own."""
        self.gain = 1.0 / max(1.0, self._peak)
        with threads(os.cpu_count() or 1, "encode") as pool:
            for copied in [pool.submit(self._copy, stem) for stem in self._files]:
                copied.result()

    def _copy(self, stem: str) -> None:
        # Divided, so that the peak becomes full scale exactly.
        divisor = np.float32(max(1.0, self._peak))
        file = self._files[stem]
        with explain_os_errors(file.path):
            for block in _blocks(self._scratch[stem], file.channels):
                file.write(block / divisor)


@contextmanager
def _nameless_file(beside: Path) -> Iterator[IO[bytes]]:
    """Give a file on the same disk that has no name, so that it is gone however the process ends."""
    folder = next(parent for parent in beside.parents if parent.is_dir())
    with explain_os_errors(beside):
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed below
    try:
        yield file
    finally:
        # A full disk has been noticed before, and would be once more.
        with suppress(OSError):
            file.close()


def _blocks(file: IO[bytes], channels: int) -> Iterator[Audio]:
    file.seek(0)
    while data := file.read(_COPY_FRAMES * channels * _FLOAT_BYTES):
        yield np.frombuffer(data, "<f4").reshape(-1, channels).T
