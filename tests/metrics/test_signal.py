"""The metrics without filters, against their definitions and against signals of known value."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auralflow_core.errors import DataError
from auralflow_core.losses import si_sdr as si_sdr_of_losses
from auralflow_core.metrics import energy_at_silence, log_spectral_distance, loudness, si_sdr, snr, usdr

Array = NDArray[np.float64]
PAIRED = [si_sdr, snr, usdr, log_spectral_distance, energy_at_silence]


def noise(seed: int, *shape: int) -> Array:
    return 0.1 * np.random.default_rng(seed).standard_normal(shape)


def sine(level_db: float, seconds: float, sample_rate: int, frequency: float = 997.0) -> Array:
    """A sine `(time,)` with its peaks at `level_db` dBFS."""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.asarray(10 ** (level_db / 20) * np.sin(2 * np.pi * frequency * times))


@pytest.mark.parametrize("decibels", [-5.0, 0.0, 20.0])
def test_ratios_of_noise_at_a_known_level(decibels: float) -> None:
    references = noise(0, 3, 2, 8000)
    errors = noise(1, 3, 2, 8000)
    errors *= np.sqrt((references**2).sum((1, 2)) / (errors**2).sum((1, 2)) / 10 ** (decibels / 10))[:, None, None]
    np.testing.assert_allclose(snr(references, references + errors), decibels, atol=1e-9)
    # The constant is 1e-7 beside energies of 160.
    np.testing.assert_allclose(usdr(references, references + errors), decibels, atol=1e-6)


def test_silence_in_the_ratios() -> None:
    sound, silence = noise(0, 1, 2, 1000), np.zeros((1, 2, 1000))
    assert np.isnan(snr(silence, sound)).all()
    assert np.isnan(si_sdr(silence, sound)).all()
    assert np.isposinf(snr(sound, sound)).all()
    assert snr(sound, silence) == 0
    assert usdr(silence, silence) == 0
    assert np.isfinite(usdr(silence, sound)).all()
    assert np.isneginf(si_sdr(sound, silence)).all() or np.isnan(si_sdr(sound, silence)).all()


@given(seed=st.integers(0, 999), gain=st.floats(0.01, 100), sign=st.sampled_from([-1, 1]))
@settings(max_examples=20, deadline=None)
def test_si_sdr_does_not_depend_on_the_gain_and_is_that_of_the_loss(seed: int, gain: float, sign: int) -> None:
    references = noise(seed, 2, 2, 500)
    estimates = references + noise(seed + 1000, 2, 2, 500)
    expected = si_sdr(references, estimates)
    np.testing.assert_allclose(si_sdr(references, sign * gain * estimates), expected, rtol=0, atol=1e-6)
    loss = si_sdr_of_losses(torch.from_numpy(estimates), torch.from_numpy(references)).mean(dim=-1)
    np.testing.assert_allclose(expected, loss.numpy(), rtol=0, atol=1e-3)


def test_a_silent_channel_does_not_count_in_si_sdr() -> None:
    references = noise(0, 1, 2, 1000)
    estimates = references + noise(1, 1, 2, 1000)
    references[:, 1] = 0
    np.testing.assert_allclose(si_sdr(references, estimates), si_sdr(references[:, :1], estimates[:, :1]))


@given(gain_db=st.floats(-20, 20), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_gain_is_its_own_log_spectral_distance(gain_db: float, seed: int) -> None:
    references = noise(seed, 2, 2, 6000)
    estimates = references * 10 ** (gain_db / 20)
    distance = log_spectral_distance(references, estimates, floor_db=-200)
    np.testing.assert_allclose(distance, abs(gain_db), rtol=0, atol=1e-6)
    np.testing.assert_allclose(log_spectral_distance(estimates, references, floor_db=-200), distance)


def test_log_spectral_distance_has_a_floor_and_takes_short_signals() -> None:
    silence = np.zeros((1, 1, 5000))
    assert log_spectral_distance(silence, silence + 1e-9) == 0
    assert 0 < log_spectral_distance(noise(0, 1, 1, 100), noise(1, 1, 1, 100)) < 80


@pytest.mark.parametrize(("sample_rate", "tolerance"), [(16000, 0.05), (44100, 0.02), (48000, 0.01)])
@pytest.mark.parametrize("channels", [1, 2])
def test_loudness_of_the_calibration_tone(sample_rate: int, tolerance: float, channels: int) -> None:
    # BS.1770-4, annex 1: a 997 Hz sine at 0 dBFS in one channel reads -3.01 LKFS.
    tone = np.stack([sine(-20, 3, sample_rate)] * channels)[None]
    expected = -20 - 3.01 + 10 * math.log10(channels)
    assert loudness(tone, sample_rate=sample_rate) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    "parts",
    [
        [(-36, 10), (-23, 60), (-36, 10)],
        [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)],
    ],
)
def test_loudness_of_the_gating_signals(parts: list[tuple[float, float]]) -> None:
    # EBU Tech 3341, table 1, cases 3 and 4: both read -23 LUFS, for their quiet parts are gated.
    signal = np.concatenate([sine(level, seconds, 8000) for level, seconds in parts])
    assert loudness(np.stack([signal, signal])[None], sample_rate=8000) == pytest.approx(-23.0, abs=0.1)


def test_loudness_of_silence_and_of_too_many_channels() -> None:
    assert np.isneginf(loudness(np.zeros((2, 1, 50000)), sample_rate=44100)).all()
    assert np.isneginf(loudness(np.ones((1, 1, 100)), sample_rate=44100)).all()
    with pytest.raises(DataError, match="6 channels"):
        loudness(np.zeros((1, 6, 100)), sample_rate=44100)


def test_surround_channels_weigh_more() -> None:
    tone = np.zeros((2, 5, 48000))
    tone[0, 0] = tone[1, 4] = sine(-20, 1, 48000)
    front, surround = loudness(tone, sample_rate=48000)
    assert surround - front == pytest.approx(10 * math.log10(1.41), abs=1e-6)


def test_energy_at_silence_is_the_level_of_the_estimate_where_the_reference_is_silent() -> None:
    references = noise(0, 1, 2, 40000)
    references[..., 10000:30000] = 0
    estimates = references.copy()
    estimates[..., 10000:20000] = 0.1
    assert energy_at_silence(references, estimates, frame=10000) == pytest.approx((-20 - 100) / 2)
    assert np.isnan(energy_at_silence(estimates[..., :10000], estimates[..., :10000], frame=10000)).all()


def test_a_shorter_last_frame_counts_with_its_own_level() -> None:
    references = np.zeros((1, 1, 1500))
    references[..., :1000] = 0.5
    estimates = np.full((1, 1, 1500), 0.01)
    assert energy_at_silence(references, estimates, frame=1000) == pytest.approx(-40)


@pytest.mark.parametrize("metric", PAIRED)
def test_tensors_score_as_arrays_one_value_for_each_target(metric: object) -> None:
    assert callable(metric)
    references = noise(0, 3, 2, 90000)
    references[:, :, :45000] = 0
    estimates = references + noise(1, 3, 2, 90000)
    scores = metric(references, estimates)
    assert scores.shape == (3,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(metric(torch.from_numpy(references), torch.from_numpy(estimates)), scores)


@pytest.mark.parametrize("metric", PAIRED)
def test_shapes_that_do_not_fit_are_refused(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(DataError, match="must be equal"):
        metric(noise(0, 2, 2, 100), noise(0, 2, 2, 101))


def test_sizes_below_one_are_refused() -> None:
    audio = noise(0, 1, 1, 100)
    with pytest.raises(DataError, match="hop 0"):
        log_spectral_distance(audio, audio, hop=0)
    with pytest.raises(DataError, match="frame is 0"):
        energy_at_silence(audio, audio, frame=0)
