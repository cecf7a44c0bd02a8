"""Frames of a song, and the energies of the parts of the estimates in each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from auralflow_core.metrics.correlations import Bounds
from auralflow_core.metrics.filters import Filters
from auralflow_core.metrics.pair import Pair

# Measured: spectra of pieces of this size, in batches of this size, stay in the caches.
PIECE_SAMPLES = 2**13
BATCH_SAMPLES = 2**19
SILENCE_BLOCK = 2**12
ERROR_BLOCK = 2**14


def frame_bounds(length: int, window: int, hop: int) -> list[Bounds]:
    """Return the first sample of each frame and the one after its last.

    A song no longer than the window is one frame; of a longer one, the rest that fills no window is not scored.
    """
    if window >= length:
        return [(0, length)]
    return [(start, start + window) for start in range(0, length - window + 1, hop)]


def has_silence(pair: Pair, bounds: Bounds) -> bool:
    """Tell whether a reference or an estimate is silent in a frame: at each sample its channels add up to zero."""
    start, stop = bounds
    sounding = torch.zeros(2, pair.num_targets, dtype=torch.bool, device=pair.device)
    # Most sources can be heard within the first block.
    for first in range(start, stop, SILENCE_BLOCK):
        both = pair.read(first, min(stop, first + SILENCE_BLOCK))
        sounding |= (both.sum(dim=2) != 0).any(dim=2)
        if bool(sounding.all()):
            return False
    return True


def error_energies(pair: Pair, bounds: Bounds) -> NDArray[np.float64]:
    """Return the energies of references and of what the estimates differ from them in one frame, `(2, target)`."""
    sums = torch.zeros(2, pair.num_targets, dtype=torch.float64, device=pair.device)
    for first in range(*bounds, ERROR_BLOCK):
        signals = pair.read(first, min(bounds[1], first + ERROR_BLOCK))
        signals[1] -= signals[0]
        sums += signals.square_().sum(dim=(2, 3))
    energies: NDArray[np.float64] = sums.cpu().numpy()
    return energies


def filtered_energies(pair: Pair, filters: Filters, frames: Sequence[Bounds]) -> NDArray[np.float64]:
    """Return the energies of the parts of each estimate, `(energy, frame, target)`, by filtering the references.

    With s the reference, p its projection by the target's own filters, q the projection of all references, e the
    estimate, each over the frame and the `filter_length - 1` samples that the filters ring on, the energies are those
    of p - s, p, q - p, q and e - q.
    """
    taps = filters.whole.shape[-1]
    longest = max((stop - start for start, stop in frames), default=0) + taps - 1
    count = -(-longest // max(PIECE_SAMPLES - taps, taps))
    size = -(-longest // count)
    num_fft = next_fast_len(size + taps - 1, real=True)
    responses = _responses(filters, num_fft)
    count = min(count, max(1, BATCH_SAMPLES // (pair.num_targets * pair.num_channels * num_fft)))
    sums = torch.zeros(5, len(frames), pair.num_targets, dtype=torch.float64, device=pair.device)
    for number, (start, stop) in enumerate(frames):
        for first in range(start, stop + taps - 1, count * size):
            # Each piece begins with the samples on which the filters still ring.
            both = pair.read(first - taps + 1, first + count * size, start, stop)
            own, whole = _project(both[0].unfold(2, size + taps - 1, size), responses, num_fft, taps)
            references, estimates = both[..., taps - 1 :].unfold(3, size, size)
            sums[:, number] += _energies(references, estimates, own, whole)
    energies: NDArray[np.float64] = sums.cpu().numpy()
    return energies


def _responses(filters: Filters, num_fft: int) -> Tensor:
    """Return the frequency responses `(bin, output, reference row)`; outputs are the own, then the whole filters."""
    targets, channels, rows, _ = filters.whole.shape
    own = torch.zeros_like(filters.whole)
    for target in range(targets):
        own[target, :, target * channels : (target + 1) * channels] = filters.own[target]
    responses = torch.fft.rfft(torch.stack([own, filters.whole]).reshape(2 * targets * channels, rows, -1), n=num_fft)
    ordered: Tensor = responses.permute(2, 0, 1).contiguous()
    return ordered


def _project(pieces: Tensor, responses: Tensor, num_fft: int, taps: int) -> tuple[Tensor, Tensor]:
    """Return own and whole projections `(target, channel, piece, time)` of references that begin `taps - 1` early."""
    targets, channels, count, length = pieces.shape
    spectra = torch.fft.rfft(pieces, n=num_fft).view(targets * channels, count, -1)
    # (bin, output, row) x (bin, row, piece)
    projected = torch.bmm(responses, spectra.permute(2, 0, 1).contiguous()).permute(1, 2, 0).contiguous()
    signals = torch.fft.irfft(projected, n=num_fft)[..., taps - 1 : length]
    own, whole = signals.view(2, targets, channels, count, -1)
    return own, whole


def _energies(target: Tensor, estimate: Tensor, own: Tensor, whole: Tensor) -> Tensor:
    """Return the energies `(energy, target)` in the order of `filtered_energies`."""
    parts = (own - target, own, whole - own, whole, estimate - whole)
    return torch.stack([torch.linalg.vector_norm(part, dim=(1, 2, 3)) for part in parts]).square()
