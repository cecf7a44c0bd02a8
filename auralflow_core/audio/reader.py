"""Read audio files, whole, in part or as a stream of blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from auralflow_core.audio.decoders import Decoder, Samples, open_decoder
from auralflow_core.audio.stdin import STDIN, on_disk
from auralflow_core.errors import AudioError

_COUNT_FRAMES = 1 << 16

_Block = TypeVar("_Block", bound=Samples)


@dataclass(frozen=True)
class AudioInfo:
    """What a file holds: rate in Hz, exact number of frames, container and sample type; `-` is a pipe's path."""

    path: Path
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


def audio_info(path: str | Path) -> AudioInfo:
    """Return what a file holds; where its headers do not say the length, it is decoded to count.

    Raises:
        AudioError: There is no such file, or it is no whole audio file.
    """
    with AudioReader(path) as reader:
        return reader.info


class AudioReader:
    """An audio file or pipe open for reading in order; a context manager.

    Args:
        source: WAV, FLAC, Ogg, MP3 and what else libsndfile reads; with PyAV also MPEG-4, AAC, Matroska and WebM.
            A path; `-`, standard input; or an open binary file. The last two are copied to the disk first.

    Raises:
        AudioError: There is no such file, or it is no whole audio file.
    """

    def __init__(self, source: str | Path | BinaryIO) -> None:
        self._shown = Path(source) if isinstance(source, (str, Path)) else STDIN
        with ExitStack() as opening:
            self._path = opening.enter_context(on_disk(source))
            self._open = opening
            self._first = self._open_decoder()
            self._open = opening.pop_all()
        self._first_is_fresh = True

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go."""
        self._open.close()

    @cached_property
    def info(self) -> AudioInfo:
        """What the file holds. Reading this decodes the file once if its headers do not say the length."""
        head = self._first
        frames = head.frames if head.frames is not None else _count_frames(self._path)
        return AudioInfo(self._shown, head.sample_rate, head.channels, frames, head.format, head.subtype)

    @property
    def sample_rate(self) -> int:
        """Frames per second."""
        return self._first.sample_rate

    @property
    def channels(self) -> int:
        """Samples per frame."""
        return self._first.channels

    def blocks(self, frames: int) -> Iterator[NDArray[np.float32]]:
        """Yield the file from its start in blocks `(channel, frames)`; the last may be shorter.

        Whatever the block size, the blocks joined are the same samples. Each call starts anew.

        Raises:
            AudioError: The file is truncated or damaged, which may show only where it breaks off.
        """
        decoder = self._from_start()
        for block in _blocks(decoder.read, frames):
            yield np.ascontiguousarray(block.T)

    def stored_blocks(self, frames: int) -> Iterator[Samples]:
        """Yield what `blocks` does as decoders give it: `(frames, channel)`, 16-bit integers where it holds these."""
        yield from _blocks(self._from_start().read_stored, frames)

    def _from_start(self) -> Decoder:
        decoder = self._first if self._first_is_fresh else self._open_decoder()
        self._first_is_fresh = False
        return decoder

    def _open_decoder(self) -> Decoder:
        return self._open.enter_context(closing(open_decoder(self._path)))


def _blocks(read: Callable[[int], _Block], frames: int) -> Iterator[_Block]:
    if frames < 1:
        raise AudioError(f"cannot read blocks of {frames} frames: at least 1 is needed")
    while len(block := read(frames)):
        yield block
        if len(block) < frames:
            return


def read_audio(path: str | Path, start: int = 0, frames: int | None = None) -> tuple[NDArray[np.float32], int]:
    """Read a file or a part of it.

    PCM and FLAC are read at the place; from lossy formats, where a seek gives other samples, all before
    `start` is decoded too.

    Args:
        path: An audio file.
        start: The first frame.
        frames: How many frames; default all that follow.

    Returns:
        The samples `(channel, frames)` and the sample rate in Hz.

    Raises:
        AudioError: The file cannot be read or has no such frames.
    """
    path = Path(path)
    if start < 0 or (frames is not None and frames < 0):
        raise AudioError(f"cannot read {frames} frames of {path} from frame {start}: neither may be negative")
    with closing(open_decoder(path)) as decoder:
        if decoder.frames is not None and start + (frames or 0) > decoder.frames:
            raise _beyond_end(path, start, frames, decoder.frames)
        skipped = _skip(decoder, start)
        parts = list(_parts(decoder, frames)) if skipped == start else []
        audio = parts[0] if len(parts) == 1 else np.concatenate([_nothing(decoder), *parts])
        if skipped < start or (frames is not None and len(audio) < frames):
            raise _beyond_end(path, start, frames, skipped + len(audio))
        return np.ascontiguousarray(audio.T), decoder.sample_rate


def _nothing(decoder: Decoder) -> NDArray[np.float32]:
    return np.zeros((0, decoder.channels), np.float32)


def _skip(decoder: Decoder, start: int) -> int:
    """Go to frame `start`, or as far as the file goes; return where that is."""
    if decoder.seeks_exactly and start:
        decoder.seek(start)
        return start
    position = 0
    while position < start:
        wanted = min(_COUNT_FRAMES, start - position)
        position += (got := len(decoder.read(wanted)))
        if got < wanted:
            break
    return position


def _parts(decoder: Decoder, frames: int | None) -> Iterator[NDArray[np.float32]]:
    """Yield what is left, or the next `frames` frames, in parts `(time, channel)`."""
    # A request that the headers confirm is read at once; one of unknown end may be far too large.
    largest = _COUNT_FRAMES if frames is None or decoder.frames is None else frames
    left = frames
    while left is None or left > 0:
        wanted = largest if left is None else min(largest, left)
        part = decoder.read(wanted)
        yield part
        if len(part) < wanted:
            return
        left = None if left is None else left - len(part)


def _count_frames(path: Path) -> int:
    with closing(open_decoder(path)) as decoder:
        return sum(len(part) for part in _parts(decoder, None))


def _beyond_end(path: Path, start: int, frames: int | None, length: int) -> AudioError:
    wanted = "on" if frames is None else f"to {start + frames}"
    return AudioError(f"cannot read {path} from frame {start} {wanted}: it has only {length} frames")
