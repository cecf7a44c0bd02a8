"""A model that separates without a spectrogram in the way, and audio files to separate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auralflow_core.config import Config, validate
from auralflow_core.model import SeparationModel, SpectrogramMaskModel

Audio = NDArray[np.float32]


class Scaled(nn.Module):
    """Masks that are the same everywhere: one gain a target."""

    def __init__(self, gains: tuple[float, ...]) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.tensor(gains).reshape(-1, 1, 1, 1))

    def forward(self, magnitude: Tensor) -> Tensor:
        return self.gains * torch.ones_like(magnitude).unsqueeze(1)


class ByPlace(nn.Module):
    """Masks that depend on the frame's place in the segment and on what is around it, as a real network's do."""

    def __init__(self, targets: int) -> None:
        super().__init__()
        self.targets = targets
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, magnitude: Tensor) -> Tensor:
        place = torch.linspace(0, 1, magnitude.shape[-1]) * self.weight
        level = magnitude.mean(dim=(-2, -1), keepdim=True)
        mask = (place + magnitude / (level + magnitude + 1e-3)) / 2
        return torch.stack([mask / (number + 1) for number in range(self.targets)], dim=1)


@pytest.fixture
def make_model() -> Callable[..., SeparationModel]:
    """Make a model: `make_model(gains=(1.0,), rate=8000, channels=1)`, or with masks by place without gains."""

    def make(
        gains: tuple[float, ...] | None = (1.0,),
        *,
        targets: int = 2,
        rate: int = 8000,
        channels: int = 1,
        **separation: Any,
    ) -> SeparationModel:
        count = targets if gains is None else len(gains)
        dataset: Mapping[str, Any] = {
            "targets": [f"target{number}" for number in range(count)],
            "num_channels": channels,
            "sample_rate": rate,
            "num_fft": 32,
            "window_size": 32,
            "hop_length": 16,
        }
        data = {
            "model": {"type": "Toy"},
            "dataset": dataset,
            "training": {"device": "cpu"},
            "separation": {"segment": 0.05, **separation},
        }
        network = ByPlace(count) if gains is None else Scaled(gains)
        model = SpectrogramMaskModel(validate(Config, data), network)
        model.eval()
        return model

    return make


@pytest.fixture
def write_tone(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of several tones and a little noise, and return its path."""

    def write(name: str = "song.wav", *, frames: int = 5000, channels: int = 2, rate: int = 8000) -> Path:
        import soundfile

        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(frames)[:, None] / rate
        tones = 0.25 * np.sin(2 * np.pi * 440 * (1 + np.arange(channels)) * time) + 0.2 * np.sin(2 * np.pi * 90 * time)
        subtype = {"wav": "PCM_24", "flac": "PCM_24"}.get(name.rsplit(".", 1)[-1])
        soundfile.write(path, tones, rate, subtype=subtype)
        return path

    return write
