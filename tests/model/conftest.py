"""Models around toy networks: small enough that every number can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auralflow_core.config import Config, validate
from auralflow_core.losses import Criterion, L1Loss, kl_to_normal
from auralflow_core.model import SeparationModel, SpectrogramMaskModel

ModelMaker = Callable[..., SeparationModel]


class ToyMask(nn.Module):
    """One learned mask value a target and bin, behind dropout and a batch norm that tell the modes apart."""

    def __init__(self, targets: int, bins: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, targets * bins).reshape(targets, 1, bins, 1))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.BatchNorm1d(1, affine=False)

    def forward(self, magnitude: Tensor) -> Tensor:
        """Map `(batch, channel, bin, frame)` to `(batch, target, channel, bin, frame)`."""
        self.norm(magnitude.mean(dim=(1, 2, 3))[:, None].expand(-1, 2).reshape(-1, 1))
        batch, channels, _, frames = magnitude.shape
        mask = self.weight.sigmoid().expand(batch, -1, channels, -1, frames)
        return self.dropout(mask)


class Identity(nn.Module):
    """A mask of one for every target."""

    def __init__(self, targets: int) -> None:
        super().__init__()
        self.targets = targets
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, magnitude: Tensor) -> Tensor:
        mask: Tensor = self.weight * torch.ones_like(magnitude).unsqueeze(1).repeat(1, self.targets, 1, 1, 1)
        return mask


class ToyVariational(ToyMask):
    """A network with a KL term, as the plugin contract has it."""

    loss_term_names = ("kl",)

    def forward(self, magnitude: Tensor) -> Tensor:
        self.loss_terms = {"kl": kl_to_normal(self.weight, self.weight.exp())}
        return super().forward(magnitude)


class ToyLinear(nn.Module):
    """A convolution over frames, computed in low precision where autocast asks for it."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(channels, channels, 3, padding=1)
        self.seen: torch.dtype | None = None

    def forward(self, magnitude: Tensor) -> Tensor:
        hidden = self.layer(magnitude)
        self.seen = hidden.dtype
        mask: Tensor = hidden.sigmoid()
        return mask


def make_config(
    *, targets: tuple[str, ...] = ("vocals",), channels: int = 1, loss: str = "l1", **training: Any
) -> Config:
    dataset = {"targets": list(targets), "num_channels": channels, "sample_rate": 8000, "sample_length": 0.5}
    sizes = {"num_fft": 64, "window_size": 64, "hop_length": 32}
    data = {
        "model": {"type": "Toy"},
        "dataset": {**dataset, **sizes},
        "training": {"device": "cpu", "criterion": loss, **training},
    }
    return validate(Config, data)


@pytest.fixture
def make_model(tmp_path: Path) -> ModelMaker:
    """Make a model: `make_model(network, criterion, targets=..., channels=..., lr=...)`."""

    def make(network: nn.Module | None = None, criterion: Criterion | None = None, **settings: Any) -> SeparationModel:
        config = make_config(**settings)
        network = network or ToyMask(len(config.dataset.targets), config.dataset.num_bins)
        return SpectrogramMaskModel(config, network, criterion or L1Loss(), folder=tmp_path)

    return make


@pytest.fixture
def toys() -> dict[str, type[nn.Module]]:
    return {"mask": ToyMask, "identity": Identity, "variational": ToyVariational, "linear": ToyLinear}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 0.5


@pytest.fixture
def batch() -> Callable[..., tuple[Tensor, Tensor]]:
    """Return `(mixture, target)` of a shape; the targets add up to less than the mixture."""

    def make(items: int = 2, targets: int = 1, channels: int = 1, length: int = 1000) -> tuple[Tensor, Tensor]:
        target = 0.3 * noise(items, targets, channels, length)
        return target.sum(1) + 0.3 * noise(items, channels, length, seed=1), target

    return make
