"""A song: its stems on disk, read by position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from auralflow_core.audio import AudioInfo, AudioReader, audio_info, read_audio
from auralflow_core.data.pcm import Audio as Audio
from auralflow_core.data.pcm import wav_source
from auralflow_core.errors import DataError, did_you_mean

_BLOCK_FRAMES = 1 << 18


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

    def blocks(self) -> Iterator[Audio]:
        """Yield the whole file in blocks, float32 `(channel, frames)`."""
        with AudioReader(self.path) as reader:
            yield from reader.blocks(_BLOCK_FRAMES)


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
    """

    name: str
    stems: Mapping[str, Source]
    mixture: Source | None
    sample_rate: int
    channels: int
    frames: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate

    def read_stems(self, names: list[str], start: int = 0, frames: int | None = None) -> Audio:
        """Return the named stems as float32 `(stem, channel, frames)`."""
        frames = self.frames - start if frames is None else frames
        return np.stack([self.stems[name].read(start, frames) for name in names])

    def read_mixture(self, start: int = 0, frames: int | None = None) -> Audio:
        """Return the mixture as float32 `(channel, frames)`."""
        frames = self.frames - start if frames is None else frames
        if self.mixture is not None:
            return self.mixture.read(start, frames)
        return np.asarray(self.read_stems(list(self.stems), start, frames).sum(axis=0), dtype=np.float32)

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


def song_from_files(name: str, stems: Mapping[str, Path], mixture: Path | None) -> Song:
    """Make a song of audio files, after checking that they belong together.

    Raises:
        DataError: Stems differ in rate, length or channel count.
        AudioError: A file is no audio.
    """
    paths = [*stems.values(), *([mixture] if mixture else [])]
    infos = {path: audio_info(path) for path in paths}
    first = infos[paths[0]]
    for path, info in infos.items():
        for what, unit in (("sample_rate", " Hz"), ("frames", " samples"), ("channels", " channels")):
            value, expected = getattr(info, what), getattr(first, what)
            if value != expected:
                raise DataError(
                    f"song {name!r}: {path.name} has {value}{unit} but {paths[0].name} has {expected}{unit}; "
                    f"export the stems again from one project, or remove the song's folder {path.parent}"
                )
    if first.frames == 0:
        raise DataError(f"song {name!r}: its files hold no samples; remove the folder {paths[0].parent}")
    return Song(
        name,
        {stem: _file_source(infos[path]) for stem, path in stems.items()},
        _file_source(infos[mixture]) if mixture else None,
        first.sample_rate,
        first.channels,
        first.frames,
    )


def _file_source(info: AudioInfo) -> Source:
    """Return a file as a source that is read where it lies, or else knows whether it is compressed."""
    is_plain = info.format != "FLAC" and info.subtype.startswith(("PCM", "FLOAT", "DOUBLE"))
    return wav_source(info) or FileSource(info.path, "" if is_plain else "first stream")
