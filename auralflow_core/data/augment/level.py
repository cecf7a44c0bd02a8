"""Levels, channels and directions."""

from __future__ import annotations

import torch
from torch import Tensor


def gain(audio: Tensor, sample_rate: int, *, db: float) -> Tensor:
    """Return audio at another level."""
    return audio * 10 ** (db / 20)


def polarity(audio: Tensor, sample_rate: int) -> Tensor:
    """Return the negative."""
    return -audio


def channel_swap(audio: Tensor, sample_rate: int) -> Tensor:
    """Return audio with its channels in the other order."""
    return audio.flip(-2)


def time_reversal(audio: Tensor, sample_rate: int) -> Tensor:
    """Return audio backwards."""
    return audio.flip(-1)


def mute(audio: Tensor, sample_rate: int) -> Tensor:
    """Return silence."""
    return torch.zeros_like(audio)


def peak_of(audio: Tensor) -> Tensor:
    """Return the highest magnitude, a little above zero at least, so that silence can be divided by it."""
    return audio.abs().amax().clamp_min(1e-9)
