"""Correlations of the references with each other and with the estimates, for lags of 0 to filter_length - 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from auralflow_core.metrics.pair import Pair

Bounds = tuple[int, int]

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


def correlate(pair: Pair, stretch: Bounds, filter_length: int, gram: Tensor | None = None) -> Correlations:
    """Correlate the samples `[start, stop)`; around them is silence.

    A block of references, padded with zeros, meets the same block and the `filter_length - 1` samples after it. The
    products of their spectra add up over the blocks, so that each block costs forward transforms only.

    Args:
        pair: The signals.
        stretch: First sample and the one after the last.
        filter_length: Number of lags.
        gram: The references' own part, where it is known: then it costs nothing.
    """
    start, stop = stretch
    blocks = -(-(stop - start) // max(3 * filter_length, 512))
    block = -(-(stop - start) // blocks)
    products = _Products(pair, block + filter_length - 1, with_gram=gram is None)
    for first in range(0, blocks, products.batch):
        count = min(products.batch, blocks - first)
        begin = start + first * block
        both = pair.read(begin, begin + (count - 1) * block + products.num_fft, start, stop).flatten(1, 2)
        now = both[0, :, : count * block].reshape(-1, count, block)
        # Windows as long as the transform, which spares the padding; what they see too much of falls on longer lags.
        products.add(now, both.unfold(2, products.num_fft, block))
    return products.correlations(filter_length, gram)


def correlate_each(
    pair: Pair, stretches: Sequence[Bounds], filter_length: int, gram: Tensor | None = None
) -> Correlations:
    """Return the correlations of several stretches, `(stretch, row, row, lag)`.

    They are copied into one piece of memory: many small ones between larger ones that come and go would leave gaps.

    Args:
        pair: The signals.
        stretches: First sample of each and the one after its last.
        filter_length: Number of lags.
        gram: The references' own part, where it is known.
    """
    rows = pair.num_targets * pair.num_channels
    shape = (len(stretches), rows, rows, filter_length)
    cross = torch.empty(shape, dtype=torch.float64, device=pair.device)
    found = torch.empty_like(cross) if gram is None else gram
    for number, stretch in enumerate(stretches):
        lags = correlate(pair, stretch, filter_length, None if gram is None else gram[number])
        cross[number] = lags.cross
        if gram is None:
            found[number] = lags.gram
    return Correlations(found, cross)


def correlate_tiles(
    pair: Pair, tiles: Sequence[Bounds], filter_length: int, parts: Correlations, gram: Tensor | None = None
) -> Correlations:
    """Return the correlations of all of a song from those of the tiles that make it up.

    What they miss is where a tile's end meets the beginning of what follows.

    Args:
        pair: The signals.
        tiles: Stretches from the first sample of the song to its last, one after the other.
        filter_length: Number of lags.
        parts: The correlations of each tile, `(tile, row, row, lag)`.
        gram: The references' own part, where it is known.
    """
    reach = filter_length - 1
    products = _Products(pair, max(1, 2 * reach), with_gram=gram is None)
    inner = tiles[:-1] if reach else ()
    for first in range(0, len(inner), products.batch):
        some = inner[first : first + products.batch]
        now = torch.stack([pair.read(stop - reach, stop, start, stop)[0] for start, stop in some], dim=2)
        later = torch.stack([pair.read(stop - reach, stop + reach, stop) for _, stop in some], dim=3)
        products.add(now.flatten(0, 1), later.flatten(1, 2))
    met = products.correlations(filter_length, gram)
    cross = met.cross + parts.cross.sum(dim=0)
    return Correlations(met.gram + parts.gram.sum(dim=0) if gram is None else gram, cross)


class _Products:
    """Products of spectra, added up over blocks."""

    def __init__(self, pair: Pair, length: int, *, with_gram: bool) -> None:
        self.rows = pair.num_targets * pair.num_channels
        self.with_gram = with_gram
        self.num_fft = next_fast_len(length, real=True)
        self.batch = max(1, BATCH_SAMPLES // (2 * self.rows * self.num_fft))
        shape = (self.num_fft // 2 + 1, self.rows, self.rows * (1 + with_gram))
        self.spectrum = torch.zeros(shape, dtype=torch.complex128, device=pair.device)

    def add(self, now: Tensor, later: Tensor) -> None:
        """Add blocks of references `(row, block, time)` times what they meet, `(2, row, block, time)`."""
        ahead = torch.fft.rfft(later if self.with_gram else later[1:], n=self.num_fft).flatten(0, 1)
        here = torch.fft.rfft(now, n=self.num_fft)
        # (bin, row, block) x (bin, block, column)
        self.spectrum.baddbmm_(here.permute(2, 0, 1).conj().contiguous(), ahead.permute(2, 1, 0).contiguous())

    def correlations(self, filter_length: int, gram: Tensor | None) -> Correlations:
        """Return the sums at each lag, with the given references' part if it was left out."""
        lags = torch.fft.irfft(self.spectrum.permute(1, 2, 0), n=self.num_fft)[..., :filter_length]
        # Copies, since a view would keep all lags in memory.
        return Correlations(lags[:, : self.rows].clone() if gram is None else gram, lags[:, -self.rows :].clone())


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
