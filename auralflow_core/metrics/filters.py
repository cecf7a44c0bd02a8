"""Distortion filters: the least-squares filters from all references, and from a target's own, to each estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auralflow_core.metrics.correlations import Bounds, gram_matrix
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


class NormalEquations:
    """The normal equations of one set of references, factorised once for all estimates."""

    def __init__(self, pair: Pair, gram: Tensor, stretch: Bounds) -> None:
        """Factorise the Gram matrices of all references, and of each target's own.

        Args:
            pair: The references.
            gram: Their correlations over the stretch, `(row, row, lag)`.
            stretch: First sample and the one after the last.
        """
        targets, channels = pair.num_targets, pair.num_channels
        self.finite = bool(gram.isfinite().all())
        everything = range(targets * channels)
        own = [range(target * channels, (target + 1) * channels) for target in range(targets)]
        self._factors = [
            _Factor.of(gram, _independent(pair, gram, rows, *stretch))
            for rows in ((everything, *own) if self.finite else ())
        ]

    def filters(self, cross: Tensor, num_targets: int) -> Filters | None:
        """Solve for the filters to the estimates.

        Args:
            cross: Correlations of references with estimates, `(row, row, lag)`.
            num_targets: Number of targets that the rows belong to.

        Returns:
            The filters, NaN where the audio is not finite; None where a Gram matrix is singular, or so near to it
            that rounding decides the filters.
        """
        rows, _, taps = cross.shape
        channels = rows // num_targets
        if not self.finite:
            whole = cross.new_full((num_targets, channels, rows, taps), torch.nan)
            return Filters(whole, whole[:, :, :channels])
        if any(factor is None for factor in self._factors):
            return None
        everyone, *own = (factor for factor in self._factors if factor is not None)
        parts = [cross[:, first : first + channels] for first in range(0, rows, channels)]
        found = [factor.solve(part) for factor, part in zip(own, parts, strict=True)]
        return Filters(
            everyone.solve(cross).view(num_targets, channels, rows, taps),
            torch.stack([part[:, n * channels : (n + 1) * channels] for n, part in enumerate(found)]),
        )


@dataclass(frozen=True)
class _Factor:
    """Cholesky factor of the Gram matrix of the kept rows."""

    kept: Tensor
    lower: Tensor

    @classmethod
    def of(cls, gram: Tensor, kept: Sequence[int]) -> _Factor | None:
        """Factorise, or return None if the matrix is singular or near to it."""
        index = torch.tensor(kept, dtype=torch.long, device=gram.device)
        if not kept:
            return cls(index, gram.new_zeros(0, 0))
        ahead = gram[index][:, index]
        matrix = gram_matrix(ahead, ahead.transpose(0, 1))
        matrix.diagonal().add_(EPSILON)  # as museval does; it counts where a reference is all but silent
        scale = matrix.diagonal().sqrt()[:, None]
        # In place, for this is the largest thing in memory; transposed, since LAPACK's matrices lie by columns.
        failed = torch.empty((), dtype=torch.int32, device=gram.device)
        lower, _ = torch.linalg.cholesky_ex(matrix.mT, out=(matrix.mT, failed))
        if int(failed):
            return None
        probes = torch.randn(len(scale), PROBES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        probes = probes.to(scale) / probes.norm(dim=0).to(scale)
        factor = cls(index, lower)
        # A step of the power method on the inverse: what it returns is at most 1 / (least eigenvalue), and near it.
        inverse = float((scale * factor._solve(scale * probes)).norm(dim=0).max())
        return factor if inverse * LEAST_EIGENVALUE < 1 else None

    def solve(self, cross: Tensor) -> Tensor:
        """Return the filters `(estimate row, reference row, lag)`; those of references that are not kept are zero."""
        rows, estimates, taps = cross.shape
        filters = cross.new_zeros(estimates, rows, taps)
        if len(self.kept):
            products = cross[self.kept].transpose(1, 2).flatten(0, 1)
            filters[:, self.kept] = self._solve(products).T.reshape(estimates, len(self.kept), taps)
        return filters

    def _solve(self, products: Tensor) -> Tensor:
        # Two solutions instead of `cholesky_solve`, which copies the factor.
        halfway = torch.linalg.solve_triangular(self.lower, products, upper=False)
        solution: Tensor = torch.linalg.solve_triangular(self.lower.mT, halfway, upper=True)
        return solution


def _independent(pair: Pair, gram: Tensor, rows: range, start: int, stop: int) -> list[int]:
    """Return the rows that are no weighted sum of earlier ones, sample for sample.

    The channels of a mono stem are the usual case. However a filter is split between dependent rows, it projects alike
    in every frame, so that one of them can go, while the Gram matrix of both is singular.
    """
    covariance = gram[..., 0].cpu().numpy()
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
