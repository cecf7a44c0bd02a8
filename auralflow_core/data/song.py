"""A song: its stems on disk, read by position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from auralflow_core.audio import (
    AudioInfo,
    AudioReader,
    Samples,
    audio_info,
    can_match_channels,
    match_channels,
    read_audio,
)
from auralflow_core.data.pcm import Audio as Audio
from auralflow_core.data.pcm import PcmSource, wav_source
from auralflow_core.errors import DataError, did_you_mean

_BLOCK_FRAMES = 1 << 15


class Source(Protocol):
    """Audio that is read by position."""

    def read(self, start: int, frames: int) -> Audio:
        """Return float32 `(channel, frames)` from sample `start` on."""
        ...


@dataclass(frozen=True)
class FileSource:
    """A source that is one audio file of any format.

    Attributes:
        path: The file.
        decoding: Which stream of it, where it is compressed and slow to read by position (see `data.cache`).
    """

    path: Path
    decoding: str = ""

    def read(self, start: int, frames: int) -> Audio:
        """Return float32 `(channel, frames)` from sample `start` on."""
        audio, _ = read_audio(self.path, start, frames)
        return audio

    def blocks(self) -> Iterator[Samples]:
        """Yield the whole file in blocks `(channel, frames)`, as it holds them."""
        with AudioReader(self.path) as reader:
            yield from (block.T for block in reader.stored_blocks(_BLOCK_FRAMES))


@dataclass(frozen=True)
class WidenedSource:
    """A mono file among wider ones, as copies of its channel; if it is compressed, the cache keeps it so."""

    source: Source
    path: Path
    channels: int

    @property
    def decoding(self) -> str:
        """What besides the file decides on the samples, where it is compressed."""
        inner = getattr(self.source, "decoding", "")
        return f"{inner}, {self.channels} channels" if inner else ""

    def read(self, start: int, frames: int) -> Audio:
        """Return float32 `(channel, frames)` from sample `start` on."""
        return match_channels(self.source.read(start, frames), self.channels)

    def blocks(self) -> Iterator[Samples]:
        """Yield the whole file in blocks `(channel, frames)`, as it holds them."""
        for block in FileSource(self.path).blocks():
            yield match_channels(block, self.channels)


@dataclass(frozen=True)
class SumSource:
    """Several sources that are one stem together: what is read is their sum."""

    parts: tuple[Source, ...]

    def read(self, start: int, frames: int) -> Audio:
        """Return float32 `(channel, frames)` from sample `start` on."""
        return np.asarray(sum(part.read(start, frames) for part in self.parts), np.float32)


class Root(NamedTuple):
    """One of several data sets that a model is trained with.

    Attributes:
        name: Unique among them.
        weight: Its share of the chunks, against the others; none: its songs count like all others.
    """

    name: str = ""
    weight: float | None = None


NO_ROOT = Root()


@dataclass(frozen=True)
class Song:
    """A song with aligned stems of one length, rate and channel count.

    Attributes:
        name: Unique within its split.
        stems: The stems by name.
        mixture: The song's own mixture; without one it is the sum of the stems.
        sample_rate: In Hz.
        channels: Of the mixture and every stem.
        frames: Length in samples.
        weight: How often training draws it, against the other songs of its root; 0: never.
        root: Where it comes from.
    """

    name: str
    stems: Mapping[str, Source]
    mixture: Source | None
    sample_rate: int
    channels: int
    frames: int
    weight: float = 1.0
    root: Root = NO_ROOT

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate

    @property
    def is_loose(self) -> bool:
        """Whether it is a file of one stem that belongs to no song."""
        return len(self.stems) == 1 and self.mixture is None

    @property
    def sources(self) -> list[Source]:
        """All sources, the mixture's last; of a sum its parts."""
        whole = [*self.stems.values(), *([self.mixture] if self.mixture is not None else [])]
        return [part for source in whole for part in (source.parts if isinstance(source, SumSource) else (source,))]

    def read_stems(self, names: list[str], start: int = 0, frames: int | None = None) -> Audio:
        """Return the named stems as float32 `(stem, channel, frames)`, which is the caller's own."""
        frames = self.frames - start if frames is None else frames
        audio = np.empty((len(names), self.channels, frames), np.float32)
        for name, stem in zip(names, audio, strict=True):
            _read_into(self.stems[name], start, stem)
        return audio

    def read_mixture(self, start: int = 0, frames: int | None = None) -> Audio:
        """Return the mixture as float32 `(channel, frames)`, which is the caller's own."""
        frames = self.frames - start if frames is None else frames
        if self.mixture is None:
            return np.asarray(self.read_stems(list(self.stems), start, frames).sum(axis=0), dtype=np.float32)
        audio = np.empty((self.channels, frames), np.float32)
        _read_into(self.mixture, start, audio)
        return audio

    def require(self, targets: list[str]) -> None:
        """Check that the song has every target.

        Raises:
            DataError: Names the song, the missing stem and the stems it has.
        """
        for target in targets:
            if target not in self.stems:
                raise DataError(
                    f"song {self.name!r} has no stem {target!r}{did_you_mean(target, self.stems)} "
                    f"(it has {', '.join(self.stems) or 'none'}); add the file or change `targets`"
                )


def _read_into(source: Source, start: int, audio: Audio) -> None:
    """Fill `(channel, frames)`, without a copy where the source can."""
    if isinstance(source, PcmSource):
        source.read_into(start, audio)
    else:
        audio[:] = source.read(start, audio.shape[1])


def song_from_files(name: str, stems: Mapping[str, Path | Sequence[Path]], mixture: Path | None) -> Song:
    """Make a song of audio files, after checking that they belong together.

    Among files of several channels one may have a single channel, which stands for all of them.

    Args:
        name: Unique within its split.
        stems: The file of each stem, or several whose sum it is.
        mixture: The file of the mixture; without one it is the sum of the stems.

    Raises:
        DataError: Stems differ in rate, length or channel count.
        AudioError: A file is no audio.
    """
    files = {stem: (paths,) if isinstance(paths, Path) else tuple(paths) for stem, paths in stems.items()}
    paths = [*chain.from_iterable(files.values()), *([mixture] if mixture else [])]
    infos = {path: audio_info(path) for path in paths}
    first = infos[paths[0]]
    widest = max(infos.values(), key=lambda info: info.channels)
    for info in infos.values():
        _check_same(name, info, first, "sample_rate", "Hz")
        _check_same(name, info, first, "frames", "samples")
        if info.channels > 1:
            _check_same(name, info, widest, "channels", "channels")
    if first.frames == 0:
        raise DataError(f"song {name!r}: its files hold no samples; remove the folder {paths[0].parent}")
    sources = {path: widened(_file_source(info), info.channels, widest.channels) for path, info in infos.items()}
    return Song(
        name,
        {stem: _sum([sources[path] for path in parts]) for stem, parts in files.items()},
        sources[mixture] if mixture else None,
        first.sample_rate,
        widest.channels,
        first.frames,
    )


def check_convertible(songs: Sequence[Song], channels: int) -> None:
    """Refuse songs whose channels cannot become `channels`.

    Raises:
        DataError: It names the first such song.
    """
    for song in songs:
        if not can_match_channels(song.channels, channels):
            raise DataError(
                f"song {song.name!r} has {song.channels} channels, which cannot become {channels}; mix it down to "
                "stereo, leave such songs out with --other_channels discard, or train with --num_channels 1, the mean "
                "of all"
            )


def _check_same(name: str, info: AudioInfo, other: AudioInfo, fact: str, unit: str) -> None:
    value, expected = getattr(info, fact), getattr(other, fact)
    if value != expected:
        raise DataError(
            f"song {name!r}: {info.path.name} has {value} {unit} but {other.path.name} has {expected} {unit}; "
            f"export the stems again from one project, or remove the song's folder {info.path.parent}"
        )


def _sum(sources: list[Source]) -> Source:
    return sources[0] if len(sources) == 1 else SumSource(tuple(sources))


def widened(source: Source, have: int, channels: int) -> Source:
    """Return the source of a file with `have` channels as one with `channels`."""
    if have == channels:
        return source
    assert isinstance(source, FileSource | PcmSource)
    return WidenedSource(source, source.path, channels)


def _file_source(info: AudioInfo) -> Source:
    """Return a file as a source that is read where it lies, or else knows whether it is compressed."""
    is_plain = info.format != "FLAC" and info.subtype.startswith(("PCM", "FLOAT", "DOUBLE"))
    return wav_source(info) or FileSource(info.path, "" if is_plain else "first stream")
