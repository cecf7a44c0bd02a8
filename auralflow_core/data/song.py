"""A song: its stems on disk, read by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from auralflow_core.audio import audio_info, read_audio
from auralflow_core.errors import DataError, did_you_mean

Audio = NDArray[np.float32]


class Source(Protocol):
    """Audio that is read by position."""

    def read(self, start: int, frames: int) -> Audio:
        """Return float32 `(channel, frames)` from sample `start` on."""
        ...


@dataclass(frozen=True)
class FileSource:
    """A source that is one audio file."""

    path: Path

    def read(self, start: int, frames: int) -> Audio:
        """Return float32 `(channel, frames)` from sample `start` on."""
        audio, _ = read_audio(self.path, start, frames)
        return audio


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
    first = audio_info(paths[0])
    for path in paths[1:]:
        info = audio_info(path)
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
        {stem: FileSource(path) for stem, path in stems.items()},
        FileSource(mixture) if mixture else None,
        first.sample_rate,
        first.channels,
        first.frames,
    )
