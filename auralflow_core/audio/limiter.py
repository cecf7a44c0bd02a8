"""A look-ahead limiter: turns a signal down around the places where it would exceed full scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from auralflow_core.errors import AudioError

# The gain falls and recovers within this time on each side of a peak.
_REACH_SECONDS = 0.01
# The signal is worked on in pieces that lie at multiples of this, so that the blocks it comes in do not matter.
_PIECE_FRAMES = 8192


class Limiter:
    """Keep a stream of blocks below a ceiling; the output has the length and the start of the input.

    All channels of a frame get one gain, so that the image stays. The gain is the least that each of the frames
    around needs, smoothed by a triangular window as wide; a weighted mean of values that all suffice does suffice.
    Where nothing within reach exceeds the ceiling the samples pass unchanged, to the bit.

    Args:
        channels: Channels of the signal.
        sample_rate: In Hz.
        ceiling: The greatest magnitude that is let through.

    Raises:
        AudioError: An argument is not positive.
    """

    def __init__(self, channels: int, sample_rate: int, ceiling: float = 1.0) -> None:
        if channels < 1 or sample_rate < 1 or not ceiling > 0:
            raise AudioError(
                f"cannot limit {channels} channels at {sample_rate} Hz to {ceiling:g}: each must be positive"
            )
        self._ceiling = np.float32(ceiling)
        # Half of the reach each for holding the least gain and for smoothing it.
        self._half = max(1, round(_REACH_SECONDS * sample_rate / 2))
        self._reach = 2 * self._half
        self._channels = channels
        self._reset()

    def process(self, block: NDArray[np.float32], last: bool = False) -> NDArray[np.float32]:
        """Take the next block `(channel, time)`, return what can be given of the output `(channel, time)`.

        `last` ends the signal and returns all that was held back; the limiter then starts afresh.

        Raises:
            AudioError: The block has another number of channels.
        """
        if block.ndim != 2 or block.shape[0] != self._channels:
            raise AudioError(f"cannot limit shape {block.shape}: expected ({self._channels}, time)")
        self._waiting.append(block)
        self._frames += block.shape[1]
        if not last and self._frames < self._past + _PIECE_FRAMES + self._reach:
            return self._nothing()
        held = np.concatenate(self._waiting, axis=1, dtype=np.float32)
        done = list(self._pieces(held, last))
        if last:
            self._reset()
        return np.concatenate([self._nothing(), *done], axis=1)

    def _reset(self) -> None:
        self._past = 0  # frames held that are already given
        self._frames = 0  # frames held
        self._waiting: list[NDArray[np.float32]] = []

    def _nothing(self) -> NDArray[np.float32]:
        return np.zeros((self._channels, 0), np.float32)

    def _pieces(self, held: NDArray[np.float32], last: bool) -> list[NDArray[np.float32]]:
        """Return the limited pieces of what is held `(channel, time)`; keep what the next ones need."""
        pieces, start = [], self._past
        while start < self._frames if last else start + _PIECE_FRAMES + self._reach <= self._frames:
            stop = min(start + _PIECE_FRAMES, self._frames)
            pieces.append(self._limited(held, start, stop))
            start = stop
        kept = max(0, start - self._reach)
        self._waiting = [held[:, kept:].copy()]
        self._past, self._frames = start - kept, self._frames - kept
        return pieces

    def _limited(self, held: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
        first, end = max(0, start - self._reach), stop + self._reach
        peaks = np.abs(held[:, first:end]).max(axis=0)
        piece = held[:, start:stop]
        if not (peaks > self._ceiling).any():
            return piece.copy()
        # What lies before the signal and after it needs no gain.
        needed = np.ones(stop - start + 2 * self._reach)
        at = self._reach - (start - first)
        needed[at : at + len(peaks)] = self._ceiling / np.maximum(peaks, self._ceiling, dtype=np.float64)
        gain = _smoothed(_least(needed, 2 * self._half + 1), self._half + 1).astype(np.float32)
        limited: NDArray[np.float32] = np.clip(piece * gain, -self._ceiling, self._ceiling)
        return limited


def _least(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the least of each `width` neighbours; the result is `width - 1` shorter."""
    count = len(values) - width + 1
    done = 1
    while 2 * done <= width:
        values = np.minimum(values[:-done], values[done:])
        done *= 2
    return np.minimum(values[:count], values[width - done : width - done + count])


def _smoothed(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return means of means of `width` neighbours, that is under a triangle of `2 * width - 1`."""
    for _ in range(2):
        sums = np.concatenate([[0.0], np.cumsum(values)])
        values = (sums[width:] - sums[:-width]) / width
    return values
