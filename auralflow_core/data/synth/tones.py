"""Pitched instruments: how one note sounds, and how a list of notes becomes a track."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from auralflow_core.data.synth.dsp import Rng, Signal, clock, cycle, frequency, interpolate, oscillate, place
from auralflow_core.data.synth.plan import Note

# (frequency in Hz, seconds, velocity) -> the note at a peak of about 1, not yet released.
Tone = Callable[[float, float, float], Signal]

_VELOCITY_LAYERS = 3
_PLUCK_TABLE = 256


def play(notes: list[Note], tone: Tone, frames: int, rate: int, release: float) -> Signal:
    """Play notes on one instrument into a mono track.

    As a sampler does, it plays one sound for all notes of a pitch and of about the same velocity, cut to their
    lengths; that is most of the speed of the synthesiser.

    Args:
        notes: The notes, in any order.
        tone: The instrument.
        frames: The track's length in samples.
        rate: Samples per second.
        release: How long a note fades after its end, in seconds.
    """
    track = np.zeros(frames)
    groups: dict[tuple[float, int], list[Note]] = defaultdict(list)
    for note in notes:
        groups[note.pitch, int(np.ceil(note.velocity * _VELOCITY_LAYERS))].append(note)
    tail = max(2, round(release * rate))
    fade = 0.5 + 0.5 * np.cos(np.linspace(0.0, np.pi, tail))
    for (pitch, layer), group in groups.items():
        longest = max(note.length for note in group) + (tail + 1) / rate
        sound = tone(frequency(pitch), longest, layer / _VELOCITY_LAYERS)
        for note in group:
            cut = sound[: max(1, round(note.length * rate)) + tail] * note.velocity
            cut[-tail:] *= fade[-len(cut) :]
            place(track, cut, note.start, rate)
    return track


def saw_tone(rng: Rng, rate: int, voices: int, detune: float, rolloff: float, odd_only: bool = False) -> Tone:
    """Return a saw (or square, of odd harmonics) of several detuned oscillators.

    Args:
        rng: The source of the oscillators' starting phases.
        rate: Samples per second.
        voices: The number of oscillators.
        detune: Their spread in semitones.
        rolloff: Hz at which the harmonics begin to fall faster.
        odd_only: Leave out the even harmonics.
    """
    offsets = np.linspace(-detune, detune, voices) if voices > 1 else np.zeros(1)
    starts = rng.random(voices)

    def tone(pitch: float, seconds: float, velocity: float) -> Signal:
        time = clock(seconds, rate)
        number = np.arange(1, _harmonics(pitch, rate) + 1)
        strength = 1.0 / number / (1.0 + np.square(number * pitch / (rolloff * (0.5 + velocity))))
        table = cycle(np.where(number % 2 == 1, strength, 0.0) if odd_only else strength)
        table /= np.abs(table).max() * np.sqrt(voices)
        parts = (oscillate(table, pitch * 2 ** (o / 12) * time + s) for o, s in zip(offsets, starts, strict=True))
        return _attacked(sum(parts, np.zeros(len(time))), rate, 0.004)

    return tone


def organ_tone(rng: Rng, rate: int) -> Tone:
    """Return a drawbar organ: sines at the octaves and fifths above a sub-octave, with a key click."""
    bars = np.zeros(16)
    for bar, likely in ((1, 0.6), (2, 1.0), (3, 0.7), (4, 0.8), (6, 0.5), (8, 0.5), (12, 0.3), (16, 0.3)):
        bars[bar - 1] = rng.uniform(0.2, 1.0) / np.sqrt(bar) if rng.random() < likely else 0.0
    click = rng.standard_normal(round(0.004 * rate)) * rng.uniform(0.0, 0.15)

    def tone(pitch: float, seconds: float, velocity: float) -> Signal:
        table = cycle(bars[: _harmonics(pitch / 2, rate)])
        sound = oscillate(table / np.abs(table).max(), pitch / 2 * clock(seconds, rate))
        sound[: len(click)] += click[: len(sound)]
        return _attacked(sound, rate, 0.006)

    return tone


def fm_tone(rng: Rng, rate: int, ratio: float, index: float, decay: float, tine: float = 0.0) -> Tone:
    """Return two-operator frequency modulation (Chowning, 1973) whose brightness decays with the note.

    Args:
        rng: The source of small differences between keys.
        rate: Samples per second.
        ratio: Modulator frequency over carrier frequency.
        index: Modulation index at full velocity.
        decay: Seconds in which a note of 220 Hz falls by 1/e; higher ones fall sooner.
        tine: Level of a short high partial at the attack, as an electric piano's.
    """

    def tone(pitch: float, seconds: float, velocity: float) -> Signal:
        time = clock(seconds, rate)
        fall = decay * (220.0 / pitch) ** 0.4 * rng.uniform(0.9, 1.1)
        # The index shrinks where its sidebands would pass half the sample rate.
        depth = min(index * velocity, max(0.0, 0.3 * rate / pitch / max(ratio, 1.0) - 1.0))
        modulator = depth * np.exp(-time / (0.35 * fall)) * np.sin(2 * np.pi * pitch * ratio * time)
        sound = np.sin(2 * np.pi * pitch * time + modulator) * np.exp(-time / fall)
        if tine and pitch * 14 < 0.45 * rate:
            sound += tine * velocity * np.sin(2 * np.pi * 14.0 * pitch * time) * np.exp(-time / 0.06)
        return _attacked(sound, rate, 0.002)

    return tone


def plucked_tone(rng: Rng, rate: int, brightness: float, sustain: float, position: float) -> Tone:
    """Return a plucked string after Karplus and Strong (1983).

    The string's period is a wave table which one more pass of the loop filter dulls. The passes are found by doubling:
    passes k to 2k - 1 are passes 0 to k - 1, filtered k times more, in the frequency domain, so that a note of a
    thousand periods takes ten steps. The table is then read at the note's own pitch, which needs no tuning filter.

    Args:
        rng: The source of the pluck's noise.
        rate: Samples per second.
        brightness: In [0, 1]: 0 is nylon, 1 is steel.
        sustain: Seconds in which the fundamental falls by 60 dB.
        position: Where the string is plucked, as a fraction of its length.
    """

    def tone(pitch: float, seconds: float, velocity: float) -> Signal:
        time = clock(seconds, rate)
        number = np.arange(_PLUCK_TABLE // 2 + 1)
        audible = (number > 0) & (number <= _harmonics(pitch, rate)) & (number < _PLUCK_TABLE // 2)
        tilt = 1.5 - 0.6 * brightness - 0.3 * velocity
        comb = np.abs(np.sin(np.pi * number * position)) + 0.05
        spectrum = audible * comb / np.maximum(number, 1) ** tilt * np.exp(2j * np.pi * rng.random(len(number)))
        # The loop averages neighbouring samples of a string of period rate / pitch: the treble dies first.
        average = np.cos(np.pi * np.minimum(number * pitch / rate, 0.5)) ** (2.0 - 1.9 * brightness)
        loop = average * 10.0 ** (-3.0 / (pitch * sustain))
        passes = int(np.ceil(time[-1] * pitch)) + 2
        table = np.fft.irfft(_repeat_filtered(spectrum, loop, passes), axis=1).reshape(-1)
        sound = interpolate(table, time * (pitch * _PLUCK_TABLE))
        return _attacked(sound / np.abs(sound).max(), rate, 0.001)

    return tone


def sub_tone(rng: Rng, rate: int) -> Tone:
    """Return a round bass: a sine with a little of its second and third harmonic."""
    table = cycle(np.array([1.0, rng.uniform(0.05, 0.5), rng.uniform(0.02, 0.25)]))
    fall = rng.uniform(0.8, 3.0)

    def tone(pitch: float, seconds: float, velocity: float) -> Signal:
        time = clock(seconds, rate)
        return _attacked(oscillate(table, pitch * time) * np.exp(-time / fall), rate, 0.006)

    return tone


def _repeat_filtered(
    spectrum: np.ndarray[tuple[int], np.dtype[np.complex128]], loop: Signal, passes: int
) -> np.ndarray[tuple[int, int], np.dtype[np.complex128]]:
    rows = np.empty((passes, len(spectrum)), dtype=np.complex128)
    rows[0] = spectrum
    done, power = 1, loop
    while done < passes:
        step = min(done, passes - done)
        rows[done : done + step] = rows[:step] * power
        done, power = done + step, power * power
    return rows


def _harmonics(pitch: float, rate: int) -> int:
    return max(1, int(0.45 * rate / pitch))


def _attacked(sound: Signal, rate: int, seconds: float) -> Signal:
    rise = min(len(sound), max(1, round(seconds * rate)))
    sound[:rise] *= np.linspace(0.0, 1.0, rise)
    return sound
