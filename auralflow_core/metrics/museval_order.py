"""BSSEval in museval's own order of operations, for the values that rounding decides.

Where references can all but be predicted from each other, or where an estimate is its reference up to a filter,
rounding errors decide the filters or what is left after them. Such numbers agree with museval's only if every sum and
transform is carried out as there (museval 0.4.1, `museval/metrics.py`: `_compute_reference_correlations`,
`_compute_projection_filters`, `_project`, `_bss_decomp_mtifilt`, `_bss_crit`), which costs museval's time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import fft, ifft
from scipy.signal import fftconvolve

from auralflow_core.metrics.correlations import gram_matrix
from auralflow_core.metrics.filters import EPSILON, Filters
from auralflow_core.metrics.pair import Pair

Array = NDArray[np.float64]
Spectrum = NDArray[np.complex128]


def museval_filters(pair: Pair, targets: Sequence[int], start: int, stop: int, filter_length: int) -> Filters:
    """Fit the filters of the given targets on the samples `[start, stop)` by museval's steps, on the CPU.

    Spectra are of the whole stretch, but only two at a time are kept.
    """
    gram = _gram(pair, start, stop, filter_length)
    rows, channels = pair.num_targets * pair.num_channels, pair.num_channels
    whole, own = [], []
    for target in targets:
        products = _products(pair, target, start, stop, filter_length)
        whole.append(_solve(gram, products.reshape(rows * filter_length, channels)))
        first, last = target * channels, (target + 1) * channels
        block = slice(first * filter_length, last * filter_length)
        own.append(_solve(gram[block, block], products[first:last].reshape(channels * filter_length, channels)))
    shape = (len(targets), channels, -1, filter_length)
    return Filters(
        torch.from_numpy(np.stack(whole)).reshape(shape).to(pair.device),
        torch.from_numpy(np.stack(own)).reshape(shape).to(pair.device),
    )


def museval_ratios(
    pair: Pair, target: int, whole: Array, own: Array, bounds: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return SDR, ISR, SIR and SAR of one target in one frame in dB by museval's steps.

    Args:
        pair: The signals.
        target: Number of the target.
        whole: Its filters from all references, `(channel, reference row, lag)`.
        own: Its filters from its own channels, `(channel, channel, lag)`.
        bounds: First sample of the frame and the one after its last.
    """
    channels, taps = pair.num_channels, own.shape[-1]
    rows = range(target * channels, (target + 1) * channels)
    references = [pair.row("references", row, *bounds) for row in range(pair.num_targets * channels)]
    estimate = np.stack([pair.row("estimates", row, *bounds) for row in rows])
    true = np.pad(np.stack([references[row] for row in rows]), [(0, 0), (0, taps - 1)])
    spatial = _project([references[row] for row in rows], own) - true
    interference = _project(references, whole) - true - spatial
    artifacts = -true - spatial - interference
    artifacts[:, : estimate.shape[1]] += estimate
    return (
        decibels(np.sum(true**2), np.sum((spatial + interference + artifacts) ** 2)),
        decibels(np.sum(true**2), np.sum(spatial**2)),
        decibels(np.sum((true + spatial) ** 2), np.sum(interference**2)),
        decibels(np.sum((true + spatial + interference) ** 2), np.sum(artifacts**2)),
    )


def decibels(over: float, under: float) -> float:
    """Return the ratio of two energies in dB: infinite if nothing is below the line, be there nothing above it too."""
    if under == 0:
        return np.inf
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(over / under))


def _gram(pair: Pair, start: int, stop: int, taps: int) -> Array:
    rows = pair.num_targets * pair.num_channels
    ahead = np.empty((rows, rows, taps))
    behind = np.empty((rows, rows, taps))
    for first in range(rows):
        spectrum = _spectrum(pair.row("references", first, start, stop), taps)
        for second in range(first, rows):
            other = _spectrum(pair.row("references", second, start, stop), taps)
            ahead[first, second], behind[first, second] = _cross(other, spectrum, taps)
            if first != second:
                ahead[second, first], behind[second, first] = behind[first, second], ahead[first, second]
    return gram_matrix(torch.from_numpy(ahead), torch.from_numpy(behind)).numpy()


def _products(pair: Pair, target: int, start: int, stop: int, taps: int) -> Array:
    """Return the correlations `(reference row, lag, channel)` of the references with one estimate."""
    rows, channels = pair.num_targets * pair.num_channels, pair.num_channels
    products = np.empty((rows, taps, channels))
    for channel in range(channels):
        estimate = _spectrum(pair.row("estimates", target * channels + channel, start, stop), taps)
        for row in range(rows):
            reference = _spectrum(pair.row("references", row, start, stop), taps)
            products[row, :, channel] = _cross(reference, estimate, taps)[1]
    return products


def _spectrum(signal: Array, taps: int) -> Spectrum:
    num_fft = int(2 ** np.ceil(np.log2(len(signal) + taps - 1.0)))
    spectrum: Spectrum = fft(signal, n=num_fft)
    return spectrum


def _cross(later: Spectrum, earlier: Spectrum, taps: int) -> tuple[Array, Array]:
    """Return the correlations `(lag,)` with the later signal ahead, and with it behind."""
    # One expression: numpy reuses the conjugate's memory for the product, with another rounding than of two arrays.
    lags = np.real(ifft(later * np.conj(earlier)))
    return lags[:taps], np.concatenate([lags[:1], lags[:-taps:-1]])


def _solve(gram: Array, products: Array) -> Array:
    """Return the filters `(channel, row * lag)`."""
    regular = gram.copy()
    regular.flat[:: len(gram) + 1] += EPSILON
    try:
        filters = np.linalg.solve(regular, products)
    except np.linalg.LinAlgError:
        filters = np.linalg.lstsq(gram, products, rcond=None)[0]
    return np.asarray(filters.T, dtype=np.float64)


def _project(references: Sequence[Array], filters: Array) -> Array:
    """Return the filtered references `(channel, time)`, summed in order of their rows."""
    channels, _, taps = filters.shape
    length = len(references[0]) + taps - 1
    projected = np.zeros((channels, length))
    for row, reference in enumerate(references):
        padded = np.pad(reference, (0, taps - 1))
        for channel in range(channels):
            projected[channel] += fftconvolve(filters[channel, row], padded)[:length]
    return projected
