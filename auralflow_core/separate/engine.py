"""Overlapping segments of a stream, cross-faded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auralflow_core.audio import StreamResampler
from auralflow_core.errors import ConfigError
from auralflow_core.model import SeparationModel

Audio = NDArray[np.float32]

MAX_SEGMENT = 3600
_BLOCK_SECONDS = 1.0


class Separator:
    """Separates audio of any length, rate and channel count with memory for one segment.

    The audio is cut into segments that overlap; each is separated alone and faded into the next one with a raised
    cosine. The last segment is moved back so that it is a full one too. Where segments lie depends on the audio
    alone, so the result does not depend on the blocks it comes in.

    Args:
        model: The model.
        segment: Length of a segment in seconds; by default `separation.segment`.
        overlap: Share of a segment, in [0, 0.5], that overlaps the next; by default `separation.overlap`.

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(self, model: SeparationModel, *, segment: float | None = None, overlap: float | None = None) -> None:
        settings = model.config.separation
        segment = settings.segment if segment is None else segment
        overlap = settings.overlap if overlap is None else overlap
        if not 0 < segment <= MAX_SEGMENT:
            raise ConfigError(f"separation.segment: {segment:g} s is not in (0, {MAX_SEGMENT}]; 10 s is usual")
        if not 0 <= overlap <= 0.5:
            raise ConfigError(f"separation.overlap: {overlap:g} is not in [0, 0.5]; 0.25 is usual")
        self.model = model
        self._segment = max(2, math.ceil(segment * model.sample_rate))
        self._overlap = int(self._segment * overlap)
        phase = (torch.arange(self._overlap) + 0.5) / max(1, self._overlap)
        self._fade_in = torch.sin(0.5 * math.pi * phase).square()

    def __call__(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Separate a whole signal.

        Args:
            audio: float32 in [-1, 1], `(channel, time)`.
            sample_rate: In Hz.

        Returns:
            `(target, channel, time)` of the same length and rate.
        """
        samples = audio.detach().cpu().numpy()
        size = max(1, round(_BLOCK_SECONDS * sample_rate))
        blocks = (samples[:, start : start + size] for start in range(0, samples.shape[1], size))
        parts = list(self.stream(blocks, audio.shape[0], sample_rate))
        joined = np.concatenate(parts, axis=-1) if parts else self._nothing(audio.shape[0])
        return torch.from_numpy(joined).to(audio.device)

    def stream(self, blocks: Iterable[Audio], channels: int, sample_rate: int) -> Iterator[Audio]:
        """Separate a stream.

        Args:
            blocks: float32 `(channel, frames)`, each of any length.
            channels: Channels of the stream.
            sample_rate: In Hz.

        Yields:
            `(target, channel, frames)`, together as many frames as came in.
        """
        count = _Counter()
        counted = count.each(blocks)
        if sample_rate == self.model.sample_rate:
            yield from self._segments(counted)
            return
        native = _resample(counted, channels, sample_rate, self.model.sample_rate)
        num_targets = len(self.model.targets)
        back = StreamResampler(num_targets * channels, self.model.sample_rate, sample_rate)
        done = 0
        for block in self._segments(native):
            audio = back.process(block.reshape(num_targets * channels, -1))
            audio = audio[:, : count.frames - done]
            done += audio.shape[1]
            if audio.shape[1]:
                yield audio.reshape(num_targets, channels, -1)
        # Rounding there and back may gain or lose a frame.
        rest = back.process(np.zeros((num_targets * channels, 0), np.float32), last=True)
        rest = rest[:, : count.frames - done]
        rest = np.pad(rest, ((0, 0), (0, count.frames - done - rest.shape[1])))
        if rest.shape[1]:
            yield rest.reshape(num_targets, channels, -1)

    def _segments(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """Separate a stream at the model's rate."""
        hop = self._segment - self._overlap
        waiting: list[Audio] = []
        held = 0
        tail: Tensor | None = None  # the estimates of the last segment that the next one fades in over
        previous: Audio | None = None  # the input of the last segment before the overlap
        for block in blocks:
            waiting.append(block)
            held += block.shape[1]
            while held >= self._segment:
                window = np.concatenate(waiting, axis=1)
                estimates = self._estimate(window[:, : self._segment])
                yield self._faded(tail, estimates)[..., :hop].numpy()
                tail = estimates[..., hop:]
                waiting, held = [window[:, hop:]], window.shape[1] - hop
                previous = window[:, :hop]
        if held == 0:
            return
        rest = np.concatenate(waiting, axis=1)
        if tail is None:
            yield self._estimate(rest).numpy()
        elif held == self._overlap:
            yield tail.numpy()
        else:
            assert previous is not None
            missing = self._segment - held
            last = self._estimate(np.concatenate([previous[:, hop - missing :], rest], axis=1))
            yield self._faded(tail, last[..., missing:]).numpy()

    def _faded(self, tail: Tensor | None, estimates: Tensor) -> Tensor:
        """Fade from the end of one segment into the beginning of the next."""
        if tail is None or self._overlap == 0:
            return estimates
        head = estimates[..., : self._overlap]
        mixed = tail + (head - tail) * self._fade_in
        return torch.cat([mixed, estimates[..., self._overlap :]], dim=-1)

    def _estimate(self, audio: Audio) -> Tensor:
        return self.model.separate(torch.from_numpy(np.ascontiguousarray(audio)))

    def _nothing(self, channels: int) -> Audio:
        return np.zeros((len(self.model.targets), channels, 0), np.float32)


class _Counter:
    """Counts the frames that pass."""

    frames = 0

    def each(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        for block in blocks:
            self.frames += block.shape[1]
            yield block


def _resample(blocks: Iterable[Audio], channels: int, from_rate: int, to_rate: int) -> Iterator[Audio]:
    resampler = StreamResampler(channels, from_rate, to_rate)
    for block in blocks:
        yield resampler.process(block)
    yield resampler.process(np.zeros((channels, 0), np.float32), last=True)
