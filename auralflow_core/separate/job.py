"""A song to separate: which files it becomes, about how much room they take, and its record in the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from auralflow_core.audio import AudioInfo
from auralflow_core.separate.report import FAILED, WAITING, Output, SongRecord, sha256_of, song_key
from auralflow_core.separate.song import Options

_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4}
_FLOAT_BYTES = 4
# FLAC makes most music smaller than this; Ogg and Opus take about so many bits a second of a channel.
_FLAC_SHARE = 0.75
_LOSSY_BITS = 128_000


@dataclass(frozen=True)
class Job:
    """A song to separate.

    Attributes:
        source: The song, as it is called.
        file: Where it is read.
        folder: Where the report lies, above all stems.
        outputs: The files of its stems, by stem.
        options: What is written.
        recipe: Key of all the settings in the report.
        info: What the song holds; None where it cannot be read.
        fault: Why it cannot be separated, as far as known beforehand.
    """

    source: Path
    file: Path
    folder: Path
    outputs: Mapping[str, Path]
    options: Options
    recipe: str
    info: AudioInfo | None = None
    fault: str | None = None

    @property
    def duration(self) -> float:
        """Seconds to separate, as far as known."""
        if self.info is None or self.fault is not None:
            return 0.0
        rest = max(0.0, self.info.duration - self.options.start)
        return rest if self.options.duration is None else min(rest, self.options.duration)

    @property
    def bytes(self) -> int:
        """About how much room the stems take."""
        return round(len(self.outputs) * self.duration * self._bytes_per_second())

    @property
    def scratch_bytes(self) -> int:
        """How much room the scratch files take while the song is separated."""
        if self.info is None or not self.options.format.needs_scratch:
            return 0
        return round(len(self.outputs) * self.duration * self.info.sample_rate * self.info.channels * _FLOAT_BYTES)

    def _bytes_per_second(self) -> float:
        if self.info is None:
            return 0.0
        stored = self.options.format
        if stored.subtype not in _BYTES:
            return (stored.bitrate * 1000 if stored.bitrate else self.info.channels * _LOSSY_BITS) / 8
        share = _FLAC_SHARE if stored.format == "flac" else 1.0
        return self.info.sample_rate * self.info.channels * _BYTES[stored.subtype] * share

    def waiting(self) -> SongRecord:
        """Return the record of the job before it is done."""
        outputs = (Output(stem, self._relative(path), 0, "") for stem, path in self.outputs.items())
        return SongRecord(song_key(self.source), WAITING, self.recipe, tuple(outputs))

    def failed(self, error: str, trace: str | None = None) -> SongRecord:
        """Return the record of the job if it fails."""
        return SongRecord(song_key(self.source), FAILED, self.recipe, error=error, traceback=trace)

    def written(self) -> tuple[Output, ...]:
        """Return the facts of the files that were written."""
        return tuple(
            Output(stem, self._relative(path), path.stat().st_size, sha256_of(path))
            for stem, path in self.outputs.items()
        )

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


@dataclass(frozen=True)
class Outcome:
    """What became of a job, and whether the disk is full."""

    record: SongRecord
    disk_is_full: bool = False
