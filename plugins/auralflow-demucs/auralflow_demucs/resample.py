"""Resampling by a ratio of small numbers, with the filter that the published `Demucs` was trained with."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_ZEROS = 24
_ROLLOFF = 0.945


class Resample(nn.Module):
    """A windowed sinc filter (Smith, "Digital Audio Resampling Home Page").

    It has 24 zero crossings to each side, at 0.945 of the lower rate, under a squared cosine; each phase is brought to
    a sum of 1, and the first and last sample go on for ever.

    Args:
        old: Rate of the input, as small a whole number as the ratio allows.
        new: Rate of the output.
    """

    kernel: Tensor

    def __init__(self, old: int, new: int) -> None:
        super().__init__()
        self.old, self.new = old, new
        rate = min(old, new) * _ROLLOFF
        self.width = math.ceil(_ZEROS * old / rate)
        place = torch.arange(-self.width, self.width + old, dtype=torch.float32) / old
        phase = torch.arange(new, dtype=torch.float32).unsqueeze(1) / new
        time = ((place - phase) * rate).clamp(-_ZEROS, _ZEROS)
        kernel = torch.sinc(time) * torch.cos(math.pi / 2 * time / _ZEROS).square()
        self.register_buffer("kernel", (kernel / kernel.sum(1, keepdim=True)).unsqueeze(1), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Map `(batch, channel, time)` to a time of `floor(new / old * time)`."""
        batch, _, length = audio.shape
        extended = functional.pad(audio, (self.width, self.width + self.old), mode="replicate")
        phases = functional.conv1d(extended.flatten(0, 1).unsqueeze(1), self.kernel, stride=self.old)
        resampled = phases.transpose(1, 2).flatten(1)[..., : length * self.new // self.old]
        return torch.unflatten(resampled, 0, (batch, -1))
