from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auralflow_core.masking import extend_masks, ratio_masks


@settings(max_examples=50, deadline=None)
@given(
    num_targets=st.integers(2, 5),
    exponent=st.floats(0.1, 4),
    level=st.sampled_from([0.0, 1e-6, 1.0, 300.0]),
    seed=st.integers(0, 99),
)
def test_ratio_masks_are_shares_of_powers(num_targets: int, exponent: float, level: float, seed: int) -> None:
    magnitudes = level * np.random.default_rng(seed).uniform(size=(2, num_targets, 2, 5, 3))
    powers = magnitudes**exponent
    expected = (powers + 1e-10 / num_targets) / (powers.sum(axis=1, keepdims=True) + 1e-10)
    found = ratio_masks(torch.from_numpy(magnitudes).float(), exponent)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.sum(dim=1).numpy(), 1, rtol=1e-5)


def test_silent_targets_share_alike() -> None:
    assert torch.equal(ratio_masks(torch.zeros(1, 4, 1, 2, 2), 2), torch.full((1, 4, 1, 2, 2), 0.25))


@pytest.mark.parametrize("extension", ["zeros", "average"])
def test_masks_are_extended_above_their_bins(extension: str) -> None:
    masks = torch.rand(2, 3, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    extended = extend_masks(masks, 8, extension)
    assert extended.shape == (2, 3, 2, 8, 4)
    assert torch.equal(extended[..., :5, :], masks)
    above = masks.mean(dim=-2, keepdim=True) if extension == "average" else torch.zeros(1)
    torch.testing.assert_close(extended[..., 5:, :], above.expand(2, 3, 2, 3, 4))


@pytest.mark.parametrize("extension", ["zeros", "average"])
def test_masks_of_all_bins_stay(extension: str) -> None:
    masks = torch.rand(1, 2, 1, 5, 4)
    assert torch.equal(extend_masks(masks, 5, extension), masks)
