"""The singer: glottal pulses and breath through moving formants, with consonants between the vowels.

A source-filter model (Fant, 1960). The source is the flow derivative of Klatt and Klatt (1990), band-limited at the
glottis' closure; the vocal tract is a cascade of five resonances that move from vowel to vowel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from auralflow_core.data.synth.dsp import (
    Rng,
    Signal,
    band_noise,
    filter_moving,
    frame_grid,
    levelled,
    pick,
    place,
    smooth,
)
from auralflow_core.data.synth.plan import Note

# The pitch, loudness and formant tracks are written at this rate, in Hz.
_CONTROL = 250
_LEAD_IN = 0.4

# First three formants of an adult male, rounded from Peterson and Barney (1952), with two fixed ones above.
_VOWELS = (
    (730.0, 1090.0, 2440.0),
    (530.0, 1840.0, 2480.0),
    (270.0, 2290.0, 3010.0),
    (570.0, 840.0, 2410.0),
    (300.0, 870.0, 2240.0),
    (500.0, 1500.0, 2500.0),
    (660.0, 1720.0, 2410.0),
)
_HIGH_FORMANTS = (3300.0, 4200.0)
_BANDWIDTHS = np.array([80.0, 90.0, 130.0, 200.0, 280.0])
# Band in Hz, seconds and level of each unvoiced consonant: s, sh, f, t, k, p.
_CONSONANTS = {
    "s": (5500.0, 10000.0, 0.09, 0.5),
    "sh": (2300.0, 6000.0, 0.09, 0.5),
    "f": (1500.0, 9000.0, 0.07, 0.18),
    "t": (3500.0, 8000.0, 0.03, 0.6),
    "k": (1500.0, 3500.0, 0.035, 0.6),
    "p": (300.0, 1800.0, 0.02, 0.6),
}
# How often each onset starts a syllable: none, l or n (voiced), h, and the unvoiced ones.
_ONSETS = ("", "", "", "", "n", "n", "l", "l", "h", "s", "s", "sh", "f", "t", "t", "k", "p")


# A note, its onset and the number of its vowel.
Syllable = tuple[Note, str, int]


@dataclass(frozen=True)
class Voice:
    """A singer: the middle of the range as a MIDI pitch, and the habits of the voice.

    Attributes:
        centre: The pitch around which the melodies lie.
        tract: Formants relative to an adult male's.
        open_quotient: The part of a period in which the glottis is open.
        breath: Level of the aspiration noise.
        vibrato: Depth in semitones.
        vibrato_rate: In Hz.
        glide: Seconds from one note's pitch to the next.
        vowels: The vowels of the song's lyrics.
    """

    centre: float
    tract: float
    open_quotient: float
    breath: float
    vibrato: float
    vibrato_rate: float
    glide: float
    vowels: tuple[int, ...]


def draw_voice(rng: Rng) -> Voice:
    """Draw a singer, from a bass to a soprano."""
    centre = float(rng.uniform(49.0, 70.0))
    return Voice(
        centre=centre,
        # Higher voices have shorter tracts, on the whole.
        tract=1.0 + 0.2 * (centre - 50.0) / 20.0 + float(rng.uniform(-0.06, 0.06)),
        open_quotient=float(rng.uniform(0.45, 0.8)),
        breath=float(rng.uniform(0.02, 0.14)),
        vibrato=float(rng.uniform(0.15, 0.6)),
        vibrato_rate=float(rng.uniform(4.6, 6.4)),
        glide=float(rng.uniform(0.05, 0.13)),
        vowels=tuple(int(vowel) for vowel in rng.permutation(len(_VOWELS))[:5]),
    )


def sing(notes: list[Note], voice: Voice, rng: Rng, frames: int, rate: int) -> Signal:
    """Sing a melody.

    Args:
        notes: The melody, one syllable a note, in order of time.
        voice: The singer.
        rng: The source of lyrics, breath and imperfection.
        frames: The track's length in samples.
        rate: Samples per second.

    Returns:
        `(time,)`, of root mean square 0.1 where notes sound.
    """
    syllables = [(note, pick(rng, _ONSETS), pick(rng, voice.vowels)) for note in notes]
    sung = np.zeros(frames)
    for phrase in _phrases(syllables):
        start = phrase[0][0].start - _LEAD_IN
        shifted = [(replace(note, start=note.start - start), onset, vowel) for note, onset, vowel in phrase]
        place(sung, _sing_phrase(shifted, voice, rng, rate), start, rate)
    sounding = sum(note.length for note in notes) * rate
    energy = float(np.dot(sung, sung))
    sung *= 0.1 * np.sqrt(sounding / energy) if energy > 0 else 1.0
    return sung + 0.1 * _consonants(syllables, rng, frames, rate)


def _phrases(syllables: list[Syllable]) -> Iterator[list[Syllable]]:
    """Split the syllables where the singer pauses."""
    phrase: list[Syllable] = []
    for syllable in syllables:
        if phrase and syllable[0].start - phrase[-1][0].start - phrase[-1][0].length > 0.2:
            yield phrase
            phrase = []
        phrase.append(syllable)
    if phrase:
        yield phrase


def _sing_phrase(syllables: list[Syllable], voice: Voice, rng: Rng, rate: int) -> Signal:
    """Return a phrase from the breath before it, `_LEAD_IN` seconds ahead of its first note, to its fading."""
    notes = [note for note, _, _ in syllables]
    knots = round((notes[-1].start + notes[-1].length + 0.15) * _CONTROL)
    frames = round(knots / _CONTROL * rate)
    pitch = _pitch_track(notes, voice, rng, knots)
    voiced, breath = _level_tracks(syllables, voice, knots)
    source = _source(pitch, voiced, breath, voice, rng, np.arange(frames, dtype=np.float64) * (_CONTROL / rate), rate)
    return filter_moving(source, _formant_gains(syllables, voice, frames, rate, knots), rate)


def _pitch_track(notes: list[Note], voice: Voice, rng: Rng, knots: int) -> Signal:
    """Return the pitch in semitones at control rate: glides, a scoop into the phrase, late vibrato, jitter."""
    track = np.full(knots, float(notes[0].pitch))
    depth = np.zeros(knots)
    for note in notes:
        first, last = _span(note.start, note.start + note.length, knots)
        track[first:] = note.pitch
        age = np.arange(last - first) / _CONTROL
        depth[first:last] = voice.vibrato * np.clip((age - 0.18) / 0.35, 0.0, 1.0)
    # A phrase begins from below.
    track[: _span(notes[0].start + 0.06, 0.0, knots)[0]] -= rng.uniform(0.5, 2.5)
    time = np.arange(knots) / _CONTROL
    speed = voice.vibrato_rate * (1.0 + 0.08 * np.sin(2 * np.pi * 0.37 * time))
    vibrato = smooth(depth, 12) * np.sin(2 * np.pi * np.cumsum(speed) / _CONTROL)
    jitter = smooth(rng.standard_normal(knots), 20) * 0.35
    return smooth(track, round(2 * voice.glide * _CONTROL)) + vibrato + jitter


def _level_tracks(syllables: list[Syllable], voice: Voice, knots: int) -> tuple[Signal, Signal]:
    """Return the loudness of voice and of breath at control rate."""
    voiced, breath = np.zeros(knots), np.zeros(knots)
    # The singer draws breath before a phrase.
    breath[slice(*_span(syllables[0][0].start - 0.3, syllables[0][0].start - 0.08, knots))] = 0.06
    for note, onset, _ in syllables:
        first, last = _span(note.start, note.start + note.length, knots)
        swell = np.linspace(0.85, 1.0, last - first) if note.length < 0.5 else np.hanning(last - first + 2)[1:-1] ** 0.3
        voiced[first:last] = note.velocity * swell
        breath[first:last] = note.velocity * voice.breath
        silent = min(last, first + round((_CONSONANTS[onset][2] if onset in _CONSONANTS else 0.0) * _CONTROL))
        voiced[first:silent] = 0.0
        breath[first:silent] = 0.0
        if onset in ("n", "l", "h"):
            head = min(last, first + round(0.06 * _CONTROL))
            voiced[first:head] *= 0.05 if onset == "h" else 0.35
            breath[first:head] *= 6.0 if onset == "h" else 1.0
    return smooth(voiced, round(0.05 * _CONTROL)), smooth(breath, round(0.04 * _CONTROL))


def _source(pitch: Signal, voiced: Signal, breath: Signal, voice: Voice, rng: Rng, time: Signal, rate: int) -> Signal:
    """Return pulses and breath at audio rate; `time` counts control steps."""
    grid = np.arange(len(pitch))
    step = np.interp(time, grid, 440.0 * 2.0 ** ((pitch - 69.0) / 12.0) / rate)
    phase = np.cumsum(step)
    phase -= np.floor(phase)
    opened = phase < voice.open_quotient
    pulses = _glottal_pulses(phase, step, opened, voice.open_quotient)
    noise = rng.standard_normal(len(time)) * np.where(opened, 1.0, 0.35)
    return pulses * np.interp(time, grid, voiced) + noise * np.interp(time, grid, breath)


def _glottal_pulses(phase: Signal, step: Signal, opened: NDArray[np.bool_], quotient: float) -> Signal:
    """Return the derivative of the glottal flow, of root mean square near 0.4.

    While the glottis is open, the flow is a p^2 - b p^3 (Klatt and Klatt, 1990), scaled so that its derivative closes
    at -1. That jump would alias: a band-limited step (polyBLEP, Valimaki and Huovilainen, 2007) rounds it.
    """
    place_in_opening = phase / quotient
    pulses = np.where(opened, (2.0 * place_in_opening - 3.0 * np.square(place_in_opening)), 0.0)
    since = phase - quotient
    after = (since >= 0.0) & (since < step)
    before = (since < 0.0) & (since > -step)
    ahead = since[after] / step[after]
    behind = since[before] / step[before]
    pulses[after] -= 0.5 * np.square(1.0 - ahead)
    pulses[before] += 0.5 * np.square(1.0 + behind)
    return pulses


def _formant_gains(
    syllables: list[Syllable], voice: Voice, frames: int, rate: int, knots: int
) -> NDArray[np.complex128]:
    """Return the vocal tract's response, `(frame, bin)`."""
    table = np.array([(*vowel, *_HIGH_FORMANTS) for vowel in _VOWELS]) * voice.tract
    tracks = np.tile(table[voice.vowels[0]][:, None], knots)
    for note, onset, vowel in syllables:
        first, _ = _span(note.start, note.start, knots)
        tracks[:, first:] = table[vowel][:, None]
        if onset in ("n", "l"):
            head = first + round(0.06 * _CONTROL)
            tracks[0, first:head] = 280.0
            tracks[1, first:head] = 1300.0
    times, bins = frame_grid(frames, rate)
    position = np.minimum(times * _CONTROL, knots - 1)
    # Without the resonances above the fifth, which hardly move, a cascade would fall by 60 dB an octave there. The
    # first factor is the glottis, which closes less abruptly than the source's pulses do.
    fixed = 1.0 + 1j * bins / 6000.0
    for centre in np.arange(5200.0, 20000.0, 1000.0) * voice.tract:
        fixed *= 1.0 - np.square(bins / centre) + 0.09j * bins / centre
    cascade: NDArray[np.complex128] = np.tile(fixed, (len(times), 1))
    factor = np.empty_like(cascade)
    for track, width in zip(tracks, _BANDWIDTHS, strict=True):
        centre = np.interp(position, np.arange(knots), smooth(track, round(0.07 * _CONTROL)))[:, None]
        # A resonance of centre F and width B: F^2 / (F^2 - f^2 + j B f).
        per_square = 1.0 / np.square(centre)
        np.multiply(per_square, -np.square(bins), out=factor.real)
        factor.real += 1.0
        np.multiply(per_square, width * bins, out=factor.imag)
        cascade *= factor
    return np.reciprocal(cascade)


def _consonants(syllables: list[Syllable], rng: Rng, frames: int, rate: int) -> Signal:
    """Return the unvoiced consonants, relative to a voice of root mean square 1."""
    track = np.zeros(frames)
    for kind, (low, high, seconds, level) in _CONSONANTS.items():
        starts = [(note.start, note.velocity) for note, onset, _ in syllables if onset == kind]
        if not starts or low > 0.4 * rate:
            continue
        supply = levelled(band_noise(rng, rate, rate, low, high))
        length = max(2, round(seconds * rate))
        if kind in ("t", "k", "p"):
            envelope = np.exp(-np.arange(length) / (0.3 * length))
            lag = 0.3 * seconds
        else:
            envelope = np.hanning(length)
            lag = 0.0
        for start, velocity in starts:
            offset = int(rng.integers(len(supply) - length))
            burst = supply[offset : offset + length] * envelope * (level * velocity)
            place(track, burst, start + lag, rate)
    return track


def _span(start: float, end: float, knots: int) -> tuple[int, int]:
    first = int(np.clip(round(start * _CONTROL), 0, knots - 1))
    return first, int(np.clip(round(end * _CONTROL), first + 1, knots))
