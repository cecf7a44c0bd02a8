"""Correlations of the references with each other and with the estimates, for lags of 0 to filter_length - 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from auralflow_core.metrics.pair import Pair

# Measured: spectra of a batch of this size stay in the second-level cache, and larger batches take twice the time.
BATCH_SAMPLES = 2**18


@dataclass(frozen=True)
class Correlations:
    """One-sided correlations over one stretch; rows are (target, channel) pairs, flattened.

    Attributes:
        gram: `(row, row, lag)`; element `[i, j, d]` is the sum over t of reference_i(t) reference_j(t + d).
        cross: `(row, row, lag)`; the same with estimate_j.
    """

    gram: Tensor
    cross: Tensor


def correlate(pair: Pair, start: int, stop: int, filter_length: int) -> Correlations:
    """Correlate the samples `[start, stop)`; around them is silence.

    A block of references, padded with zeros, meets the same block and the `filter_length - 1` samples after it. The
    products of their spectra add up over the blocks, so that each block costs forward transforms only.
    """
    rows = pair.num_targets * pair.num_channels
    num_fft = next_fast_len(max(4 * filter_length, 512), real=True)
    block = num_fft - filter_length + 1
    num_blocks = -(-(stop - start) // block)
    batch = max(1, BATCH_SAMPLES // (2 * rows * num_fft))
    spectrum = torch.zeros(num_fft // 2 + 1, rows, 2 * rows, dtype=torch.complex128, device=pair.device)
    for first in range(0, num_blocks, batch):
        count = min(batch, num_blocks - first)
        begin = start + first * block
        both = pair.read(begin, begin + count * block + filter_length - 1, start, stop).flatten(0, 2)
        later = torch.fft.rfft(both.unfold(1, num_fft, block))
        now = torch.fft.rfft(both[:rows, : count * block].reshape(rows, count, block), n=num_fft)
        # (bin, row, block) x (bin, block, 2 rows)
        spectrum.baddbmm_(now.permute(2, 0, 1).conj().contiguous(), later.permute(2, 1, 0).contiguous())
    lags = torch.fft.irfft(spectrum.permute(1, 2, 0), n=num_fft)[..., :filter_length]
    return Correlations(lags[:, :rows].contiguous(), lags[:, rows:].contiguous())


def gram_matrix(ahead: Tensor, behind: Tensor) -> Tensor:
    """Return the Gram matrix `(row * lag, row * lag)` of the delayed references.

    Its block (i, j) is Toeplitz: delays a and b of the two rows meet at the lag a - b.

    Args:
        ahead: `(row, row, lag)`; element `[i, j, d]` is the sum over t of reference_i(t) reference_j(t + d).
        behind: The same with reference_j(t - d).
    """
    rows, _, taps = ahead.shape
    # From the longest lag ahead to the longest behind, so that a row of a block is a window on them.
    lags = torch.cat([ahead.flip(2), behind[..., 1:]], dim=2)
    matrix = ahead.new_empty(rows, taps, rows, taps)
    for number in range(rows):
        matrix[number] = lags[number].unfold(1, taps, 1).flip(1).transpose(0, 1)
    return matrix.view(rows * taps, rows * taps)
