"""Networks that are weighted means of others: each member is separated by segments of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auralflow_core.config import Config, validate
from auralflow_core.model import WaveformModel
from auralflow_core.separate import Separator

RATE = 8000


class Placed(nn.Module):
    """Estimates that depend on where in the segment a sample is, and on the audio around it."""

    def __init__(self, multiple: int, gain: float, longest: float | None = None) -> None:
        super().__init__()
        self.multiple = multiple
        self.gain = nn.Parameter(torch.tensor(gain))
        self.longest_segment = longest

    def valid_length(self, length: int) -> int:
        return -(-length // self.multiple) * self.multiple

    def forward(self, audio: Tensor) -> Tensor:
        place = torch.linspace(0, 1, audio.shape[-1])
        around = audio.abs().mean(-1, keepdim=True)
        return torch.stack([self.gain * audio * place + around, audio * (1 - place)], dim=1)


class Mean(nn.Module):
    """The weighted mean of several networks."""

    def __init__(self, networks: list[Placed], weights: list[list[float]]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.weights = torch.tensor(weights)

    @property
    def members(self) -> list[tuple[nn.Module, Tensor]]:
        return list(zip(self.networks, self.weights / self.weights.sum(0), strict=True))

    def forward(self, audio: Tensor) -> Tensor:
        raise AssertionError("a segment for all members")


def separator(network: nn.Module, **changes: object) -> Separator:
    groups = {
        "model": {"type": "Toy"},
        "dataset": {"targets": ["a", "b"], "num_channels": 1, "sample_rate": RATE},
        "training": {"device": "cpu"},
        "separation": {"segment": 0.05, "final_segment": "padded", "window": "triangle"},
    }
    return Separator(WaveformModel(validate(Config, groups), network), threads=2, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("frames", [1, 300, 1234])
@pytest.mark.parametrize("changes", [{}, {"shifts": 2, "shift_seed": 5}, {"final_segment": "moved", "window": "auto"}])
def test_each_is_separated_by_itself(frames: int, changes: dict[str, object]) -> None:
    networks = [Placed(1, 0.5), Placed(128, 0.7), Placed(500, 2.0, longest=0.02), Placed(64, float("nan"))]
    weights = [[1.0, 2.0], [3.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (1, frames)).astype(np.float32)
    found = separator(Mean(networks, weights), **changes)(audio, RATE)
    expected = np.zeros_like(found)
    for network, row in list(zip(networks, weights, strict=True))[:3]:
        short = {"segment": network.longest_segment} if network.longest_segment else {}
        alone = separator(network, **changes, **short)(audio, RATE)
        expected += alone * (np.array(row) / np.array(weights).sum(0))[:, None, None]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_memory_does_not_grow_with_the_song() -> None:
    """Members whose segments differ go through the stream side by side."""
    held = most = 0

    def blocks() -> object:
        nonlocal held, most
        for _ in range(200):
            held += 100
            most = max(most, held)
            yield np.zeros((1, 100), np.float32)

    made = separator(Mean([Placed(1, 1.0), Placed(128, 1.0, longest=0.02)], [[1, 1], [1, 1]]))
    for estimate in made.stream(blocks(), 1, RATE):  # type: ignore[arg-type]
        held -= estimate.shape[-1]
    assert most < 5000
