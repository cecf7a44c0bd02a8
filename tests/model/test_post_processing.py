"""What separation makes of masks: through `separate` of the wrapper, against the transforms done by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auralflow_core.config import Config, validate
from auralflow_core.errors import ConfigError
from auralflow_core.losses import L1Loss
from auralflow_core.masking import extend_masks, ratio_masks, wiener
from auralflow_core.model import SpectrogramMaskModel

TARGETS = ("vocals", "drums")


class Masks(nn.Module):
    """Masks of the lowest bins, other ones for each target, bin and frame."""

    def __init__(self, targets: int = 2, bins: int = 33) -> None:
        super().__init__()
        self.bins = bins
        self.weight = nn.Parameter(torch.linspace(0.2, 1, targets).reshape(targets, 1, 1, 1))

    def forward(self, magnitude: Tensor) -> Tensor:
        low = magnitude[:, None, :, : self.bins]
        mask: Tensor = (self.weight * low).sin().abs()
        return mask


class ByWindows(Masks):
    """The same by windows; it looks at all of them before it masks the first."""

    def mask_windows(self, windows: Iterable[Tensor]) -> Iterator[Tensor]:
        self.passes = [sum(window.shape[-1] for window in windows) for _ in range(2)]
        for window in windows:
            yield self.forward(window)


def make_model(network: nn.Module, targets: tuple[str, ...] = TARGETS, **separation: Any) -> SpectrogramMaskModel:
    dataset = {"targets": list(targets), "num_channels": 2, "sample_rate": 8000, "sample_length": 0.5}
    sizes = {"num_fft": 64, "window_size": 64, "hop_length": 16}
    groups = {
        "model": {"type": "Toy"},
        "dataset": {**dataset, **sizes},
        "training": {"device": "cpu"},
        "separation": separation,
    }
    return SpectrogramMaskModel(validate(Config, groups), network, L1Loss())


@pytest.fixture
def audio() -> Tensor:
    return torch.rand(2, 5000, generator=torch.Generator().manual_seed(0)) - 0.5


def by_hand(model: SpectrogramMaskModel, audio: Tensor, process: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the audio of `process(masks, spectrogram)`, all of it in one piece."""
    with torch.no_grad():
        spectrogram = model.stft(audio[None])
        estimates = process(model.network(spectrogram.abs()), spectrogram)
        return model.istft(estimates, audio.shape[-1])[0]


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


def test_masks_alone(audio: Tensor) -> None:
    model = make_model(Masks(), wiener_window=50)
    assert_close(model.separate(audio), by_hand(model, audio, lambda masks, x: masks * x[:, None]))


def test_separation_exponent(audio: Tensor) -> None:
    model = make_model(Masks(), separation_exponent=2)
    expected = by_hand(model, audio, lambda masks, x: ratio_masks(masks * x[:, None].abs(), 2) * x[:, None])
    assert_close(model.separate(audio), expected)
    assert_close(model.separate(audio).sum(dim=0), audio)


@pytest.mark.parametrize("extension", ["zeros", "average"])
@pytest.mark.parametrize("exponent", [None, 1.0])
def test_masks_of_the_lowest_bins_are_extended(audio: Tensor, extension: str, exponent: float | None) -> None:
    def process(masks: Tensor, x: Tensor) -> Tensor:
        if exponent:
            masks = ratio_masks(masks * x[:, None, :, :20].abs(), exponent)
        return extend_masks(masks, 33, extension) * x[:, None]

    model = make_model(Masks(bins=20), mask_extension=extension, separation_exponent=exponent)
    assert_close(model.separate(audio), by_hand(model, audio, process))


@pytest.mark.parametrize("residual", [False, True])
def test_wiener_in_one_window(audio: Tensor, residual: bool) -> None:
    def process(masks: Tensor, x: Tensor) -> Tensor:
        return wiener(masks * x[:, None], x, 2, residual=residual, eps=1e-6)

    model = make_model(Masks(), wiener=2, wiener_window=10**6, wiener_residual=residual, wiener_eps=1e-6)
    assert_close(model.separate(audio), by_hand(model, audio, process))


def test_wiener_sees_one_window_at_a_time(audio: Tensor) -> None:
    def process(masks: Tensor, x: Tensor) -> Tensor:
        pairs = zip(masks.split(100, dim=-1), x.split(100, dim=-1), strict=True)
        return torch.cat([wiener(mask * part[:, None], part) for mask, part in pairs], dim=-1)

    model = make_model(Masks(), wiener=1, wiener_window=100)
    assert_close(model.separate(audio), by_hand(model, audio, process))


@pytest.mark.parametrize("settings", [{}, {"wiener": 1}, {"separation_exponent": 2.0}])
def test_a_network_that_masks_by_windows(audio: Tensor, settings: dict[str, Any]) -> None:
    network = ByWindows()
    found = make_model(network, wiener_window=60, **settings).separate(audio)
    assert_close(found, make_model(Masks(), wiener_window=60, **settings).separate(audio))
    assert network.passes == [314, 314]


def test_training_and_validation_see_the_networks_own_masks(audio: Tensor) -> None:
    plain, processing = (make_model(Masks(), **group) for group in ({}, {"wiener": 3, "separation_exponent": 2}))
    losses = []
    for model in (plain, processing):
        model.set_data(audio[None], torch.stack([audio, 0.1 * audio])[None])
        model.test()
        losses.append(model.compute_loss())
        assert model.prediction is not None
        assert_close(model.prediction.estimate_audio, plain.separate(audio[None]))
    assert losses[0] == losses[1]


def test_losses_compare_the_bins_that_the_network_masks(audio: Tensor) -> None:
    model = make_model(Masks(bins=20), ("vocals",))
    model.network.weight.data = torch.ones(1, 1, 1, 1)
    model.set_data(audio[None], 0.3 * audio[None])
    model.train()
    assert model.forward().shape == (1, 1, 2, 20, 314)
    magnitude = model.stft(audio[None]).abs()[..., :20, :]
    expected = (magnitude.sin().abs() * magnitude - 0.3 * magnitude).abs().mean()
    assert model.compute_loss() == pytest.approx(float(expected), rel=1e-5)
    model.backward()
    assert model.prediction is not None
    assert model.prediction.estimate_audio.shape == (1, 1, 2, 5000)


@pytest.mark.parametrize(
    ("settings", "name"), [({"wiener": 1}, "wiener_residual"), ({"separation_exponent": 2}, "separation_exponent")]
)
def test_one_target_cannot_share_the_mixture(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        make_model(Masks(1), ("vocals",), **settings)


def test_one_target_and_the_rest_share_the_mixture(audio: Tensor) -> None:
    found = make_model(Masks(1), ("vocals",), wiener=1, wiener_residual=True).separate(audio)
    both = make_model(Masks(1), ("vocals",)).separate(audio)
    assert not torch.allclose(found, both) and not torch.allclose(found[0], audio)
