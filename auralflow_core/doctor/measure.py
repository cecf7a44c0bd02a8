"""Measure a song in one pass, block by block: what the checks of songs judge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from auralflow_core.audio import as_floats
from auralflow_core.data.song import Source
from auralflow_core.doctor.fingerprint import BandMeter
from auralflow_core.doctor.inventory import MIXTURE, Candidate

Audio = NDArray[np.float32]

# Each read of another source may start a decoder.
_LONG_BLOCK = 1 << 21
_QUICK_SECONDS = (10.0, 2.0, 2.0)
_FULL_SCALE = 0.9999
_SILENCE = 10 ** (-70 / 20)
_PIECE = 4096


@dataclass
class Level:
    """What one stem, or the mixture, holds.

    Attributes:
        frames: Samples of a channel that were looked at.
        peaks: Highest absolute sample of each channel.
        energy: Sum of squares over all channels.
        sums: Sum of samples of each channel.
        silent_frames: Samples in blocks of silence, below -70 dB of full scale.
        longest_clip: Longest run of equal samples at full scale.
        clipped: Samples in such runs of at least three.
        side: Highest absolute difference of the first two channels; infinite for one channel.
        not_finite: Samples that are no numbers.
    """

    frames: int = 0
    peaks: Audio = field(default_factory=lambda: np.zeros(1, np.float32))
    energy: float = 0.0
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    silent_frames: int = 0
    longest_clip: int = 0
    clipped: int = 0
    side: float = 0.0
    not_finite: int = 0

    def add(self, block: Audio) -> None:
        """Count a block `(channel, time)`."""
        edges = np.arange(0, block.shape[1], _PIECE)
        heights = np.maximum.reduceat(np.abs(block), edges, axis=1)  # (channel, piece)
        if not np.isfinite(heights).all():
            bad = ~np.isfinite(block)
            self.not_finite += int(bad.sum())
            block = np.where(bad, np.float32(0), block)
            heights = np.maximum.reduceat(np.abs(block), edges, axis=1)
        self.frames += block.shape[1]
        self.energy += float(np.square(block, dtype=np.float64).sum())
        self.sums = self.sums + block.sum(axis=1, dtype=np.float64)
        self.peaks = np.maximum(self.peaks, heights.max(axis=1, initial=0.0))
        is_silent = heights.max(axis=0) < _SILENCE
        self.silent_frames += int(np.diff(edges, append=block.shape[1])[is_silent].sum())
        self.side = max(self.side, float(np.abs(block[0] - block[1]).max(initial=0.0))) if len(block) > 1 else math.inf
        if heights.max(initial=0.0) >= _FULL_SCALE:
            for channel in block:
                self._add_runs(channel)

    def _add_runs(self, channel: NDArray[np.float32]) -> None:
        flat = (np.abs(channel[1:]) >= _FULL_SCALE) & (channel[1:] == channel[:-1])
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat.view(np.int8), [0]])))
        lengths = edges[1::2] - edges[::2] + 1
        self.longest_clip = max(self.longest_clip, int(lengths.max(initial=0)))
        self.clipped += int(lengths[lengths >= 3].sum())

    @property
    def peak(self) -> float:
        """Highest absolute sample of all channels."""
        return float(self.peaks.max())

    @property
    def is_silent(self) -> bool:
        """Whether no channel has sound."""
        return self.peak < _SILENCE

    @property
    def silent_channels(self) -> frozenset[int]:
        """Channels without sound."""
        return frozenset(np.flatnonzero(self.peaks < _SILENCE).tolist())

    @property
    def rms(self) -> float:
        """Root mean square over all channels."""
        return math.sqrt(self.energy / max(1, self.frames * len(self.sums)))

    @property
    def offset(self) -> float:
        """Mean of the channel whose mean is farthest from zero."""
        return float(np.abs(self.sums).max()) / max(1, self.frames)


@dataclass
class Facts:
    """What one song holds.

    Attributes:
        candidate: The song.
        levels: Of each stem and of the mixture.
        difference: Of the mixture and the sum of the stems, where both can be compared.
        bands: The fingerprint, `(frame, band)`.
    """

    candidate: Candidate
    levels: dict[str, Level]
    difference: Level | None
    bands: NDArray[np.float32]


def measure(candidate: Candidate, *, quick: bool = False, with_stems: bool = True) -> Facts:
    """Read a song that is whole and return what it holds.

    Args:
        candidate: The song.
        quick: Look at its first 10 s, and at 2 s in its middle and at its end.
        with_stems: Whether to read its stems too, or its mixture alone.

    Raises:
        AudioError: A file breaks off or is damaged.
    """
    rate, _, frames = candidate.shape
    sources = candidate.sources if with_stems else {MIXTURE: candidate.sources[MIXTURE]}
    levels = {name: Level() for name in sources}
    can_compare = MIXTURE in levels and len(levels) > 2
    difference = Level() if can_compare else None
    meter = BandMeter(rate)
    pieces = _pieces(sources, frames, rate) if quick else _stream(sources, frames)
    for number, blocks in enumerate(pieces):
        for name, block in blocks.items():
            levels[name].add(block)
        total = sum(block for name, block in blocks.items() if name != MIXTURE)
        mixture = blocks.get(MIXTURE, total)
        assert isinstance(mixture, np.ndarray)
        if difference is not None:
            difference.add(np.asarray(mixture - total, dtype=np.float32))
        if number == 0 or not quick:  # the parts of a copy that begins later would lie elsewhere
            meter.add(np.nan_to_num(mixture, posinf=0.0, neginf=0.0).mean(axis=0))
    return Facts(candidate, levels, difference, meter.bands())


def _stream(sources: Mapping[str, Source], frames: int) -> Iterator[dict[str, Audio]]:
    """Yield a whole song in blocks."""
    streams = [getattr(source, "blocks", None) for source in sources.values()]
    if None not in streams:  # in order, so that a lossy file is decoded once
        for blocks in zip(*(stream() for stream in streams if stream), strict=True):
            yield {name: as_floats(block) for name, block in zip(sources, blocks, strict=True)}
        return
    for start in range(0, frames, _LONG_BLOCK):
        count = min(_LONG_BLOCK, frames - start)
        yield {name: source.read(start, count) for name, source in sources.items()}


def _pieces(sources: Mapping[str, Source], frames: int, rate: int) -> Iterator[dict[str, Audio]]:
    """Yield parts of a song: from its start, its middle and its end."""
    lengths = [min(frames, round(seconds * rate)) for seconds in _QUICK_SECONDS]
    starts = [0, max(lengths[0], (frames - lengths[1]) // 2), max(0, frames - lengths[2])]
    for start, length in zip(starts, lengths, strict=True):
        if count := min(length, frames - start):
            yield {name: source.read(start, count) for name, source in sources.items()}
