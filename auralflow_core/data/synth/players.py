"""The bass player and the players of the stem `other`: which instruments they take and how these are recorded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from auralflow_core.data.synth.dsp import (
    Rng,
    Signal,
    chorus,
    decibels,
    echo,
    filter_moving,
    frame_grid,
    levelled,
    lowpass,
    pan,
    pick,
)
from auralflow_core.data.synth.parts import (
    BASS_STYLES,
    CHORD_STYLES,
    write_bass,
    write_chords,
    write_pad,
    write_riff,
)
from auralflow_core.data.synth.plan import Note, Plan
from auralflow_core.data.synth.tones import Tone, fm_tone, organ_tone, play, plucked_tone, saw_tone, sub_tone

Player = Callable[[list[Note], Rng, int, int], Signal]


def render_bass(plan: Plan, rng: Rng, frames: int, rate: int) -> Signal:
    """Return the bass stem, `(channel, time)`, in the middle of the stereo field or slightly widened."""
    notes = write_bass(plan, rng, pick(rng, BASS_STYLES))
    kind = pick(rng, ("saw", "square", "fm", "plucked", "plucked", "sub"))
    track = levelled(play(notes, _bass_tone(kind, rng, rate), frames, rate, release=0.04), 0.25)
    if kind in ("saw", "square"):
        track = _sweep(track, notes, rng, rate)
    if rng.random() < 0.4:
        drive = rng.uniform(0.8, 2.5)
        track = np.tanh(drive * track)
    if rng.random() < 0.25:
        return chorus(track, rng, rate, depth=0.002)
    return pan(track, 0.0)


def render_other(plan: Plan, rng: Rng, frames: int, rate: int) -> Signal:
    """Return the stem `other`, dry: chords on one instrument, a riff on another, and in some songs a pad."""
    style = pick(rng, CHORD_STYLES)
    layers = [_chord_layer(plan, rng, style, frames, rate)]
    if rng.random() < (0.25 if style == "held" else 0.6):
        layers.append(_pad_layer(plan, rng, frames, rate) * decibels(rng.uniform(-9.0, -3.0)))
    layers.append(_riff_layer(plan, rng, frames, rate) * decibels(rng.uniform(-5.0, 1.0)))
    return sum(layers[1:], layers[0])


def _bass_tone(kind: str, rng: Rng, rate: int) -> Tone:
    if kind == "fm":
        return fm_tone(rng, rate, pick(rng, (0.5, 1.0, 2.0)), rng.uniform(1.0, 3.5), rng.uniform(0.25, 0.8))
    if kind == "plucked":
        return plucked_tone(rng, rate, rng.uniform(0.1, 0.6), rng.uniform(3.0, 8.0), rng.uniform(0.08, 0.3))
    if kind == "sub":
        return sub_tone(rng, rate)
    return saw_tone(rng, rate, pick(rng, (1, 2)), rng.uniform(0.03, 0.1), 3000.0, odd_only=kind == "square")


def _sweep(track: Signal, notes: list[Note], rng: Rng, rate: int) -> Signal:
    """Run a track through a resonant low pass that each note opens and that closes again."""
    times, bins = frame_grid(len(track), rate)
    starts = np.sort([note.start for note in notes] or [0.0])
    since = times - starts[np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)]
    opening = rng.uniform(2.0, 10.0) * np.exp(-np.maximum(since, 0.0) / rng.uniform(0.06, 0.3))
    cutoff = rng.uniform(180.0, 500.0) * (1.0 + opening)
    return filter_moving(track, lowpass(bins, cutoff[:, None], rng.uniform(0.7, 2.5)), rate)


def _chord_layer(plan: Plan, rng: Rng, style: str, frames: int, rate: int) -> Signal:
    notes = write_chords(plan, rng, style)
    choices: tuple[Player, ...] = {
        "held": (_organ, _pad, _electric_piano),
        "strummed": (_guitar, _guitar, _driven_guitar),
        "arpeggio": (_guitar, _electric_piano, _bell, _synth),
        "stabs": (_electric_piano, _organ, _synth, _guitar),
        "halves": (_electric_piano, _driven_guitar, _organ, _guitar),
    }[style]
    return levelled(pick(rng, choices)(notes, rng, frames, rate))


def _pad_layer(plan: Plan, rng: Rng, frames: int, rate: int) -> Signal:
    return levelled(_pad(write_pad(plan, rng), rng, frames, rate))


def _riff_layer(plan: Plan, rng: Rng, frames: int, rate: int) -> Signal:
    notes = write_riff(plan, rng)
    stereo = pick(rng, (_synth, _bell, _guitar, _driven_guitar, _electric_piano))(notes, rng, frames, rate)
    if rng.random() < 0.6:
        stereo = echo(stereo, plan.step_seconds * pick(rng, (2, 3)), rng.uniform(0.2, 0.45), rate)
    # A riff sounds in a few bars only: it is as loud there as the chords are, not as loud over the whole song.
    sounding = min(1.0, sum(note.length for note in notes) / plan.seconds)
    return levelled(stereo, np.sqrt(sounding))


def _guitar(notes: list[Note], rng: Rng, frames: int, rate: int) -> Signal:
    tone = plucked_tone(rng, rate, rng.uniform(0.3, 0.95), rng.uniform(2.0, 5.0), rng.uniform(0.08, 0.4))
    track = play(notes, tone, frames, rate, release=0.08)
    return chorus(track, rng, rate) if rng.random() < 0.4 else pan(track, rng.uniform(-0.6, 0.6))


def _driven_guitar(notes: list[Note], rng: Rng, frames: int, rate: int) -> Signal:
    """Play a string an octave lower through a saturating amplifier and the dull response of its cabinet."""
    tone = plucked_tone(rng, rate, 0.8, 6.0, rng.uniform(0.05, 0.2))
    low = [Note(note.start, note.length, note.pitch - 12, note.velocity) for note in notes]
    track = np.tanh(rng.uniform(1.5, 4.5) * levelled(play(low, tone, frames, rate, release=0.05), 0.3))
    _, bins = frame_grid(frames, rate)
    cabinet = lowpass(bins, rng.uniform(2800.0, 4500.0)) ** 2 * (1.0 - lowpass(bins, 90.0, 0.5))
    return chorus(filter_moving(track, cabinet[None], rate), rng, rate, depth=0.006)


def _electric_piano(notes: list[Note], rng: Rng, frames: int, rate: int) -> Signal:
    tone = fm_tone(rng, rate, 1.0, rng.uniform(0.6, 2.2), rng.uniform(0.7, 1.6), rng.uniform(0.03, 0.2))
    track = play(notes, tone, frames, rate, release=0.12)
    tremolo = np.sin(2 * np.pi * rng.uniform(2.0, 6.0) * np.arange(frames) / rate)
    swaying = track * tremolo * rng.uniform(0.0, 0.35)
    stereo = pan(track, rng.uniform(-0.4, 0.4))
    stereo[0] += swaying
    stereo[1] -= swaying
    return stereo


def _bell(notes: list[Note], rng: Rng, frames: int, rate: int) -> Signal:
    tone = fm_tone(rng, rate, pick(rng, (3.0, 3.5, 7.0)), rng.uniform(0.8, 2.5), rng.uniform(0.4, 1.2))
    return pan(play(notes, tone, frames, rate, release=0.2), rng.uniform(-0.6, 0.6))


def _organ(notes: list[Note], rng: Rng, frames: int, rate: int) -> Signal:
    return chorus(play(notes, organ_tone(rng, rate), frames, rate, release=0.03), rng, rate)


def _synth(notes: list[Note], rng: Rng, frames: int, rate: int) -> Signal:
    tone = saw_tone(rng, rate, 2, rng.uniform(0.03, 0.12), rng.uniform(1200.0, 6000.0), odd_only=rng.random() < 0.4)
    return pan(play(notes, tone, frames, rate, release=0.06), rng.uniform(-0.5, 0.5))


def _pad(notes: list[Note], rng: Rng, frames: int, rate: int) -> Signal:
    """Play slow detuned saws through a low pass that sways over several seconds."""
    times, bins = frame_grid(frames, rate)
    sway = 2.0 ** (rng.uniform(0.2, 1.2) * np.sin(2 * np.pi * (times * rng.uniform(0.05, 0.25) + rng.random())))
    gains = lowpass(bins, rng.uniform(500.0, 1800.0) * sway[:, None], rng.uniform(0.7, 1.6))
    tone = saw_tone(rng, rate, 3, rng.uniform(0.06, 0.18), 5000.0)
    rise = round(rng.uniform(0.05, 0.3) * rate)

    def swelling(pitch: float, seconds: float, velocity: float) -> Signal:
        sound = tone(pitch, seconds, velocity)
        sound[:rise] *= np.linspace(0.0, 1.0, rise)[: len(sound)]
        return sound

    track = play(notes, swelling, frames, rate, release=0.25)
    return chorus(filter_moving(track, gains, rate), rng, rate, depth=0.012)
