"""Oracles against their definitions, written out here with scipy's STFT, and against what has to hold for them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import istft, stft

from auralflow_core.evaluate.oracles import ORACLES, oracle_estimates
from auralflow_core.metrics import si_sdr

RATE = 44100
NUM_FFT = 2048


def make_stems(seconds: float = 1.0, channels: int = 2, sources: int = 3) -> NDArray[np.float32]:
    """Tones that glide and noise, each panned to its own place."""
    rng = np.random.default_rng(3)
    time = np.arange(round(seconds * RATE)) / RATE
    stems = []
    for number in range(sources):
        tone = np.sin(2 * np.pi * (150 * (number + 1) * time + 40 * np.sin(2 * np.pi * (number + 1) * time)))
        noise = 0.1 * np.convolve(rng.standard_normal(time.size), np.ones(number + 1) / (number + 1), "same")
        pan = rng.uniform(0.2, 1, (channels, 1))
        stems.append(0.1 * pan * (tone + noise) + 0.001 * rng.standard_normal((channels, time.size)))
    return np.array(stems, dtype=np.float32)


def spectra(audio: NDArray[np.float64]) -> NDArray[np.complex128]:
    found: NDArray[np.complex128] = stft(audio, nperseg=NUM_FFT, window="hann", boundary="zeros")[2]
    return found


def back(spectrogram: NDArray[np.complex128], length: int) -> NDArray[np.float64]:
    audio: NDArray[np.float64] = istft(spectrogram, nperseg=NUM_FFT, window="hann")[1][..., :length]
    return audio


def by_definition(name: str, stems: NDArray[np.float64], mixture: NDArray[np.float64]) -> NDArray[np.float64]:
    mixed, parts = spectra(mixture), spectra(stems)
    power = np.abs(parts) ** 2
    if name == "irm":
        filtered = mixed * power / power.sum(axis=0)
    elif name == "ibm":
        filtered = np.where(np.abs(parts) > 0.5 * np.abs(mixed), mixed, 0)
    else:
        mean_power = power.mean(axis=1)
        spatial = np.einsum("scft,sdft,sft->sfcd", parts, parts.conj(), 1 / mean_power)
        spatial *= stems.shape[1] / np.trace(spatial, axis1=2, axis2=3).real[..., None, None]
        covariances = mean_power[..., None, None] * spatial[:, :, None]
        gains = covariances @ np.linalg.inv(covariances.sum(axis=0))
        filtered = np.einsum("sftcd,dft->scft", gains, mixed)
    return back(filtered, mixture.shape[-1])


@pytest.mark.parametrize("name", ORACLES)
def test_an_oracle_is_what_its_definition_says(name: str) -> None:
    stems = make_stems()
    mixture = stems.sum(axis=0)
    found = oracle_estimates(name, stems, mixture, RATE)
    assert found.shape == stems.shape and found.dtype == np.float32
    # Not at the ends, beyond which scipy pads one window less.
    inner = slice(2 * NUM_FFT, -2 * NUM_FFT)
    expected = by_definition(name, stems.astype(np.float64), mixture.astype(np.float64))
    # The covariances are means over frames, of which scipy has one less.
    tolerance = 5e-3 if name == "mwf" else 2e-4
    assert np.abs(found - expected)[..., inner].max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("name", ORACLES)
def test_long_songs_are_filtered_in_blocks_without_seams(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from auralflow_core.evaluate import oracles

    stems = make_stems(seconds=1.3, sources=2)
    whole = oracle_estimates(name, stems, stems.sum(axis=0), RATE)
    monkeypatch.setattr(oracles, "_BLOCK_WINDOWS", 5)
    assert np.abs(oracle_estimates(name, stems, stems.sum(axis=0), RATE) - whole).max() < 1e-6


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", ORACLES)
def test_an_oracle_beats_the_mixture(name: str, channels: int) -> None:
    stems = make_stems(channels=channels)
    mixture = stems.sum(axis=0)
    mixtures = np.broadcast_to(mixture, stems.shape)
    gains = si_sdr(stems, oracle_estimates(name, stems, mixture, RATE)) - si_sdr(stems, mixtures)
    assert (gains > 3).all()


def test_ratio_masks_and_wiener_filters_share_the_mixture_among_the_stems() -> None:
    stems = make_stems()
    mixture = stems.sum(axis=0)
    for name in ("irm", "mwf"):
        assert np.abs(oracle_estimates(name, stems, mixture, RATE).sum(axis=0) - mixture).max() < 1e-5


@pytest.mark.parametrize("name", ORACLES)
def test_silence_and_short_songs_stay_finite(name: str) -> None:
    stems = make_stems(seconds=0.01)
    stems[0] = 0
    found = oracle_estimates(name, stems, stems.sum(axis=0), RATE)
    assert np.isfinite(found).all() and np.abs(found[0]).max() < 1e-6
    nothing = np.zeros((2, 1, 5000), np.float32)
    assert not oracle_estimates(name, nothing, nothing[0], 8000).any()
