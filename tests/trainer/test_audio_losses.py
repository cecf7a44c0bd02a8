"""Losses of audio and of its spectra, each against its formula in numpy or scipy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import ShortTimeFFT, get_window
from torch import Tensor

from auralflow_core.errors import ConfigError
from auralflow_core.losses import (
    ComplexMSELoss,
    Criterion,
    L1Loss,
    LogL1Loss,
    MaskLoss,
    MultiResolutionSTFTLoss,
    QuantileLoss,
    SISDRLoss,
    WeightedSum,
)


def fake(batch: int = 3, *, is_silent: bool = False, seed: int = 0) -> Any:
    rng = torch.Generator().manual_seed(seed)
    target, estimate = (torch.randn(batch, 2, 2, 700, generator=rng) * 0.1 for _ in range(2))
    magnitude = torch.rand(batch, 2, 2, 9, 4, generator=rng)
    return SimpleNamespace(
        estimate_audio=estimate.requires_grad_(),
        target_audio=0 * target if is_silent else target,
        estimate_magnitude=magnitude,
        target_magnitude=0.7 * magnitude,
        terms={},
    )


def value_of(loss: Criterion, batch: Any) -> float:
    found: Tensor = loss(batch)
    return float(found.detach())


def spectra(audio: Tensor, num_fft: int) -> np.ndarray[Any, np.dtype[np.complex128]]:
    """Transform with scipy: frames centred on multiples of a quarter of the window, as many as cover the audio."""
    hop = num_fft // 4
    transform = ShortTimeFFT(get_window("hann", num_fft), hop, fs=1)
    samples = audio.detach().double().numpy()
    frames = 1 + -(-samples.shape[-1] // hop)
    found: np.ndarray[Any, np.dtype[np.complex128]] = transform.stft(samples, p0=0, p1=frames)
    return found


def test_log_l1() -> None:
    batch = fake()
    errors = (batch.estimate_audio - batch.target_audio).abs().detach().double().numpy().mean(axis=(-2, -1))
    assert value_of(LogL1Loss(), batch) == pytest.approx(float(np.mean(10 * np.log10(errors))), rel=1e-5)


@pytest.mark.parametrize("num_fft", [64, 512])
def test_complex_mse(num_fft: int) -> None:
    batch = fake()
    error = spectra(batch.estimate_audio, num_fft) - spectra(batch.target_audio, num_fft)
    assert value_of(ComplexMSELoss(num_fft), batch) == pytest.approx(float(np.mean(np.abs(error) ** 2)), rel=1e-4)


def test_complex_mse_knows_a_target_from_its_negative() -> None:
    batch = fake()
    batch.estimate_audio = -batch.target_audio
    assert value_of(ComplexMSELoss(64), batch) > 0.01
    batch.estimate_audio = batch.target_audio
    assert value_of(ComplexMSELoss(64), batch) == 0


def test_multi_resolution_stft() -> None:
    batch = fake()
    values = []
    for num_fft in (64, 256):
        loss = MultiResolutionSTFTLoss([num_fft])
        [stft] = loss.stfts
        estimate = np.abs(stft(batch.estimate_audio).detach().numpy())
        target = np.abs(stft(batch.target_audio).numpy())
        size, error = (np.sqrt((each**2).sum(axis=(-3, -2, -1))) for each in (target, target - estimate))
        logs = np.abs(np.log(np.maximum(target, 1e-5)) - np.log(np.maximum(estimate, 1e-5)))
        values.append(np.mean(error / size) + np.mean(logs))
        assert value_of(loss, batch) == pytest.approx(float(values[-1]), rel=1e-4)
    assert value_of(MultiResolutionSTFTLoss([64, 256]), batch) == pytest.approx(float(np.mean(values)), rel=1e-4)


class TestQuantile:
    def test_the_worst_items_of_each_target_are_left_out(self) -> None:
        batch = fake(5)
        with torch.no_grad():
            batch.estimate_audio[2, 0] += 9
            batch.estimate_audio[4, 1] += 9
        errors = (batch.estimate_audio - batch.target_audio).detach().square().mean(dim=(-2, -1))
        kept = [errors[item, 0] for item in (0, 1, 3, 4)] + [errors[item, 1] for item in (0, 1, 2, 3)]
        loss = QuantileLoss(0.75)(batch)
        assert float(loss.detach()) == pytest.approx(float(torch.stack(kept).mean()), rel=1e-5)
        loss.backward()
        assert not batch.estimate_audio.grad[2, 0].any() and batch.estimate_audio.grad[2, 1].any()

    def test_one_item_alone_counts(self) -> None:
        batch = fake(1)
        loss = QuantileLoss()(batch)
        assert float(loss.detach()) == pytest.approx(
            float((batch.estimate_audio - batch.target_audio).detach().square().mean())
        )
        loss.backward()
        assert batch.estimate_audio.grad.any()

    def test_its_range(self) -> None:
        with pytest.raises(ConfigError, match=r"quantile 1\.5 is not above 0"):
            QuantileLoss(1.5)


class TestWeightedSum:
    def test_weights(self) -> None:
        batch = fake()
        parts = (L1Loss(), SISDRLoss())
        expected = 0.3 * value_of(parts[0], batch) + 2 * value_of(parts[1], batch)
        both = WeightedSum([(0.3, parts[0]), (2.0, parts[1])])
        assert value_of(both, batch) == pytest.approx(expected, rel=1e-6)

    def test_it_needs_what_its_parts_need(self) -> None:
        assert WeightedSum([(1.0, L1Loss()), (1.0, MaskLoss())]).needs_mask
        assert not WeightedSum([(1.0, L1Loss())]).needs_mask


@pytest.mark.parametrize(
    "loss", [LogL1Loss(), ComplexMSELoss(64), MultiResolutionSTFTLoss([64]), QuantileLoss()], ids=type
)
@pytest.mark.parametrize("is_silent", [True, False])
def test_values_and_gradients_are_finite(loss: Criterion, is_silent: bool) -> None:
    for equal in (True, False):
        batch = fake(2, is_silent=is_silent)
        if equal:
            batch.estimate_audio = batch.target_audio.clone().requires_grad_()
        value = loss(batch)
        value.backward()
        assert value.isfinite() and batch.estimate_audio.grad.isfinite().all()
