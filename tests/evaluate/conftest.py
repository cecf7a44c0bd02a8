"""Songs in memory, a separator that is poor but quick, and scores made up by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auralflow_core.config import validate
from auralflow_core.config.schema import Config
from auralflow_core.data.song import Audio, Song
from auralflow_core.model import SpectrogramMaskModel
from auralflow_core.separate import Separator

RATE = 8000
STEMS = ("vocals", "drums", "bass", "other")


@dataclass(frozen=True)
class ArraySource:
    audio: Audio

    def read(self, start: int, frames: int) -> Audio:
        return self.audio[:, start : start + frames]


class Bands(nn.Module):
    """A mask of its own over the bins for each target: a poor separation, but one that leaks and colours."""

    def __init__(self, targets: int) -> None:
        super().__init__()
        shapes = torch.rand(targets, 1, 65, 1, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(shapes)

    def forward(self, magnitude: Tensor) -> Tensor:
        return self.weight * torch.ones_like(magnitude).unsqueeze(1)


@pytest.fixture
def separator() -> Callable[..., Separator]:
    """Make a separator: `separator("vocals", "drums")`."""

    def make(*targets: str) -> Separator:
        sizes = {"num_fft": 128, "window_size": 128, "hop_length": 64, "sample_rate": RATE, "num_channels": 2}
        data = {
            "model": {"type": "Toy"},
            "dataset": {"targets": list(targets), **sizes},
            "training": {"device": "cpu"},
            "separation": {"segment": 1},
        }
        return Separator(SpectrogramMaskModel(validate(Config, data), Bands(len(targets))))

    return make


@pytest.fixture
def make_song() -> Callable[..., Song]:
    """Make a song of coloured noises and tones with 16 bits, like a file that was read.

    Mono by default: museval's time grows with the cube of sources times channels.
    """

    def make(
        number: int = 0,
        seconds: float = 3,
        stems: tuple[str, ...] = STEMS,
        channels: int = 1,
        silent: tuple[str, ...] = (),
    ) -> Song:
        rng = np.random.default_rng(number)
        frames = round(seconds * RATE)
        sources = {}
        for index, name in enumerate(stems):
            colour = rng.standard_normal(9) / (index + 1)
            noise = np.stack([np.convolve(row, colour, "same") for row in rng.standard_normal((channels, frames))])
            tone = np.sin(2 * np.pi * 200 * (index + 1) * np.arange(frames) / RATE)
            audio = 0.02 * noise + 0.05 * tone * (0.5 + 0.5 * np.sin(np.arange(frames) / RATE + index))
            heard = name not in silent
            sources[name] = ArraySource((heard * np.round(audio * 2**15) / 2**15).astype(np.float32))
        return Song(f"song {number}", sources, None, RATE, channels, frames)

    return make
