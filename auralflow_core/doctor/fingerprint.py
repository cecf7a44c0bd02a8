"""Know a recording again: after renaming, another gain, another format, or a shift of some seconds.

As in audio fingerprints of energy differences (Haitsma and Kalker, ISMIR 2002), a frame is described by how the
energies of neighbouring bands differ; these are kept as numbers, and songs are compared by their highest correlation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

Bands = NDArray[np.float32]

ALIKE = 0.75
"""Correlation from which two songs are taken for one recording."""

_RATE, _SECONDS = 16, 60
_LOWEST, _HIGHEST, _BANDS = 120.0, 3400.0, 17
_FLOOR = 1e-5
_SHORTEST = 5 * _RATE
# Songs that are compared with all others at once.
_ROWS = 8


class BandMeter:
    """Takes a mixture in blocks, and returns the band differences of its first 60 seconds."""

    def __init__(self, sample_rate: int) -> None:
        self._hop = max(1, round(sample_rate / _RATE))
        self._window = np.hanning(2 * self._hop).astype(np.float32)
        edges = np.geomspace(_LOWEST, min(_HIGHEST, 0.45 * sample_rate), _BANDS + 1)
        # At least one bin a band.
        bins = np.round(edges * 2 * self._hop / sample_rate).astype(np.int64)
        self._edges = np.maximum(bins, bins[0] + np.arange(_BANDS + 1))
        self._rest = np.zeros(0, np.float32)
        self._energies: list[NDArray[np.float32]] = []
        self._count = 0

    def add(self, block: NDArray[np.float32]) -> None:
        """Count a block `(time,)`."""
        if self._count >= _RATE * _SECONDS:
            return
        audio = np.concatenate([self._rest, block])
        count = max(0, len(audio) // self._hop - 1)
        self._rest = audio[count * self._hop :]
        if count:
            frames = np.lib.stride_tricks.sliding_window_view(audio, 2 * self._hop)[:: self._hop][:count]
            bins = rfft(frames * self._window, axis=1)[:, : self._edges[-1]]
            bands = np.add.reduceat(np.square(np.abs(bins)), self._edges[:-1], axis=1)
            self._energies.append(bands.astype(np.float32))
            self._count += count

    def bands(self) -> Bands:
        """Return the differences `(frame, band)`, of no mean and length 1; no frames for silence or under 5 s."""
        energies = np.concatenate([np.zeros((0, _BANDS), np.float32), *self._energies])[: _RATE * _SECONDS]
        highest = energies.max(initial=0.0)
        if len(energies) < _SHORTEST or highest <= 0:
            return np.zeros((0, _BANDS - 1), np.float32)
        # What lies far below the loudest band is where lossy formats differ.
        differences = np.diff(np.log(energies / highest + _FLOOR), axis=1)
        differences -= differences.mean(axis=0)
        norm = float(np.linalg.norm(differences))
        return np.asarray(differences / max(norm, 1e-9), dtype=np.float32)


def alike(bands: Sequence[Bands]) -> Iterator[tuple[int, int, float]]:
    """Yield the pairs of songs that are one recording, by their numbers, with their correlation."""
    size = 2 * _RATE * _SECONDS
    numbers = [number for number, one in enumerate(bands) if len(one)]
    spectra = np.zeros((size // 2 + 1, len(numbers), _BANDS - 1), np.complex64)  # (bin, song, band)
    for place, number in enumerate(numbers):
        spectra[:, place] = np.fft.rfft(bands[number], size, axis=0)
    for first in range(0, len(numbers), _ROWS):
        # The correlations of some songs with all that follow, summed over the bands: (bin, song, other song).
        products = spectra[:, first : first + _ROWS] @ spectra[:, first:].conj().swapaxes(1, 2)
        correlations = np.fft.irfft(products, size, axis=0).max(axis=0)
        for one, other in np.argwhere(np.triu(correlations >= ALIKE, 1)):
            yield numbers[first + one], numbers[first + other], float(correlations[one, other])
