"""Means of magnitude spectrograms, streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from auralflow_core.separate.base import Audio

SIZE = 4096
HOP = SIZE // 4
_LEAD = SIZE - HOP


def spectral_mean(blocks: Iterable[Audio], weights: Audio) -> Iterator[Audio]:
    """Average the magnitudes of several estimates of the same stream; the phase is that of their mean.

    Frames of 4096 samples at multiples of 1024, with a Hann window there and back; where all agree, the result is
    what they agree on.

    Args:
        blocks: `(separator, target, channel, frames)`.
        weights: `(separator, target)`, sums over the separators are one.

    Yields:
        `(target, channel, frames)`, together as many frames as came in.
    """
    total = 0
    done = -_LEAD  # the first frame's samples before the stream
    held: Audio | None = None
    tail: Audio | None = None
    share = torch.from_numpy(weights)[..., None, None, None]
    for block in chain(blocks, [None]):
        if block is not None:
            total += block.shape[-1]
            before = np.zeros((*block.shape[:-1], _LEAD), np.float32) if held is None else held
            held = np.concatenate([before, block], axis=-1)
        elif held is not None:
            held = np.concatenate([held, np.zeros((*held.shape[:-1], SIZE), np.float32)], axis=-1)
        if held is None or held.shape[-1] < SIZE:
            continue
        count = (held.shape[-1] - SIZE) // HOP + 1
        audio = _mean(torch.from_numpy(held[..., : (count - 1) * HOP + SIZE]), share)
        held = held[..., count * HOP :]
        if tail is not None:
            audio[..., :_LEAD] += tail
        tail = audio[..., count * HOP :]
        ready = audio[..., max(0, -done) : min(count * HOP, total - done)]
        done += count * HOP
        if ready.shape[-1]:
            yield ready


def _mean(audio: Tensor, share: Tensor) -> Audio:
    """Return the frames' mean, overlapped and added: `(target, channel, time)`."""
    window = torch.hann_window(SIZE)
    spectra = torch.fft.rfft(audio.unfold(-1, SIZE, HOP) * window)  # (separator, target, channel, frame, bin)
    magnitude = (spectra.abs() * share).sum(dim=0)
    mean = (spectra * share).sum(dim=0)
    frames = torch.fft.irfft(torch.polar(magnitude, mean.angle()), SIZE) * (window / 1.5)
    slots = frames.unflatten(-1, (SIZE // HOP, HOP))  # squared windows at a quarter of their length sum to 1.5
    count = slots.shape[-3]
    added = torch.zeros(*slots.shape[:-3], count + SIZE // HOP - 1, HOP)
    for slot in range(SIZE // HOP):
        added[..., slot : slot + count, :] += slots[..., slot, :]
    return added.flatten(-2).numpy()
