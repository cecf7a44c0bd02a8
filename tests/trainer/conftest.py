"""Trainings that take milliseconds: songs in memory, a network of a few weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auralflow_core.config import Config, validate
from auralflow_core.data.chunks import ChunkDataset, ChunkKey
from auralflow_core.data.pcm import Audio
from auralflow_core.data.song import Song
from auralflow_core.losses import L1Loss
from auralflow_core.model import SpectrogramMaskModel
from auralflow_core.model.registered_schedule import ScheduleMaker
from auralflow_core.model.schedules import unknown_schedule
from auralflow_core.trainer import Callback, Epoch, Step, Trainer

TrainerMaker = Callable[..., Trainer]


@dataclass(frozen=True)
class ArraySource:
    audio: Audio

    def read(self, start: int, frames: int) -> Audio:
        return self.audio[:, start : start + frames]


class ToyNet(nn.Module):
    """Convolution, batch norm and dropout: something random, something with running statistics."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.3)
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, magnitude: Tensor) -> Tensor:
        hidden = self.dropout(self.norm(self.first(magnitude)).relu())
        mask: Tensor = self.last(hidden).sigmoid()
        return mask


class Stubborn(nn.Module):
    """Its weight gets gradients but has no say."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, magnitude: Tensor) -> Tensor:
        return 0.5 * torch.ones_like(magnitude) + 0 * self.weight


class Recorder(Callback):
    """Keeps steps, with the learning rates they were done with, and validations."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.rates: list[list[float]] = []
        self.epochs: list[Epoch] = []
        self.skipped: list[str] = []
        self._next: list[float] = []

    def on_start(self, trainer: Trainer) -> None:
        self._next = _rates(trainer)

    def on_step(self, trainer: Trainer, step: Step) -> None:
        self.steps.append(step)
        self.rates.append(self._next)
        self._next = _rates(trainer)

    def on_skip(self, trainer: Trainer, what: str) -> None:
        self.skipped.append(what)

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        self._next = _rates(trainer)


class PlainNet(nn.Module):
    """Two layers, a matrix among them; each item of a batch by itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.bins = nn.Linear(17, 17)
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, magnitude: Tensor) -> Tensor:
        hidden = self.bins(self.first(magnitude).relu().transpose(-1, -2)).transpose(-1, -2)
        mask: Tensor = self.last(hidden.relu()).sigmoid()
        return mask


def _rates(trainer: Trainer) -> list[float]:
    return [float(group["lr"]) for group in trainer.model.optimizer.param_groups]


def make_song(number: int) -> Song:
    rng = np.random.default_rng(number)
    time = np.arange(2000) / 1000
    vocals = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 140) * time)[None].astype(np.float32)
    drums = (0.1 * rng.standard_normal((1, 2000))).astype(np.float32)
    stems = {"vocals": ArraySource(vocals), "drums": ArraySource(drums)}
    return Song(f"song {number}", stems, None, 1000, 1, 2000)


@pytest.fixture
def make_trainer(trainers_in: Callable[[Path], TrainerMaker], tmp_path: Path) -> TrainerMaker:
    """Make a trainer: `make_trainer("folder", callbacks, network, max_epochs=2)`; 30 chunks, 8 steps an epoch.

    The network `"plain"` is a `PlainNet`; `schedules` are those of plugins, by name.
    """
    return trainers_in(tmp_path)


@pytest.fixture(scope="session")
def trainers_in() -> Callable[[Path], TrainerMaker]:
    """Return what makes a `make_trainer` whose folders lie in another one, for tests that share a training."""
    return lambda parent: partial(make_in, parent)


def make_in(
    parent: Path,
    folder: str = "model",
    callbacks: Sequence[Callback] = (),
    network: Any = None,
    *,
    songs: int = 3,
    visuals: dict[str, Any] | None = None,
    schedules: Mapping[str, tuple[ScheduleMaker, Sequence[str]]] | None = None,
    **training: Any,
) -> Trainer:
    sizes = {"num_fft": 32, "window_size": 32, "hop_length": 16}
    dataset = {"sample_rate": 1000, "sample_length": 0.2, **sizes}
    training = {"batch_size": 4, "max_epochs": 2, "lr": 0.01, "device": "cpu", **training}
    data = {"model": {"type": "Toy"}, "dataset": dataset, "training": training, "visuals": visuals or {}}
    config = validate(Config, data)
    network = PlainNet() if network == "plain" else network or ToyNet()
    find: Any = unknown_schedule if schedules is None else schedules.__getitem__
    model = SpectrogramMaskModel(config, network, L1Loss(), folder=parent / folder, find_scheduler=find)
    train = ChunkDataset([make_song(number) for number in range(songs)], config.dataset, seed=0)
    valid = ChunkDataset([make_song(9)], config.dataset, shuffle=False)
    return Trainer(model, train, valid, callbacks)


@pytest.fixture
def make_recorder() -> Callable[[], Recorder]:
    """Return what makes listeners that keep what they are told."""
    return Recorder


@pytest.fixture
def stubborn() -> nn.Module:
    return Stubborn()


@pytest.fixture
def trained_loss() -> Callable[[Trainer], float]:
    """Return what computes the loss of a trainer's model on all validation chunks, as one batch."""

    def compute(trainer: Trainer) -> float:
        chunks = [trainer.valid_data[ChunkKey(0, number)] for number in range(len(trainer.valid_data))]
        mixtures, targets = (torch.stack(each) for each in zip(*chunks, strict=True))
        trainer.model.set_data(mixtures, targets)
        trainer.model.test()
        return trainer.model.compute_loss()

    return compute
