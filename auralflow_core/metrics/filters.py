"""Distortion filters: the least-squares filters from all references, and from a target's own, to each estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auralflow_core.metrics.correlations import Correlations, correlate, gram_matrix
from auralflow_core.metrics.pair import Pair

# The least eigenvalue of the Gram matrix, scaled to a diagonal of ones, at which the order of summations does not
# matter. Measured on songs with an empty upper band and estimates that fill it, v4: frames differ from museval's by
# 1e-7 dB at 1e-8 (16 bits), 6e-6 dB at 5e-10 (18 bits), 2e-4 dB at 4e-11 (20 bits), 0.04 dB at 2e-13 (24 bits).
LEAST_EIGENVALUE = 1e-9
PROBES = 4
# A row is a sum of others when less than a rounding error of it is left. The covariance, itself rounded, only
# points out the suspects.
SUSPECT_SHARE = 1e-10
ROUNDING_SHARE = 1e-26
RESIDUAL_BLOCK = 2**18
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Filters:
    """Filters from references to estimates.

    Attributes:
        whole: From every reference, `(target, channel, reference row, lag)`; rows are flattened (target, channel).
        own: From the target's own channels, `(target, channel, channel, lag)`.
    """

    whole: Tensor
    own: Tensor


def fit_filters(pair: Pair, start: int, stop: int, filter_length: int) -> Filters | None:
    """Fit the filters on the samples `[start, stop)`, with one Cholesky factorisation for all targets.

    Returns:
        The filters, NaN where the audio is not finite; None where the Gram matrix is singular, or so near to it that
        rounding decides the filters.
    """
    lags = correlate(pair, start, stop, filter_length)
    targets, channels = pair.num_targets, pair.num_channels
    if not bool(lags.gram.isfinite().all()):
        return _unknown(pair, filter_length)
    everything = range(targets * channels)
    kept = _independent(pair, lags, everything, start, stop)
    whole = _solve(lags, kept, everything)
    if whole is None:
        return None
    own = []
    for target in range(targets):
        rows = range(target * channels, (target + 1) * channels)
        found = _solve(lags, _independent(pair, lags, rows, start, stop), rows)
        if found is None:
            return None
        own.append(found[:, rows.start : rows.stop])
    return Filters(whole.view(targets, channels, targets * channels, filter_length), torch.stack(own))


def _unknown(pair: Pair, taps: int) -> Filters:
    whole = torch.full((pair.num_targets, pair.num_channels, pair.num_targets * pair.num_channels, taps), torch.nan)
    whole = whole.to(pair.device, torch.float64)
    return Filters(whole, whole[:, :, : pair.num_channels])


def _solve(lags: Correlations, kept: Sequence[int], estimates: range) -> Tensor | None:
    """Return the filters `(estimate row, reference row, lag)` from the kept references; those of others are zero."""
    rows, _, taps = lags.gram.shape
    filters = lags.gram.new_zeros(len(estimates), rows, taps)
    if not kept:
        return filters
    index = torch.tensor(kept, device=filters.device)
    ahead = lags.gram[index][:, index]
    gram = gram_matrix(ahead, ahead.transpose(0, 1))
    gram.diagonal().add_(EPSILON)  # as museval does; it counts where a reference is all but silent
    scale = gram.diagonal().sqrt()[:, None]
    # In place, for this is the largest thing in memory; transposed, since LAPACK's matrices lie by columns.
    failed = torch.empty((), dtype=torch.int32, device=gram.device)
    factor, _ = torch.linalg.cholesky_ex(gram.mT, out=(gram.mT, failed))
    if int(failed):
        return None
    products = lags.cross[index][:, estimates.start : estimates.stop].transpose(1, 2).flatten(0, 1)
    probes = torch.randn(len(scale), PROBES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    probes = probes.to(scale) / probes.norm(dim=0).to(scale)
    # Two solutions instead of `cholesky_solve`, which copies the factor.
    halfway = torch.linalg.solve_triangular(factor, torch.cat([products, scale * probes], dim=1), upper=False)
    solution = torch.linalg.solve_triangular(factor.mT, halfway, upper=True)
    # A step of the power method on the inverse: what it returns is at most 1 / (least eigenvalue), and near it.
    inverse = float((scale * solution[:, len(estimates) :]).norm(dim=0).max())
    if not inverse * LEAST_EIGENVALUE < 1:
        return None
    filters[:, index] = solution[:, : len(estimates)].T.reshape(len(estimates), len(kept), taps)
    return filters


def _independent(pair: Pair, lags: Correlations, rows: range, start: int, stop: int) -> list[int]:
    """Return the rows that are no weighted sum of earlier ones, sample for sample.

    The channels of a mono stem are the usual case. However a filter is split between dependent rows, it projects alike
    in every frame, so that one of them can go, while the Gram matrix of both is singular.
    """
    covariance = lags.gram[..., 0].cpu().numpy()
    kept: list[int] = []
    for row in rows:
        energy = covariance[row, row]
        weights = np.linalg.lstsq(covariance[np.ix_(kept, kept)], covariance[kept, row], rcond=None)[0]
        left = energy - weights @ covariance[kept, row]
        if energy == 0:
            continue
        if left < SUSPECT_SHARE * energy:
            left = _residual_energy(pair, row, kept, weights, start, stop)
        if left > ROUNDING_SHARE * energy:
            kept.append(row)
    return kept


def _residual_energy(
    pair: Pair, row: int, kept: list[int], weights: NDArray[np.float64], start: int, stop: int
) -> float:
    """Return the energy of a reference row less the weighted sum of others."""
    energy = 0.0
    for first in range(start, stop, RESIDUAL_BLOCK):
        references = pair.read(first, min(stop, first + RESIDUAL_BLOCK))[0].flatten(0, 1)
        guess = torch.from_numpy(weights).to(references) @ references[kept]
        energy += float((references[row] - guess).square().sum())
    return energy
