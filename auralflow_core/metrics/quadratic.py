"""Energies of filtered references in frames, from the frames' correlations and the filters alone.

A projection is linear in the references, so that its energy is a quadratic form of the filters with the references'
correlations: no signal has to be filtered. Where little is left of large terms, rounding shows, and a bound on it says
so.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auralflow_core.metrics.correlations import Correlations
from auralflow_core.metrics.filters import Filters

# The share of an energy that rounding may change, and of the bound on its terms that rounding does change.
TOLERANCE = 1e-7
EPSILON = float(np.finfo(np.float64).eps)


def part_energies(
    filters: Filters, frames: Iterable[Correlations], errors: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the energies `(energy, frame, target)` in the order of `filtered_energies`.

    Args:
        filters: The filters.
        frames: The correlations within each frame.
        errors: Energies of the references and of estimate minus reference in each frame, `(frame, 2, target)`.

    Returns:
        The energies, and in which frames `(frame,)` rounding may show in one of them.
    """
    forms = _Forms(filters)
    found = []
    for lags, error in zip(frames, errors, strict=True):
        found.append(forms.energies(lags, torch.from_numpy(error).to(lags.gram)))
    energies, doubtful = (torch.stack(part, dim=1).cpu().numpy() for part in zip(*found, strict=True))
    return energies, np.asarray(doubtful.any(axis=(0, 2)))


class _Forms:
    """The quadratic forms of p - s, p, q - p, q and q - s, where p is the own and q the whole projection."""

    def __init__(self, filters: Filters) -> None:
        targets, channels, rows, taps = filters.whole.shape
        self.shape = (targets, channels)
        own = filters.whole.new_zeros(filters.whole.shape)
        unit = filters.whole.new_zeros(targets * channels, rows, taps)
        unit[..., 0].fill_diagonal_(1)
        unit = unit.view_as(own)
        for target in range(targets):
            own[target, :, target * channels : (target + 1) * channels] = filters.own[target]
        self.excess = filters.whole - unit
        signals = torch.stack([own - unit, own, filters.whole - own, filters.whole, self.excess])
        responses = torch.fft.rfft(signals, n=2 * taps)
        self.gains = responses.abs().amax(dim=-1)  # (form, target, channel, row)
        by_bin = responses.permute(0, 1, 4, 3, 2)
        lags = torch.fft.irfft((by_bin @ by_bin.mH).permute(0, 1, 3, 4, 2), n=2 * taps)[..., :taps]
        # Each lag but 0 stands for the one behind too, the same with the two rows exchanged.
        self.weights = lags.clone()
        self.weights[..., 1:] *= 2

    def energies(self, lags: Correlations, errors: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies `(energy, target)` in one frame, and where rounding may show in them."""
        energies = (self.weights.flatten(2) @ lags.gram.flatten()).clone()
        loudness = lags.gram[..., 0].diagonal().clamp_min(0).sqrt()
        terms = self.gains @ loudness  # (form, target, channel)
        # e - q is the rest of e - s when q - s is taken from it.
        shared = (lags.cross - lags.gram).view(-1, *self.shape, lags.gram.shape[2])
        energies[4] += errors[1] - 2 * torch.einsum("tcrd,rtcd->t", self.excess, shared)
        terms[4] += errors.sum(dim=0).sqrt()[:, None]
        limits = EPSILON / TOLERANCE * terms.square().sum(dim=2)
        return energies, energies < limits
