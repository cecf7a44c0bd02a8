from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auralflow_core.config import Config, validate
from auralflow_core.errors import AuralflowError, ConfigError
from auralflow_core.losses import ComponentLoss, Criterion, L1Loss, MaskLoss, SISDRLoss
from auralflow_core.model import ComplexSpectrogramModel

LENGTH = 1000


class Masks(nn.Module):
    """The same learned complex mask everywhere, one for each target."""

    def __init__(self, masks: list[complex], *, with_axis: bool = True) -> None:
        super().__init__()
        self.parts = nn.Parameter(torch.view_as_real(torch.tensor(masks, dtype=torch.complex64)).clone())
        self.with_axis = with_axis

    def forward(self, spectrogram: Tensor) -> Tensor:
        assert spectrogram.dtype == torch.complex64
        masks = torch.view_as_complex(self.parts)[:, None, None, None]
        batch, *rest = spectrogram.shape
        masks = masks.expand(batch, -1, *rest)
        return masks if self.with_axis else masks.squeeze(1)


class Spectrograms(Masks):
    """The same, multiplied by the network itself."""

    output = "spectrogram"

    def forward(self, spectrogram: Tensor) -> Tensor:
        return super().forward(spectrogram) * spectrogram.unsqueeze(1)


class Real(Masks):
    def forward(self, spectrogram: Tensor) -> Tensor:
        return super().forward(spectrogram).real


class Odd(Masks):
    output = "masks"


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


@pytest.mark.parametrize("network", [Masks([1]), Masks([1], with_axis=False), Spectrograms([1])])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("length", [1, 63, 64, LENGTH])
def test_mask_of_ones_gives_the_mixture_back(network: nn.Module, channels: int, length: int) -> None:
    model = ComplexSpectrogramModel(settings(["vocals"], channels), network)
    audio = noise(3, channels, length)
    torch.testing.assert_close(model.separate(audio), audio.unsqueeze(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [Masks, Spectrograms])
def test_masks_scale_and_turn_the_phase(kind: type[Masks]) -> None:
    """A cosine whose spectrogram is turned by -90 degrees is a sine."""
    model = ComplexSpectrogramModel(settings(["vocals", "drums"]), kind([0.5, -1j]))
    phase = 2 * torch.pi * 8 / 64 * torch.arange(LENGTH)
    estimates = model.separate(phase.cos().reshape(1, 1, -1))
    inner = slice(128, -128)
    torch.testing.assert_close(estimates[0, 0, 0], 0.5 * phase.cos(), rtol=0, atol=1e-5)
    torch.testing.assert_close(estimates[0, 1, 0, inner], phase.sin()[inner], rtol=0, atol=1e-4)


def test_forward_returns_complex_spectrograms() -> None:
    model = ComplexSpectrogramModel(settings(["vocals", "drums"], 2), Masks([1, 2j]))
    audio = noise(2, 2, LENGTH)
    model.set_data(audio)
    estimates = model.forward()
    mixture = model.stft(audio)
    assert estimates.dtype == torch.complex64
    torch.testing.assert_close(estimates, torch.stack([mixture, 2j * mixture], dim=1))


@pytest.mark.parametrize(("name", "criterion"), [("l1", L1Loss()), ("si_sdr", SISDRLoss())])
def test_losses_have_a_gradient_by_magnitude_and_phase(name: str, criterion: Criterion) -> None:
    """Where the phase differs from bin to bin: one turn for the whole spectrogram is not heard in magnitudes."""
    torch.manual_seed(0)
    network = FreeMask()
    model = ComplexSpectrogramModel(settings(["vocals"], criterion=name), network, criterion)
    model.set_data(noise(1, 1, LENGTH), noise(2, 1, 1, LENGTH)[1:])
    model.train()
    model.forward()
    model.compute_loss()
    model.backward()
    for gradient in (network.magnitude.grad, network.phase.grad):
        assert gradient is not None
        assert gradient.isfinite().all()
        assert gradient.norm() > 1e-4


class FreeMask(nn.Module):
    """A mask with a magnitude and a phase for each bin."""

    def __init__(self) -> None:
        super().__init__()
        self.magnitude = nn.Parameter(torch.rand(33, 1))
        self.phase = nn.Parameter(torch.randn(33, 1))

    def forward(self, spectrogram: Tensor) -> Tensor:
        return torch.polar(self.magnitude, self.phase).expand(spectrogram.shape)


@pytest.mark.parametrize("start", [0.6 - 0.5j, -0.8 + 0.1j])
def test_training_turns_the_phase_to_that_of_the_target(start: complex) -> None:
    """Also from near the target's negative, which magnitudes take for the target."""
    network = Masks([start])
    model = ComplexSpectrogramModel(settings(["vocals"], lr=0.1), network, L1Loss())
    audio = noise(2, 1, LENGTH)
    model.train()
    for _ in range(60):
        model.set_data(audio, audio)
        model.forward()
        model.compute_loss()
        model.backward()
        model.optimizer_step()
    assert network.parts.detach()[0].tolist() == pytest.approx([1.0, 0.0], abs=0.15)


def test_silence_has_finite_gradients() -> None:
    network = Masks([1 + 1j])
    model = ComplexSpectrogramModel(settings(["vocals"]), network, L1Loss())
    silence = torch.zeros(2, 1, LENGTH)
    model.set_data(silence, silence)
    model.train()
    assert not model.forward().any()
    assert model.compute_loss() == 0
    model.backward()
    assert network.parts.grad is not None
    assert network.parts.grad.isfinite().all()


@pytest.mark.parametrize("criterion", [MaskLoss(), ComponentLoss()])
def test_criterion_of_real_masks_is_refused(criterion: Criterion) -> None:
    with pytest.raises(ConfigError, match=r"training\.criterion.*complex domain"):
        ComplexSpectrogramModel(settings(["vocals"], criterion="mask"), Masks([1]), criterion)


def test_real_output_is_refused() -> None:
    model = ComplexSpectrogramModel(settings(["vocals"]), Real([1]))
    with pytest.raises(AuralflowError, match=r"float32 where complex numbers are expected"):
        model.separate(noise(1, 1, LENGTH))


def test_unknown_output_is_refused() -> None:
    with pytest.raises(AuralflowError, match=r"output is 'masks', neither mask nor spectrogram"):
        ComplexSpectrogramModel(settings(["vocals"]), Odd([1]))


def test_missing_target_is_refused() -> None:
    model = ComplexSpectrogramModel(settings(["vocals", "drums"]), Masks([1]))
    with pytest.raises(AuralflowError, match=r"shape \(1, 1, 1, 33, 33\).*\(1, 2, 1, 33, 33\) is expected"):
        model.separate(noise(1, 1, LENGTH))
