"""Oracles: what masks and filters reach that are computed from the true stems, as ceilings beside a model's scores.

All work on STFTs with Hann windows of 46 ms (2048 samples at 44.1 kHz) and half overlap, filter the song's own mixture,
and are defined as in SiSEC 2018 (Stoeter, Liutkus and Ito, "The 2018 signal separation evaluation campaign", 2018). The
idea is that of Vincent, Gribonval and Plumbley, "Oracle estimators for the benchmarking of source separation
algorithms", 2007.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from auralflow_core.data.song import Audio
from auralflow_core.transforms import ISTFT, STFT

WINDOW_SECONDS = 2048 / 44100
_BLOCK_WINDOWS = 200
# Above the rounding of double precision, far below the power of 16-bit noise in a bin.
_TINY = 1e-10


class Block(NamedTuple):
    """A stretch of samples `[start, stop)` within a wider one whose frames are those of the whole song."""

    start: int
    stop: int
    first: int
    last: int


def oracle_estimates(name: str, stems: Audio, mixture: Audio, sample_rate: int) -> Audio:
    """Return an oracle's estimate of every stem.

    Args:
        name: One of `ORACLES`.
        stems: All stems that the mixture is made of, `(source, channel, time)`.
        mixture: `(channel, time)`.
        sample_rate: In Hz.

    Returns:
        `(source, channel, time)`.
    """
    num_fft = 2 ** round(np.log2(max(2.0, WINDOW_SECONDS * sample_rate)))
    stft = STFT(num_fft, num_fft, num_fft // 2).double()
    istft = ISTFT(num_fft, num_fft, num_fft // 2).double()
    apply = ORACLES[name](stft, stems)
    estimates = np.empty_like(stems)
    for block in _blocks(stems.shape[-1], num_fft):
        wide = slice(block.first, block.last)
        filtered = apply(stft(_tensor(mixture[:, wide])), stft(_tensor(stems[..., wide])))
        audio = istft(filtered, block.last - block.first).numpy()
        estimates[..., block.start : block.stop] = audio[..., block.start - block.first : block.stop - block.first]
    return estimates


Filter = Callable[[Tensor, Tensor], Tensor]
"""Maps the STFTs of a mixture `(channel, bin, frame)` and its stems `(source, channel, bin, frame)` to estimates."""


def ideal_ratio_mask(stft: STFT, stems: Audio) -> Filter:
    """Mask each channel by a stem's share of the power: |S_j|^2 over the sum of all stems' |S_k|^2 (SiSEC's IRM2)."""

    def apply(mixture: Tensor, spectra: Tensor) -> Tensor:
        power = spectra.abs().square()
        return mixture * (power / power.sum(dim=0).clamp_min(_TINY))

    return apply


def ideal_binary_mask(stft: STFT, stems: Audio) -> Filter:
    """Keep what a stem is louder in than half of the mixture: |S_j| > 0.5 |X| (SiSEC's IBM1)."""

    def apply(mixture: Tensor, spectra: Tensor) -> Tensor:
        return mixture * (spectra.abs() > 0.5 * mixture.abs())

    return apply


def multichannel_wiener(stft: STFT, stems: Audio) -> Filter:
    """Filter all channels together: v_j R_j (sum over k of v_k R_k)^-1.

    The power v_j of a stem in each bin and frame is its own, the mean over channels; its spatial covariance R_j is
    constant in time, the mean over frames of the covariances at power one (Duong, Vincent and Gribonval,
    "Under-determined reverberant audio source separation using a full-rank spatial covariance model", 2010).
    """
    spatial = _spatial_covariances(stft, stems)

    def apply(mixture: Tensor, spectra: Tensor) -> Tensor:
        power = spectra.abs().square().mean(dim=1)
        covariance = torch.einsum("sft,sfcd->ftcd", power.to(spatial.dtype), spatial)
        covariance += _TINY * torch.eye(mixture.shape[0], dtype=spatial.dtype)
        whitened = torch.linalg.solve(covariance, mixture.permute(1, 2, 0))
        return torch.einsum("sft,sfcd,ftd->scft", power.to(spatial.dtype), spatial, whitened)

    return apply


ORACLES: dict[str, Callable[[STFT, Audio], Filter]] = {
    "irm": ideal_ratio_mask,
    "ibm": ideal_binary_mask,
    "mwf": multichannel_wiener,
}


def _spatial_covariances(stft: STFT, stems: Audio) -> Tensor:
    """Return `(source, bin, channel, channel)`, each with a trace of the channel count."""
    total: Tensor | None = None
    for block in _blocks(stems.shape[-1], stft.num_fft):
        spectra = stft(_tensor(stems[..., block.first : block.last]))
        # The frames that are centred in the block itself, so that none counts twice.
        frames = slice(
            (block.start - block.first) // stft.hop_length, -(-(block.stop - block.first) // stft.hop_length)
        )
        spectra = spectra[..., frames]
        weights = 1 / spectra.abs().square().mean(dim=1).clamp_min(_TINY)
        part = torch.einsum("scft,sdft,sft->sfcd", spectra, spectra.conj(), weights.to(spectra.dtype))
        total = part if total is None else total + part
    assert total is not None
    trace = total.diagonal(dim1=-2, dim2=-1).sum(dim=-1).real.clamp_min(_TINY)
    scaled: Tensor = total * (stems.shape[1] / trace)[..., None, None]
    return scaled


def _blocks(length: int, num_fft: int) -> Iterator[Block]:
    # Starts are multiples of the hop, and a window of context on each side makes the inner frames those of the song.
    size = _BLOCK_WINDOWS * num_fft
    for start in range(0, length, size):
        stop = min(length, start + size)
        yield Block(start, stop, max(0, start - num_fft), min(length, stop + num_fft))


def _tensor(audio: Audio) -> Tensor:
    return torch.from_numpy(audio.astype(np.float64))
