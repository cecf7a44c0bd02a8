"""Masks made of magnitudes, and masks for the bins above those that a network estimates."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Spleeter's: where no target has any energy, all get an equal share.
_EPS = 1e-10


def ratio_masks(magnitudes: Tensor, exponent: float) -> Tensor:
    """Return each target's share of all targets' magnitudes to a power; with 2 it is a Wiener filter's gain.

    With n targets the share is (m^e + eps / n) / (sum of m^e + eps) (Hennequin et al., "Spleeter", JOSS 2020), so that
    the masks add up to one.

    Args:
        magnitudes: Of the estimates, `(batch, target, channel, bin, frame)`.
        exponent: The power, above zero.
    """
    powers = magnitudes.abs().pow(exponent)
    total = powers.sum(dim=1, keepdim=True) + _EPS
    return powers.add_(_EPS / magnitudes.shape[1]).div_(total)


def extend_masks(masks: Tensor, num_bins: int, extension: str) -> Tensor:
    """Return masks for all bins.

    Args:
        masks: Of the lowest bins, `(batch, target, channel, bin, frame)`.
        num_bins: Number of bins of the spectrogram.
        extension: `zeros` gives the bins above to no target, `average` gives them the mean of the bins below, frame by
            frame.
    """
    missing = num_bins - masks.shape[-2]
    if not missing:
        return masks
    if extension == "zeros":
        return functional.pad(masks, (0, 0, 0, missing))
    means = masks.mean(dim=-2, keepdim=True)
    return torch.cat([masks, means.expand(*masks.shape[:-2], missing, -1)], dim=-2)
