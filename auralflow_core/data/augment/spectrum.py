"""Filters and rooms: products of spectra.

The filters have the magnitude of their analogue models and no phase, so that nothing is moved in time: stems stay
aligned, whatever each one goes through. torchaudio's filters are not used: without its compiled extension they run a
Python loop over samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from auralflow_core.data.augment.randomness import normal

_RINGING = 0.5  # seconds of silence between a chunk's end and its start, since products of spectra wrap around


def eq(audio: Tensor, sample_rate: int, *, bands: Sequence[Mapping[str, float]]) -> Tensor:
    """Return audio through peaking equalizers, each `{hz, db, q}`.

    Source: R. Bristow-Johnson, "Cookbook formulae for audio equalizer biquad filter coefficients", the analogue
    prototype H(s) = (s^2 + s A / Q + 1) / (s^2 + s / (A Q) + 1), A = 10^(dB / 40).
    """

    def response(hz: Tensor) -> Tensor:
        total = torch.ones_like(hz)
        for band in bands:
            ratio, amplitude = hz / band["hz"], 10 ** (band["db"] / 40)
            resonance, width = (1 - ratio**2) ** 2, (ratio / band["q"]) ** 2
            total = total * ((resonance + width * amplitude**2) / (resonance + width / amplitude**2)).sqrt()
        return total

    return _filtered(audio, sample_rate, response)


def low_pass(audio: Tensor, sample_rate: int, *, hz: float) -> Tensor:
    """Return audio through a Butterworth low-pass of second order."""
    return _filtered(audio, sample_rate, lambda frequency: (1 + (frequency / hz) ** 4).rsqrt())


def high_pass(audio: Tensor, sample_rate: int, *, hz: float) -> Tensor:
    """Return audio through a Butterworth high-pass of second order."""
    # 1 / sqrt(1 + (hz / f)^4), without the division by zero.
    return _filtered(audio, sample_rate, lambda frequency: frequency**2 * (hz**4 + frequency**4).rsqrt())


def reverb(audio: Tensor, sample_rate: int, *, seconds: float, wet_db: float, seed: int) -> Tensor:
    """Return audio in a room: each channel plus its convolution with noise that decays by 60 dB in `seconds`.

    The noise has the energy 1, so that `wet_db` is the level of the room beside the direct sound. Source: J.-D. Polack,
    "La transmission de l'énergie sonore dans les salles", 1988: late reverberation as decaying white noise.
    """
    frames, channels = audio.shape[-1], audio.shape[-2]
    length = min(frames, max(1, round(seconds * sample_rate)))
    decay = 10 ** torch.linspace(0, -3 * length / (seconds * sample_rate), length)
    room = normal((channels, length), seed) * decay
    room = (room / room.norm(dim=-1, keepdim=True)).to(audio.device)
    size = next_fast_len(frames + length, real=True)
    wet: Tensor = torch.fft.irfft(torch.fft.rfft(audio, size) * torch.fft.rfft(room, size), size)
    return audio + 10 ** (wet_db / 20) * wet[..., :frames]


def _filtered(audio: Tensor, sample_rate: int, response: Callable[[Tensor], Tensor]) -> Tensor:
    """Return audio with its spectrum multiplied by a function of the frequency in Hz."""
    frames = audio.shape[-1]
    size = next_fast_len(frames + round(_RINGING * sample_rate), real=True)
    hz = torch.fft.rfftfreq(size, 1 / sample_rate, device=audio.device)
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(audio, size) * response(hz), size)
    return filtered[..., :frames]
