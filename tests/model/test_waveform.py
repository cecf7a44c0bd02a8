from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auralflow_core.config import Config, validate
from auralflow_core.errors import AuralflowError, ConfigError
from auralflow_core.losses import Criterion, L1Loss, L2Loss, MaskLoss, SISDRLoss
from auralflow_core.model import WaveformModel

LENGTH = 1000


class Gains(nn.Module):
    """Each target is the mixture times a learned gain; optionally without a target axis."""

    def __init__(self, gains: list[float], *, with_axis: bool = True) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.tensor(gains))
        self.with_axis = with_axis

    def forward(self, audio: Tensor) -> Tensor:
        estimates = audio.unsqueeze(1) * self.gains[:, None, None]
        return estimates if self.with_axis else estimates.squeeze(1)


class Costly(Gains):
    """Has a loss term of its own."""

    def forward(self, audio: Tensor) -> Tensor:
        self.loss_terms = {"extra": torch.tensor(7.0)}
        return super().forward(audio)


class Shaped(nn.Module):
    """Returns zeros of a given shape."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.shape = shape

    def forward(self, audio: Tensor) -> Tensor:
        return self.weight.expand(self.shape)


def settings(targets: list[str], channels: int = 1, criterion: str = "l1", **training: Any) -> Config:
    data = {
        "model": {"type": "Toy"},
        "dataset": {
            "targets": targets,
            "num_channels": channels,
            "sample_rate": 8000,
            "sample_length": 0.25,
            "num_fft": 64,
            "window_size": 64,
            "hop_length": 32,
        },
        "training": {"device": "cpu", "criterion": criterion, **training},
    }
    return validate(Config, data)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.2


def stft_magnitude(audio: Tensor) -> Tensor:
    """Return magnitudes straight from the definition: frames centred on multiples of the hop, zeros outside."""
    hops = -(-audio.shape[-1] // 32)
    padded = nn.functional.pad(audio, (32, hops * 32 - audio.shape[-1] + 32))
    frames = padded.unfold(-1, 64, 32) * torch.hann_window(64)
    return torch.fft.rfft(frames).abs().transpose(-1, -2)


@pytest.mark.parametrize("with_axis", [True, False])
@pytest.mark.parametrize("channels", [1, 2])
def test_identity_network_gives_the_input_back_exactly(with_axis: bool, channels: int) -> None:
    model = WaveformModel(settings(["vocals"], channels), Gains([1.0], with_axis=with_axis))
    audio = noise(3, channels, LENGTH)
    assert torch.equal(model.separate(audio), audio.unsqueeze(1))


def test_targets_keep_their_order_and_channels_theirs() -> None:
    model = WaveformModel(settings(["vocals", "drums", "bass"], 2), Gains([1.0, 0.5, -2.0]))
    audio = noise(2, 2, LENGTH)
    estimates = model.separate(audio)
    assert estimates.shape == (2, 3, 2, LENGTH)
    for index, gain in enumerate([1.0, 0.5, -2.0]):
        assert torch.equal(estimates[:, index], audio * gain)


def test_forward_returns_audio_and_magnitudes_are_those_of_the_audio() -> None:
    model = WaveformModel(settings(["vocals", "drums"]), Gains([0.5, 2.0]))
    mixture, targets = noise(2, 1, LENGTH), noise(2, 2, 1, LENGTH)
    model.set_data(mixture, targets)
    estimates = model.forward()
    assert torch.equal(estimates, torch.stack([mixture * 0.5, mixture * 2], dim=1))
    prediction = model.prediction
    assert prediction is not None
    torch.testing.assert_close(prediction.estimate_magnitude, stft_magnitude(estimates))
    torch.testing.assert_close(prediction.target_magnitude, stft_magnitude(targets))
    torch.testing.assert_close(prediction.mixture_magnitude, stft_magnitude(mixture).unsqueeze(1))


CRITERIA = [("l1", L1Loss()), ("l2", L2Loss()), ("si_sdr", SISDRLoss())]


def loss_of_gains(config: Config, criterion: Criterion, gains: list[float], mixture: Tensor, targets: Tensor) -> float:
    model = WaveformModel(config, Gains(gains), criterion)
    model.set_data(mixture, targets)
    model.test()
    return model.compute_loss()


@pytest.mark.parametrize(("name", "criterion"), CRITERIA)
def test_loss_knows_a_target_from_its_negative_and_its_level(name: str, criterion: Criterion) -> None:
    config = settings(["vocals"], criterion=name)
    audio, rest = noise(2, 4, 1, LENGTH)
    data = (audio + 0.1 * rest, audio.unsqueeze(1))
    good = loss_of_gains(config, criterion, [1.0], *data)
    assert good < loss_of_gains(config, criterion, [-1.0], *data) - 0.5
    assert good < loss_of_gains(config, criterion, [2.0], *data) - 0.2


def test_audio_distance_has_the_size_of_an_error_in_a_bin() -> None:
    """A constant error of 0.1 counts as 0.1 times the root of a Hann window's energy, 3/8 of its length."""
    audio = noise(2, 1, LENGTH)
    config = settings(["vocals"])
    loss = loss_of_gains(config, Nothing(), [1.0], audio, (audio + 0.1).unsqueeze(1))
    assert loss == pytest.approx(0.1 * (64 * 3 / 8) ** 0.5, rel=1e-5)


class Nothing(Criterion):
    """A criterion that is always content."""

    def forward(self, prediction: object) -> Tensor:
        return torch.zeros(())


@pytest.mark.parametrize(("name", "criterion"), CRITERIA[:2])
def test_training_finds_the_gains(name: str, criterion: Criterion) -> None:
    """About half of the mixture is the best estimate of each of two targets that sound alike."""
    network = Gains([0.9, 0.1])
    model = WaveformModel(settings(["vocals", "drums"], criterion=name, lr=0.05), network, criterion)
    vocals, drums = noise(2, 4, 1, LENGTH)
    model.train()
    losses = []
    for _ in range(40):
        model.set_data(vocals + drums, torch.stack([vocals, drums], dim=1))
        model.forward()
        losses.append(model.compute_loss())
        model.backward()
        model.optimizer_step()
    assert losses[-1] < losses[0]
    assert network.gains.tolist() == pytest.approx([0.5, 0.5], abs=0.2)


def test_terms_of_the_network_are_added_while_training() -> None:
    model = WaveformModel(settings(["vocals"]), Costly([1.0]), L1Loss())
    audio = noise(2, 1, LENGTH)
    model.set_data(audio, audio)
    model.train()
    model.forward()
    assert model.compute_loss() == pytest.approx(7.0, abs=1e-6)
    model.test()
    assert model.compute_loss() == pytest.approx(0.0, abs=1e-6)


def test_criterion_that_needs_a_mask_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.criterion.*'mask'.*waveform domain.*l1"):
        WaveformModel(settings(["vocals"], criterion="mask"), Gains([1.0]), MaskLoss())


@pytest.mark.parametrize("shape", [(2, 1, LENGTH), (2, 2, 1, LENGTH - 1), (2, 1, 2, LENGTH), (2, 2, LENGTH)])
def test_network_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    model = WaveformModel(settings(["vocals", "drums"]), Shaped(*shape))
    with pytest.raises(AuralflowError, match=r"Toy: the network returned shape .*\(2, 2, 1, 1000\) is expected"):
        model.separate(noise(2, 1, LENGTH))


def test_mixed_precision_estimates_are_float32() -> None:
    model = WaveformModel(settings(["vocals"], use_mixed_precision=True), nn.Conv1d(1, 1, 3, padding=1), L1Loss())
    audio = noise(2, 1, LENGTH)
    model.set_data(audio, audio)
    assert model.forward().dtype == torch.float32
    assert model.compute_loss() > 0
