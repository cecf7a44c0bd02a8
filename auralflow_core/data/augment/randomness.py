"""Noise that is the same on every device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def normal(shape: Sequence[int], seed: int) -> Tensor:
    """Return normally distributed float32 numbers, on the CPU whatever computes with them."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
