"""One song: read, separate, write its stems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auralflow_core.audio import AudioReader, AudioWriter, subtype_for
from auralflow_core.errors import AudioError, did_you_mean
from auralflow_core.separate.engine import Separator

Audio = NDArray[np.float32]

RESIDUAL = "residual"
_BLOCK_FRAMES = 1 << 16


@dataclass(frozen=True)
class Options:
    """What is written of a song.

    Attributes:
        stems: The targets to write; none given: all.
        residual: Whether to write what is left of the mixture without the model's targets.
        duration: Seconds from the start to separate; none given: all.
        format: `wav` or `flac`.
        bit_depth: `16`, `24` or `32f`.
    """

    stems: tuple[str, ...] = ()
    residual: bool = False
    duration: float | None = None
    format: str = "wav"
    bit_depth: str = "16"


@dataclass(frozen=True)
class SongReport:
    """What became of a song: its stems, its length in seconds, and samples that were clipped."""

    source: Path
    outputs: tuple[Path, ...]
    seconds: float
    clipped: int


def plan_outputs(songs: Iterable[Path], root: Path, roots: Iterable[Path] = ()) -> dict[Path, Path]:
    """Return the folder that each song's stems go to: `root/<song>/`, below the folders that were walked.

    No two songs share a folder, on file systems that fold case too: songs that differ in their suffix alone keep it
    in the folder's name, and what is alike even then is numbered.
    """
    walked = [folder for folder in roots if folder.is_dir()]
    inside = {song: _relative(song, walked) for song in songs}
    short = Counter(_folded(path.with_suffix("")) for path in inside.values())
    plan: dict[Path, Path] = {}
    taken: set[str] = set()
    for song, path in inside.items():
        name = path if short[_folded(path.with_suffix(""))] > 1 else path.with_suffix("")
        folder, number = name, 1
        while _folded(folder) in taken:
            number += 1
            folder = name.with_name(f"{name.name} ({number})")
        taken.add(_folded(folder))
        plan[song] = root / folder
    return plan


def _folded(path: Path) -> str:
    return str(path).casefold()


def separate_song(
    separator: Separator,
    source: Path,
    folder: Path,
    options: Options,
    progress: Callable[[float], None] | None = None,
) -> SongReport:
    """Separate a file into `folder/<stem>.<format>`, at its own rate, channel count and length.

    The stems appear together, when all are whole.

    Args:
        separator: The separator.
        source: An audio file.
        folder: The folder of its stems.
        options: What to write.
        progress: Called with the seconds done so far.

    Raises:
        AudioError: The file is no audio, or a stem's name is unknown.
    """
    names = wanted_stems(separator.model.targets, options)
    with AudioReader(source) as reader, ExitStack() as writers:
        info = reader.info
        frames = info.frames
        if options.duration is not None:
            frames = min(frames, round(options.duration * info.sample_rate))
        if frames == 0:
            raise AudioError(f"{source}: holds no samples to separate; leave it out")
        subtype = subtype_for(options.bit_depth, options.format)
        files = {
            name: writers.enter_context(
                AudioWriter(
                    folder / f"{name}.{options.format}",
                    info.sample_rate,
                    info.channels,
                    format=options.format.upper(),
                    subtype=subtype,
                )
            )
            for name in names
        }
        mixture = _Kept(_first(reader.blocks(_BLOCK_FRAMES), frames), keep=RESIDUAL in names)
        done = 0
        for estimates in separator.stream(mixture, info.channels, info.sample_rate):
            stems = dict(zip(separator.model.targets, estimates, strict=True))
            if mixture.keep:
                stems[RESIDUAL] = mixture.take(estimates.shape[-1]) - estimates.sum(axis=0)
            for name, writer in files.items():
                writer.write(stems[name])
            done += estimates.shape[-1]
            if progress:
                progress(done / info.sample_rate)
    clipped = sum(writer.clipped for writer in files.values())
    outputs = tuple(writer.path for writer in files.values())
    return SongReport(source, outputs, frames / info.sample_rate, clipped)


class _Kept:
    """Blocks that pass, kept until they are taken again."""

    def __init__(self, blocks: Iterable[Audio], *, keep: bool) -> None:
        self.keep = keep
        self._blocks = blocks
        self._kept: list[Audio] = []

    def __iter__(self) -> Iterator[Audio]:
        for block in self._blocks:
            if self.keep:
                self._kept.append(block)
            yield block

    def take(self, frames: int) -> Audio:
        """Return the oldest frames that were not taken yet."""
        joined = np.concatenate(self._kept, axis=1)
        self._kept = [joined[:, frames:]]
        return joined[:, :frames]


def _first(blocks: Iterable[Audio], frames: int) -> Iterator[Audio]:
    """Yield blocks up to a number of frames."""
    left = frames
    for block in blocks:
        yield block[:, :left]
        left -= block.shape[1]
        if left <= 0:
            return


def wanted_stems(targets: list[str], options: Options) -> list[str]:
    """Return the names of the stems to write.

    Raises:
        AudioError: The model has no such target.
    """
    for name in options.stems:
        if name not in targets:
            raise AudioError(
                f"the model has no target {name!r}{did_you_mean(name, targets)} (it has {', '.join(targets)}); "
                "choose among these with --stems, or add --residual for the rest"
            )
    return [*(options.stems or targets), *([RESIDUAL] if options.residual else [])]


def _relative(song: Path, folders: list[Path]) -> Path:
    for folder in folders:
        if song.is_relative_to(folder):
            return song.relative_to(folder)
    return Path(song.name)
