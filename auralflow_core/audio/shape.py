"""Change a signal's sample rate or channel count."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import soxr
from numpy.typing import NDArray

from auralflow_core.errors import AudioError

# At HQ the SoX resampler keeps its errors below -120 dB of full scale, under the noise of 16-bit audio.
_QUALITY = "HQ"

_Sample = TypeVar("_Sample", bound=np.generic)


def resampled_length(frames: int, from_rate: int, to_rate: int) -> int:
    """Return the length of `frames` frames after resampling: rounded, halves upwards."""
    return (2 * frames * to_rate + from_rate) // (2 * from_rate)


def resample(
    audio: NDArray[np.float32], from_rate: int, to_rate: int, frames: int | None = None
) -> NDArray[np.float32]:
    """Resample a whole signal.

    Args:
        audio: `(channel, time)`.
        from_rate: Its sample rate in Hz.
        to_rate: The wanted sample rate in Hz.
        frames: The wanted length; default `resampled_length`. There and back does not always return to the
            length one started from, so the way back names it.

    Returns:
        `(channel, frames)`, cut or padded with zeros at the end if `frames` is not the natural length.
    """
    resampler = StreamResampler(audio.shape[0], from_rate, to_rate, frames)
    return resampler.process(audio, last=True)


class StreamResampler:
    """Resample a signal block by block; the blocks joined are exactly what `resample` returns.

    Args:
        channels: Channels of the signal.
        from_rate: Its sample rate in Hz.
        to_rate: The wanted sample rate in Hz.
        frames: The wanted length of all output; default `resampled_length` of all input.

    Raises:
        AudioError: A rate or the channel count is not positive.
    """

    def __init__(self, channels: int, from_rate: int, to_rate: int, frames: int | None = None) -> None:
        if min(from_rate, to_rate) < 1 or channels < 1:
            raise AudioError(
                f"cannot resample {channels} channels from {from_rate} Hz to {to_rate} Hz: "
                "each must be at least 1; check the sample rate"
            )
        self._channels = channels
        self._rates = (from_rate, to_rate)
        self._frames = frames
        self._frames_in = 0
        self._frames_out = 0
        self._stream = None
        if from_rate != to_rate:
            self._stream = soxr.ResampleStream(from_rate, to_rate, channels, "float32", _QUALITY)

    def process(self, block: NDArray[np.float32], last: bool = False) -> NDArray[np.float32]:
        """Take the next block `(channel, time)`, return what can be given of the output `(channel, time)`.

        `last` ends the signal and returns all that was held back; the resampler then starts afresh.

        Raises:
            AudioError: The block has another number of channels.
        """
        if block.ndim != 2 or block.shape[0] != self._channels:
            raise AudioError(f"cannot resample shape {block.shape}: expected ({self._channels}, time)")
        self._frames_in += block.shape[1]
        output = self._convert(block, last)
        output = self._fit(output, last)
        self._frames_out += output.shape[1]
        if last:
            self._reset()
        return output

    def _convert(self, block: NDArray[np.float32], last: bool) -> NDArray[np.float32]:
        if self._stream is None:
            return block.astype(np.float32)
        if self._frames_in == 0:
            return np.zeros((self._channels, 0), np.float32)
        interleaved = np.ascontiguousarray(block.T, np.float32)
        return np.ascontiguousarray(self._stream.resample_chunk(interleaved, last).T)

    def _fit(self, output: NDArray[np.float32], last: bool) -> NDArray[np.float32]:
        target = self._frames
        if target is None and last:
            target = resampled_length(self._frames_in, *self._rates)
        if target is None:
            return output
        output = output[:, : target - self._frames_out]
        lacking = target - self._frames_out - output.shape[1]
        return np.pad(output, ((0, 0), (0, lacking))) if last and lacking else output

    def _reset(self) -> None:
        self._frames_in = self._frames_out = 0
        if self._stream is not None:
            self._stream.clear()


def can_match_channels(have: int, wanted: int) -> bool:
    """Whether `match_channels` can make one number of channels from another."""
    return have in (1, wanted) or wanted == 1


def match_channels(audio: NDArray[_Sample], channels: int) -> NDArray[_Sample]:
    """Give a signal `(channel, time)` another number of channels.

    One channel becomes copies of itself; any number becomes one as its mean. Other changes need to know what
    the channels stand for, and are refused.

    Raises:
        AudioError: The signal has several channels and several others are wanted.
    """
    have = audio.shape[0]
    if have == channels:
        return audio
    if not can_match_channels(have, channels):
        raise AudioError(
            f"cannot turn {have} channels into {channels}: only one channel can be copied, and only the mean "
            "of all can be taken; mix the file down to one or two channels first"
        )
    if channels == 1:
        mean: NDArray[_Sample] = audio.mean(axis=0, keepdims=True).astype(audio.dtype)
        return mean
    return np.repeat(audio, channels, axis=0)
