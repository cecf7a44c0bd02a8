"""Bring a signal to mean 0 and deviation 1."""

from __future__ import annotations

from torch import Tensor

# Added to a deviation that a signal is divided by, so that silence stays silent.
_FLOOR = 1e-5


def standardized(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each item of `(batch, ...)` at mean 0 and deviation 1, its mean and its deviation, which broadcast."""
    axes = tuple(range(1, x.dim()))
    mean = x.mean(axes, keepdim=True)
    # A single sample has no unbiased deviation.
    deviation = x.std(axes, correction=int(x[0].numel() > 1), keepdim=True)
    return (x - mean) / (_FLOOR + deviation), mean, deviation
