"""Wiener filtering against norbert, openunmix (stored, see make_reference.py) and the formulas written out in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from auralflow_core.masking import ratio_masks, wiener

EPS_NORBERT = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    return load_file(Path(__file__).with_name("reference.safetensors"))


def spectrogram(stored: Tensor) -> Tensor:
    """Return a stored mixture `(frame, bin, channel, 2)` as complex `(1, channel, bin, frame)`."""
    return torch.view_as_complex(stored).permute(2, 1, 0).unsqueeze(0)


def targets(stored: Tensor) -> Tensor:
    """Return stored `(frame, bin, channel, target)` as `(1, target, channel, bin, frame)`."""
    return stored.permute(3, 2, 1, 0).unsqueeze(0)


def with_phase_of(mixture: Tensor, magnitudes: Tensor) -> Tensor:
    return magnitudes * torch.exp(1j * mixture.angle()).unsqueeze(1)


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def random_case(channels: int, num_targets: int, bins: int, frames: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return estimates and the mixture, which is their sum and some noise."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(1, num_targets, channels, bins, frames, generator=generator, dtype=torch.complex64)
    y *= 4 * torch.rand(1, num_targets, 1, bins, frames, generator=generator)
    rest = torch.randn(1, channels, bins, frames, generator=generator, dtype=torch.complex64)
    return y, y.sum(dim=1) + 0.3 * rest


def by_formula(estimates: Tensor, mixture: Tensor, iterations: int, eps: float) -> Tensor:
    """Return what the equations give, bin by bin and frame by frame, in double precision."""
    y, x = estimates[0].numpy().astype(complex), mixture[0].numpy().astype(complex)
    scale = max(1, np.abs(x).max() / 10)
    y, x = y / scale, x / scale
    _, channels, bins, frames = y.shape
    for _ in range(iterations):
        v = (np.abs(y) ** 2).mean(axis=1)
        refined = np.zeros_like(y)
        for f in range(bins):
            outer = np.einsum("jcn,jdn->jcd", y[:, :, f], y[:, :, f].conj())
            spatial = outer / (eps + v[:, f].sum(axis=-1))[:, None, None]
            for n in range(frames):
                covariances = v[:, f, n, None, None] * spatial
                inverse = np.linalg.inv(covariances.sum(axis=0) + np.sqrt(eps) * np.eye(channels))
                refined[:, :, f, n] = covariances @ inverse @ x[:, f, n]
        y = refined
    return torch.from_numpy((y * scale).astype(np.complex64)).unsqueeze(0)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("softmask", [False, True])
def test_equals_norbert(reference: dict[str, Tensor], channels: int, iterations: int, softmask: bool) -> None:
    mixture = spectrogram(reference[f"mixture{channels}"])
    magnitudes = targets(reference[f"magnitudes{channels}"])
    first = ratio_masks(magnitudes, 1) * mixture.unsqueeze(1) if softmask else with_phase_of(mixture, magnitudes)
    expected = targets(torch.view_as_complex(reference[f"norbert{channels}{iterations}{softmask}"]))
    assert relative_error(wiener(first, mixture, iterations, eps=EPS_NORBERT), expected) < 1e-5


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("residual", [False, True])
def test_equals_openunmix(reference: dict[str, Tensor], channels: int, residual: bool) -> None:
    mixture = spectrogram(reference[f"mixture{channels}"])
    first = with_phase_of(mixture, targets(reference[f"magnitudes{channels}"]))
    expected = targets(torch.view_as_complex(reference[f"openunmix{channels}{residual}"]))[:, :3]
    assert relative_error(wiener(first, mixture, residual=residual), expected) < 1e-5


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 4),
    num_targets=st.integers(1, 4),
    bins=st.integers(1, 5),
    frames=st.integers(5, 12),
    iterations=st.integers(0, 3),
    eps=st.sampled_from([1e-10, 1e-7, 1e-3]),
    seed=st.integers(0, 99),
)
def test_equals_the_formulas(
    channels: int, num_targets: int, bins: int, frames: int, iterations: int, eps: float, seed: int
) -> None:
    estimates, mixture = random_case(channels, num_targets, bins, frames, seed)
    found = wiener(estimates, mixture, iterations, eps=eps)
    expected = by_formula(estimates, mixture, iterations, eps) if iterations else estimates
    assert relative_error(found, expected) < 1e-4


def test_equal_channels_are_filtered_as_one() -> None:
    """There the covariances are singular, and noise of rounding would decide over the result."""
    estimates, mixture = random_case(1, 3, 20, 50, 0)
    # Of noise, half falls on the direction of the targets.
    alone = wiener(estimates, 100 * mixture, eps=1e-10 / 4)
    both = wiener(estimates.repeat(1, 1, 2, 1, 1), 100 * mixture.repeat(1, 2, 1, 1))
    assert relative_error(both, alone.repeat(1, 1, 2, 1, 1)) < 1e-4


def test_nearly_equal_channels_stay_at_their_level() -> None:
    estimates, mixture = random_case(1, 3, 20, 50, 0)
    generator = torch.Generator().manual_seed(1)
    noise = 1e-4 * torch.randn(1, 2, 20, 50, generator=generator, dtype=torch.complex64)
    shares = estimates.abs() / estimates.abs().sum(dim=1, keepdim=True)
    stereo = 10 * mixture.repeat(1, 2, 1, 1) + noise
    found = wiener(shares * stereo.unsqueeze(1), stereo)
    assert relative_error(found.sum(dim=1), stereo) < 1e-3


def test_targets_add_up_to_the_mixture() -> None:
    estimates, mixture = random_case(2, 3, 9, 30, 3)
    assert relative_error(wiener(estimates, mixture).sum(dim=1), mixture) < 1e-3


def test_items_of_a_batch_are_filtered_alone() -> None:
    cases = [random_case(2, 2, 6, 10, seed) for seed in (0, 1)]
    estimates, mixture = (torch.cat([left, 50 * right]) for left, right in zip(*cases, strict=True))
    together = wiener(estimates, mixture, 2)
    for item in (0, 1):
        alone = wiener(estimates[item : item + 1], mixture[item : item + 1], 2)
        assert relative_error(together[item : item + 1], alone) < 1e-6


def test_silence_stays_silent_and_finite() -> None:
    silence = torch.zeros(1, 2, 2, 4, 6, dtype=torch.complex64)
    assert not wiener(silence, silence[:, 0], 2).any()
