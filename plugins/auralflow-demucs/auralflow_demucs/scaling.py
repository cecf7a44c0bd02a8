"""Bring a signal to mean 0 and deviation 1, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Added to a deviation that a signal is divided by, so that silence stays silent.
_FLOOR = 1e-5


@dataclass(frozen=True)
class Level:
    """Mean and deviation of each item of a batch, in a shape that broadcasts."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Level:
        """Return the level of each item of `(batch, ...)`."""
        axes = tuple(range(1, x.dim()))
        # A single sample has no unbiased deviation.
        deviation = x.std(axes, correction=int(x[0].numel() > 1), keepdim=True)
        return cls(x.mean(axes, keepdim=True), deviation)

    def removed(self, x: Tensor) -> Tensor:
        """Return a signal of this level at mean 0 and deviation 1."""
        return (x - self.mean) / (_FLOOR + self.deviation)

    def restored(self, x: Tensor) -> Tensor:
        """Return a signal of mean 0 and deviation 1 at this level."""
        return torch.addcmul(self.mean, x, self.deviation)
