"""Multichannel Wiener filtering: estimates made consistent with the mixture and with each target's place in space.

The model is local Gaussian (Duong, Vincent and Gribonval, "Under-Determined Reverberant Audio Source Separation Using a
Full-Rank Spatial Covariance Model", IEEE TASLP 2010): the channels of a target j at bin f and frame n are Gaussian with
covariance v_j(f, n) R_j(f), and expectation maximisation alternates between

    v_j = mean over channels of |y_j|^2,   R_j = sum over n of y_j y_j^H / sum over n of v_j   (M-step)
    y_j = v_j R_j C^-1 x,                  C = sum over j of v_j R_j + sqrt(eps) I             (E-step)

as `norbert.wiener` and `openunmix.filtering.wiener` do. C^-1 x is the same for all targets: it is solved once, without
making the inverse or any filter. All is computed in double precision: where the targets lie in one direction C is
nearly singular, and what its entries leave of each other decides over the result.

Shapes: B batch, T target, C channel, F bin, N frame.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from auralflow_core.masking.hermitian import Hermitian, Pair

EPS = 1e-10

# Louder bins are scaled down to this magnitude, so that squares of squares stay within range.
_LOUDEST = 10.0

# Bins that are filtered at once: with 300 frames, what is in use then stays in a processor's cache.
_BLOCK = 128


def wiener(
    estimates: Tensor, mixture: Tensor, iterations: int = 1, *, residual: bool = False, eps: float = EPS
) -> Tensor:
    """Refine the targets' spectrograms.

    Args:
        estimates: First estimates, complex `(B, T, C, F, N)`.
        mixture: Complex `(B, C, F, N)`, any number of channels.
        iterations: Of expectation maximisation; none returns the estimates.
        residual: Whether what the targets leave of the mixture takes part as one more.
        eps: Square of the noise power that is assumed beside the targets. Open-Unmix takes 1e-10, norbert the
            resolution of single precision.

    Returns:
        Complex `(B, T, C, F, N)`.
    """
    if not iterations:
        return estimates
    num_targets = estimates.shape[1]
    if residual:
        estimates = torch.cat([estimates, (mixture - estimates.sum(dim=1)).unsqueeze(1)], dim=1)
    scale = (mixture.abs().amax(dim=(1, 2, 3)) / _LOUDEST).clamp_min_(1)[:, None, None, None]
    refined = torch.empty(*estimates[:, :num_targets].transpose(3, 4).shape, 2, device=mixture.device)
    for start in range(0, mixture.shape[2], _BLOCK):
        stop = start + _BLOCK
        x = _channels(mixture[:, None, :, start:stop], scale)
        y = _channels(estimates[:, :, :, start:stop], scale)
        for _ in range(iterations):
            densities, covariances = _maximise(y, eps)
            y = _expect(densities, covariances, x, eps)
        for channel, pair in enumerate(y):
            for part, values in enumerate(pair):
                refined[:, :, channel, :, start:stop, part] = values[:, :num_targets] * scale
    return torch.view_as_complex(refined).transpose(3, 4)


def _channels(spectrogram: Tensor, scale: Tensor) -> list[Pair]:
    """Return the channels `(B, T, N, F)` of `(B, T, C, F, N)`, scaled down, in double precision where there is one."""
    divisor = scale if scale.device.type == "mps" else scale.double()
    channels = (channel.transpose(2, 3) for channel in spectrogram.unbind(dim=2))
    return [(channel.real / divisor, channel.imag / divisor) for channel in channels]


def _maximise(y: list[Pair], eps: float) -> tuple[Tensor, Hermitian]:
    """Return v `(B, T, N, F)` and R `(B, T, 1, F)` of the targets' channels, each `(B, T, N, F)`."""
    powers = [(real * real).addcmul_(imag, imag) for real, imag in y]
    densities = torch.stack(powers).mean(dim=0)
    weights = densities.sum(dim=2, keepdim=True).add_(eps)

    def share(products: Tensor) -> Tensor:
        return products.sum(dim=2, keepdim=True).div_(weights)

    above = {
        (row, column): (
            share((y[row][0] * y[column][0]).addcmul_(y[row][1], y[column][1])),
            share((y[row][1] * y[column][0]).addcmul_(y[row][0], y[column][1], value=-1)),
        )
        for row, column in combinations(range(len(y)), 2)
    }
    return densities, Hermitian([share(power) for power in powers], above)


def _expect(densities: Tensor, covariances: Hermitian, x: list[Pair], eps: float) -> list[Pair]:
    """Return the targets' channels, each `(B, T, N, F)`: v_j R_j C^-1 x of the mixture's, each `(B, 1, N, F)`."""

    def over_targets(entries: Tensor) -> Tensor:
        """Return the sum of v_j R_j over the targets, `(B, 1, N, F)`."""
        total = densities[:, :1] * entries[:, :1]
        for target in range(1, densities.shape[1]):
            total.addcmul_(densities[:, target : target + 1], entries[:, target : target + 1])
        return total

    diagonal = [over_targets(entry).add_(eps**0.5) for entry in covariances.diagonal]
    above = {place: (over_targets(real), over_targets(imag)) for place, (real, imag) in covariances.above.items()}
    filtered = covariances.times(Hermitian(diagonal, above).solve(x))
    return [(real.mul_(densities), imag.mul_(densities)) for real, imag in filtered]
