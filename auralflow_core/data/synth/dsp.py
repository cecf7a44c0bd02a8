"""Signal tools of the synthesiser: oscillators, filters, reverberation, panning.

Signals are float64, mono `(time,)` or stereo `(channel, time)`. Doubles are not for their precision's sake: where two
processors disagree about the last digit of a sine, rounding to 16 bits hides a double's digit, not a float's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]
Rng = np.random.Generator
Choice = TypeVar("Choice")

_TABLE_SIZE = 2048


def pick(rng: Rng, options: Sequence[Choice]) -> Choice:
    """Return one of the options, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def decibels(level: float) -> float:
    """Return the amplitude factor of a level in dB."""
    return float(10.0 ** (level / 20.0))


def frequency(pitch: float) -> float:
    """Return the frequency in Hz of a MIDI pitch (69 is 440 Hz)."""
    return float(440.0 * 2.0 ** ((pitch - 69.0) / 12.0))


def rms(signal: Signal) -> float:
    """Return the root mean square over everything."""
    flat = signal.reshape(-1)
    return float(np.sqrt(np.dot(flat, flat) / flat.size)) if flat.size else 0.0


def levelled(signal: Signal, level: float = 1.0) -> Signal:
    """Return the signal scaled to the given root mean square; silence stays silent."""
    now = rms(signal)
    return signal * (level / now) if now > 0 else signal


def clock(seconds: float, rate: int) -> Signal:
    """Return the sample times of a sound of this length, in seconds."""
    return np.arange(max(1, round(seconds * rate))) / rate


def cycle(harmonics: Signal) -> Signal:
    """Return one period of the sum of sines whose amplitudes are given from the fundamental upward."""
    spectrum = np.zeros(_TABLE_SIZE // 2 + 1, dtype=np.complex128)
    kept = harmonics[: _TABLE_SIZE // 2 - 1]
    spectrum[1 : 1 + len(kept)] = -0.5j * _TABLE_SIZE * kept
    return np.fft.irfft(spectrum)


def oscillate(table: Signal, phase: Signal) -> Signal:
    """Read a periodic table, linearly interpolated, at a phase counted in periods."""
    return interpolate(np.append(table, table[0]), (phase - np.floor(phase)) * len(table))


def interpolate(table: Signal, position: Signal) -> Signal:
    """Read a table at fractional positions in [0, len - 1), linearly interpolated."""
    index = np.minimum(position.astype(np.intp), len(table) - 2)
    return table.take(index) + (position - index) * np.diff(table).take(index)


def place(bus: Signal, sound: Signal, start: float, rate: int) -> None:
    """Add a sound to a mono bus from a time on; what lies outside the bus is cut."""
    first = max(0, round(start * rate))
    length = min(len(sound), len(bus) - first)
    if length > 0:
        bus[first : first + length] += sound[:length]


def pan(signal: Signal, position: float) -> Signal:
    """Return a mono signal as stereo with constant power; -1 is left, 1 is right."""
    return sides(position)[:, None] * signal


def sides(position: float) -> Signal:
    """Return the gains of left and right, `(channel,)`, for a position from -1 to 1; both are 1 in the middle."""
    angle = (position + 1.0) * np.pi / 4.0
    return np.array([np.sqrt(2.0) * np.cos(angle), np.sqrt(2.0) * np.sin(angle)])


def smooth(signal: Signal, width: int) -> Signal:
    """Average with a Hann window of about `width` samples; the ends continue as they are."""
    if width < 2:
        return signal
    window = np.hanning(2 * (width // 2) + 3)[1:-1]
    padded = np.pad(signal, len(window) // 2, mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")


def lowpass(bins: Signal, cutoff: Signal | float, resonance: float = 0.7071) -> Signal:
    """Return the magnitude response of a second-order low pass at frequencies `bins`, in Hz."""
    ratio = np.square(bins / cutoff)
    return 1.0 / np.sqrt(np.square(1.0 - ratio) + ratio / resonance**2)


def band_noise(rng: Rng, frames: int, rate: int, low: float, high: float) -> Signal:
    """Return noise between two frequencies in Hz, falling by 12 dB an octave outside, of root mean square 1."""
    size = _fast_size(frames)
    bins = _bins(size, rate)
    gain = lowpass(bins, high) * (1.0 - lowpass(bins, low, 0.5))
    return levelled(np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * gain, size)[:frames])


def frame_grid(frames: int, rate: int) -> tuple[Signal, Signal]:
    """Return the frame centres in seconds and the bins in Hz for which `filter_moving` wants its gains."""
    hop = _hop(rate)
    times = np.arange(-(-frames // hop) + 1, dtype=np.float64) * (hop / rate)
    return times, _bins(2 * hop, rate)


def filter_moving(signal: Signal, gains: Signal | NDArray[np.complex128], rate: int) -> Signal:
    """Filter a mono signal with a short response that changes from frame to frame.

    Args:
        signal: `(time,)`.
        gains: the responses, `(frame, bin)` or `(1, bin)`, on the grid of `frame_grid`.
        rate: Samples per second.

    Returns:
        `(time,)`; sine windows before and after add up to one at half overlap.
    """
    hop = _hop(rate)
    count = -(-len(signal) // hop) + 1
    padded = np.zeros((count + 1) * hop)
    padded[hop : hop + len(signal)] = signal
    halves = padded.reshape(count + 1, hop)
    window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))
    out = np.zeros_like(halves)
    # A hundred frames at a time stay in the processor's cache.
    for first in range(0, count, 100):
        part = slice(first, min(first + 100, count))
        block = np.concatenate([halves[:-1][part], halves[1:][part]], axis=1) * window
        block = np.fft.irfft(np.fft.rfft(block, axis=1) * (gains[part] if len(gains) > 1 else gains), axis=1) * window
        out[:-1][part] += block[:, :hop]
        out[1:][part] += block[:, hop:]
    return out.reshape(-1)[hop : hop + len(signal)]


def convolve(signal: Signal, kernels: Signal) -> Signal:
    """Convolve a mono signal with each kernel by overlap-add of FFT blocks.

    Args:
        signal: `(time,)`.
        kernels: `(channel, tap)`.

    Returns:
        `(channel, time)`, cut to the signal's length.
    """
    taps = kernels.shape[-1]
    size = max(1 << 15, _fast_size(2 * taps))
    step = size - taps + 1
    responses = np.fft.rfft(kernels, size)
    out = np.zeros((len(kernels), len(signal) + size))
    for first in range(0, len(signal), step):
        block = np.fft.irfft(responses * np.fft.rfft(signal[first : first + step], size), size)
        out[:, first : first + size] += block
    return out[:, : len(signal)]


def room(rng: Rng, seconds: float, damping: float, rate: int) -> Signal:
    """Return a stereo impulse response `(channel, tap)`: noise that falls by 60 dB in `seconds`, the treble sooner.

    Args:
        rng: The source of the noise.
        seconds: The time to fall by 60 dB.
        damping: How many times sooner the treble falls, at least 1.
        rate: Samples per second.
    """
    time = clock(seconds * 0.8, rate)
    # The sides share little: that is what makes a room wide.
    dull, bright = np.exp(-6.9078 / seconds * time), 0.6 * np.exp(-6.9078 * damping / seconds * time)
    tails = [
        dull * band_noise(rng, len(time), rate, 150.0, 1500.0) + bright * band_noise(rng, len(time), rate, 1500.0, 8e3)
        for _ in range(2)
    ]
    tail = np.stack(tails)
    silence = np.zeros((2, round(rng.uniform(0.004, 0.025) * rate)))
    response: Signal = np.concatenate([silence, tail], axis=1)
    response /= np.sqrt(np.square(response).sum(axis=1, keepdims=True) + 1e-12)
    return response


def chorus(signal: Signal, rng: Rng, rate: int, depth: float = 0.003) -> Signal:
    """Return stereo from mono: a copy behind a slowly swaying delay of up to `depth` seconds widens it.

    The copy is added on the left and subtracted on the right, so that the sum of both sides is the signal.
    """
    frames = len(signal)
    knots = np.linspace(0.0, float(frames), max(2, int(frames / rate * 40)))
    sway = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.3, 0.9) / rate * knots + rng.random()))
    # The position in the signal is interpolated as a whole: it is as smooth as the delay.
    position = np.interp(np.arange(frames), knots, knots - sway * (depth * rate) - 1.0)
    delayed = interpolate(np.append(signal, 0.0), np.maximum(position, 0.0))
    delayed *= 0.6
    return np.stack([signal + delayed, signal - delayed])


def echo(stereo: Signal, delay: float, feedback: float, rate: int) -> Signal:
    """Add three repeats to a stereo signal, each on the other side, each weaker by `feedback`."""
    out = stereo.copy()
    step = max(1, round(delay * rate))
    for repeat in (1, 2, 3):
        shift = repeat * step
        if shift < stereo.shape[1]:
            source = stereo[::-1] if repeat % 2 else stereo
            out[:, shift:] += source[:, :-shift] * feedback**repeat
    return out


def _bins(size: int, rate: int) -> Signal:
    return np.arange(size // 2 + 1, dtype=np.float64) * (rate / size)


def _hop(rate: int) -> int:
    # 12 ms: long enough to resolve formants, short enough to follow consonants and plucks.
    return 1 << max(5, round(math.log2(rate * 0.0116)))


def _fast_size(frames: int) -> int:
    return 1 << max(4, math.ceil(math.log2(max(frames, 1))))
