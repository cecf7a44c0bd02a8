"""Hermitian matrices of the size of the channel count, one for each bin and frame, and vectors of channels.

Complex numbers are pairs of real tensors here: on a CPU that halves the time of torch's own complex arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]
"""Real and imaginary part."""


@dataclass(frozen=True)
class Hermitian:
    """Matrices by their entries, of which each is a tensor.

    Attributes:
        diagonal: The real entries on the diagonal.
        above: The entries above it by `(row, column)`; those below are their conjugates.
    """

    diagonal: Sequence[Tensor]
    above: Mapping[tuple[int, int], Pair]

    def times(self, vector: Sequence[Pair]) -> list[Pair]:
        """Return the matrices times a vector of channels."""
        product = [(entry * real, entry * imag) for entry, (real, imag) in zip(self.diagonal, vector, strict=True)]
        for (row, column), entry in self.above.items():
            _add(product[row], entry, vector[column], conjugate=1)
            _add(product[column], entry, vector[row], conjugate=-1)
        return product

    def solve(self, vector: Sequence[Pair]) -> list[Pair]:
        """Return the inverse matrices times a vector of channels; two channels by Cramer's rule."""
        if len(self.diagonal) == 1:
            return [(real / self.diagonal[0], imag / self.diagonal[0]) for real, imag in vector]
        if len(self.diagonal) == 2:
            (first, second), (real, imag) = self.diagonal, self.above[0, 1]
            inverse = (first * second).addcmul_(real, real, value=-1).addcmul_(imag, imag, value=-1).reciprocal_()
            solved = Hermitian([second, first], {(0, 1): (-real, -imag)}).times(vector)
            return [(real.mul_(inverse), imag.mul_(inverse)) for real, imag in solved]
        matrix = torch.stack([torch.stack(row, dim=-1) for row in self._rows()], dim=-2)
        answer = torch.linalg.solve(matrix, torch.stack([torch.complex(*pair) for pair in vector], dim=-1))
        return [(value.real, value.imag) for value in answer.unbind(dim=-1)]

    def _rows(self) -> list[list[Tensor]]:
        size = range(len(self.diagonal))
        above = {place: torch.complex(*pair) for place, pair in self.above.items()}
        below = {(column, row): entry.conj() for (row, column), entry in above.items()}
        on = {(place, place): entry + 0j for place, entry in enumerate(self.diagonal)}
        entries = {**above, **below, **on}
        return [[entries[row, column] for column in size] for row in size]


def _add(total: Pair, factor: Pair, other: Pair, *, conjugate: int) -> None:
    """Add `factor * other` in place, or with `conjugate` -1 the conjugate of `factor` times `other`."""
    total[0].addcmul_(factor[0], other[0]).addcmul_(factor[1], other[1], value=-conjugate)
    total[1].addcmul_(factor[0], other[1]).addcmul_(factor[1], other[0], value=conjugate)
