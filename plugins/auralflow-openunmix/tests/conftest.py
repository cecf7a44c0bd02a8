"""The tiny networks that openunmix saved, and what it makes of a mixture with them (see peer/make.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from auralflow_core.config import Config, validate
from auralflow_core.model import SpectrogramMaskModel
from auralflow_openunmix.network import OpenUnmix
from auralflow_openunmix.weights import convert

PEER = Path(__file__).with_name("peer")
SIZES = {"num_fft_bins": 33, "num_channels": 2, "hidden_size": 8, "num_layers": 2, "max_bin": 20}

ModelMaker = Callable[..., SpectrogramMaskModel]


@pytest.fixture(scope="session")
def peer() -> dict[str, Tensor]:
    return load_file(PEER / "outputs.safetensors")


@pytest.fixture(scope="session")
def mixture(peer: Mapping[str, Tensor]) -> Tensor:
    """Return the mixture `(1, channel, time)`."""
    return peer["mixture"] / 32768


@pytest.fixture
def peer_network() -> Callable[[str], OpenUnmix]:
    """Return a function that loads one of the peer's networks."""

    def load(target: str) -> OpenUnmix:
        network = OpenUnmix(**SIZES)
        network.load_state_dict(torch.load(PEER / f"{target}-0.pth", weights_only=True))
        return network.eval()

    return load


@pytest.fixture
def make_model() -> ModelMaker:
    """Return a function that makes a model of the peer's networks: `make_model(targets, **separation)`."""

    def make(targets: tuple[str, ...] = ("vocals", "drums"), **separation: Any) -> SpectrogramMaskModel:
        network = OpenUnmix(**SIZES, num_targets=len(targets))
        files = {f"{name}-0.pth": PEER / f"{name}-0.pth" for name in reversed(targets)}
        state = convert(files) if len(targets) > 1 else torch.load(PEER / f"{targets[0]}-0.pth", weights_only=True)
        network.load_state_dict(state)
        return SpectrogramMaskModel(make_config(targets, **separation), network)

    return make


def make_config(targets: tuple[str, ...], **separation: Any) -> Config:
    stft = {"num_fft": 64, "window_size": 64, "hop_length": 16, "stft_padding": "reflect"}
    data = {"targets": list(targets), "num_channels": 2, "sample_rate": 8000, **stft}
    groups = {"model": {"type": "OpenUnmix"}, "dataset": data, "separation": separation}
    return validate(Config, {**groups, "training": {"device": "cpu"}})
