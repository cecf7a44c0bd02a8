"""Spectrograms of long audio by windows of frames, there and back, of which only one is held at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from auralflow_core.transforms import STFT

_LEAST_ENVELOPE = 1e-11


class SpectrogramWindows:
    """The spectrogram of audio, computed window by window each time that one iterates over it.

    Yields complex `(..., bin, frame)`, successive in time, each of `size` frames but for the last.

    Args:
        stft: The transform.
        audio: `(..., time)`.
        size: Frames of a window.
    """

    def __init__(self, stft: STFT, audio: Tensor, size: int) -> None:
        self._stft = stft
        self._padded = stft.pad(audio)
        self._size = size
        self.num_frames = (self._padded.shape[-1] - stft.num_fft) // stft.hop_length + 1

    def __iter__(self) -> Iterator[Tensor]:
        hop, num_fft = self._stft.hop_length, self._stft.num_fft
        for start in range(0, self.num_frames, self._size):
            stop = min(start + self._size, self.num_frames)
            yield self._stft.transform(self._padded[..., start * hop : (stop - 1) * hop + num_fft])


class Magnitudes:
    """The magnitudes of windows of spectrograms; one may iterate over them as often as over the windows."""

    def __init__(self, windows: Iterable[Tensor]) -> None:
        self._windows = windows

    def __iter__(self) -> Iterator[Tensor]:
        return (window.abs() for window in self._windows)


class OverlapAdd:
    """The inverse of `STFT` for windows of frames that come one after the other.

    Args:
        stft: The transform.
        shape: Of the audio, `(..., time)`.
        num_frames: Number of frames of all windows together.
    """

    def __init__(self, stft: STFT, shape: Sequence[int], num_frames: int) -> None:
        *leading, self._length = shape
        self._num_fft, self._hop = stft.num_fft, stft.hop_length
        self._overlap = -(-stft.num_fft // stft.hop_length)
        left = (stft.num_fft - stft.window_size) // 2
        self._window = functional.pad(stft.window, (left, stft.num_fft - stft.window_size - left))
        self._num_frames = num_frames
        self._done = 0
        num_blocks = num_frames + self._overlap - 1
        self._blocks = stft.window.new_zeros(*leading, num_blocks, self._hop)

    def add(self, spectrogram: Tensor) -> None:
        """Add the next frames, complex `(..., bin, frame)`."""
        frames = torch.fft.irfft(spectrogram.transpose(-1, -2), self._num_fft) * self._window
        stop = self._done + spectrogram.shape[-1]
        for number, piece in enumerate(frames.split(self._hop, dim=-1)):
            self._blocks[..., self._done + number : stop + number, : piece.shape[-1]] += piece
        self._done = stop

    def audio(self) -> Tensor:
        """Return `(..., time)`, when all frames were added."""
        assert self._done == self._num_frames
        self._divide_by_envelope()
        left = self._num_fft // 2
        return self._blocks.flatten(-2)[..., left : left + self._length]

    def _divide_by_envelope(self) -> None:
        """Divide by the sum of the squared windows that lie over each sample."""
        energy = functional.pad(self._window.cpu().double().square(), (0, self._overlap * self._hop - self._num_fft))
        sums = energy.reshape(self._overlap, self._hop).cumsum(dim=0)
        first, last = self._overlap - 1, self._num_frames  # all windows lie over the blocks in between
        self._blocks[..., first:last, :] /= sums[-1].to(self._blocks)
        for block in (*range(first), *range(max(first, last), self._blocks.shape[-2])):
            envelope = sums[min(block, first)] - (sums[block - last] if block >= last else 0)
            self._blocks[..., block, :] /= envelope.clamp_min(_LEAST_ENVELOPE).to(self._blocks)
