"""The drum kit: every piece is synthesised once a song, in a few variations, and struck where the groove says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from auralflow_core.data.synth.dsp import Rng, Signal, band_noise, clock, levelled, pick, place, sides
from auralflow_core.data.synth.plan import Plan, Section

_VARIATIONS = 2


@dataclass(frozen=True)
class Hit:
    """One stroke: the piece of the kit, when in seconds, how hard in (0, 1]."""

    piece: str
    time: float
    velocity: float


def render_drums(plan: Plan, rng: Rng, frames: int, rate: int) -> Signal:
    """Return the drum stem, dry: `(channel, time)`."""
    hits = list(write_drums(plan, rng))
    out = np.zeros((2, frames))
    positions = {"kick": 0.0, "snare": 0.05, "hat": 0.35, "open": 0.35, "crash": -0.5, "ride": 0.45}
    positions |= {"tom1": -0.5, "tom2": 0.0, "tom3": 0.5}
    side = pick(rng, (-1.0, 1.0))
    width = rng.uniform(0.4, 1.0)
    levels = _draw_levels(rng)
    for piece, strike in _build_kit(rng, rate).items():
        struck = [hit for hit in hits if hit.piece == piece]
        if not struck:
            continue
        sounds = [strike() for _ in range(_VARIATIONS)]
        gains = levels[piece] * sides(side * width * positions[piece])
        for hit in struck:
            sound = pick(rng, sounds) * hit.velocity**1.5
            for channel, gain in zip(out, gains, strict=True):
                place(channel, gain * sound, hit.time, rate)
    drive = rng.uniform(0.5, 1.5)
    saturated: Signal = np.tanh(drive * out) / drive
    return saturated


def write_drums(plan: Plan, rng: Rng) -> Iterator[Hit]:
    """Yield the strokes of the song: the groove of each bar, fills before a new section, crashes on its first beat."""
    cymbal = pick(rng, ("hat", "hat", "ride"))
    for section, bar, _ in plan.bars("drums"):
        first = bar == section.first_bar
        last = bar == section.first_bar + len(section.chords) - 1
        fill = int(pick(rng, (4, 6, 8))) if last and rng.random() < 0.75 else 0
        if first and section.kind != "intro" and rng.random() < 0.7:
            yield _stroke(plan, rng, "crash", bar, 0, 0.9)
        yield from _groove_bar(plan, rng, section, bar, plan.steps - fill, cymbal)
        yield from _fill(plan, rng, bar, fill)


def _groove_bar(plan: Plan, rng: Rng, section: Section, bar: int, end: int, cymbal: str) -> Iterator[Hit]:
    groove, energy = plan.groove, section.energy
    ride = cymbal if section.kind == "chorus" else "hat"
    for step in range(end):
        if step in groove.kick or (rng.random() < 0.04 and step % 2 == 0):
            yield _stroke(plan, rng, "kick", bar, step, energy)
        if step in groove.snare and section.kind != "break":
            yield _stroke(plan, rng, "snare", bar, step, energy)
        elif rng.random() < groove.ghosts:
            yield _stroke(plan, rng, "snare", bar, step, 0.3)
        if step % groove.hat_every == groove.hat_offset:
            opened = ride == "hat" and step % 8 == 6 and rng.random() < 0.25
            accent = energy * (1.0 if step % 4 == 0 else 0.7 if step % 2 == 0 else 0.5)
            yield _stroke(plan, rng, "open" if opened else ride, bar, step, accent)


def _fill(plan: Plan, rng: Rng, bar: int, length: int) -> Iterator[Hit]:
    every = pick(rng, (1, 2)) if plan.tempo < 120 else 2
    pieces = ("snare", "tom1", "tom2", "tom3")
    for index, step in enumerate(range(plan.steps - length, plan.steps, every)):
        piece = pieces[min(3, 4 * index * every // max(length, 1))]
        yield _stroke(plan, rng, piece, bar, step, 0.6 + 0.35 * index * every / max(length, 1))


def _stroke(plan: Plan, rng: Rng, piece: str, bar: int, step: int, velocity: float) -> Hit:
    time = max(0.0, plan.time(bar, step) + rng.normal() * 0.003)
    return Hit(piece, time, float(np.clip(velocity * rng.uniform(0.85, 1.1), 0.05, 1.0)))


def _draw_levels(rng: Rng) -> dict[str, float]:
    levels = {"kick": 0.8, "snare": 0.6, "hat": 0.2, "open": 0.2, "crash": 0.3, "ride": 0.2}
    levels |= {"tom1": 0.55, "tom2": 0.6, "tom3": 0.65}
    return {piece: level * float(rng.uniform(0.8, 1.25)) for piece, level in levels.items()}


def _build_kit(rng: Rng, rate: int) -> dict[str, Callable[[], Signal]]:
    """Draw a kit: functions that synthesise one more variation of each piece, at a peak of about 1."""
    tuning = float(rng.uniform(0.85, 1.2))
    metal = rng.uniform(290.0, 620.0) * np.sort(rng.uniform(1.0, 4.5, 6))
    hat_low = float(rng.uniform(5000.0, 8000.0))
    hat_decay = float(rng.uniform(0.02, 0.06))
    ring = float(rng.uniform(0.1, 0.5))
    return {
        "kick": _kick_maker(rng, rate, tuning),
        "snare": _snare_maker(rng, rate, tuning),
        "hat": lambda: _metallic(rng, rate, metal, hat_low, hat_decay),
        "open": lambda: _metallic(rng, rate, metal, hat_low, 0.22),
        "crash": lambda: _metallic(rng, rate, metal * 0.8, 2500.0, 0.55),
        "ride": lambda: _metallic(rng, rate, metal * 1.1, 3800.0, 0.3, stick=ring),
        "tom1": lambda: _tom(rng, rate, 165.0 * tuning),
        "tom2": lambda: _tom(rng, rate, 125.0 * tuning),
        "tom3": lambda: _tom(rng, rate, 88.0 * tuning),
    }


def _kick_maker(rng: Rng, rate: int, tuning: float) -> Callable[[], Signal]:
    base, sweep = 50.0 * tuning, float(rng.uniform(80.0, 260.0))
    fall, decay = float(rng.uniform(0.015, 0.045)), float(rng.uniform(0.07, 0.2))
    click = float(rng.uniform(0.05, 0.4))

    def strike() -> Signal:
        time = clock(decay * 6.0, rate)
        # The phase is the integral of a frequency that falls from base + sweep to base.
        phase = base * time + sweep * fall * (1.0 - np.exp(-time / fall))
        body = np.sin(2 * np.pi * phase) * np.exp(-time / decay)
        noise = band_noise(rng, len(time), rate, 1500.0, 6000.0) * np.exp(-time / 0.004)
        return _faded(body + click * noise, rate)

    return strike


def _snare_maker(rng: Rng, rate: int, tuning: float) -> Callable[[], Signal]:
    low, high = float(rng.uniform(700.0, 2000.0)), float(rng.uniform(6000.0, 11000.0))
    decay, tone = float(rng.uniform(0.05, 0.13)), float(rng.uniform(0.3, 0.9))
    pitch = float(rng.uniform(165.0, 220.0)) * tuning
    clap = rng.random() < 0.25

    def strike() -> Signal:
        time = clock(decay * 6.0, rate)
        envelope = np.exp(-time / decay)
        if clap:
            envelope = 0.5 * envelope + sum(np.exp(-np.maximum(time - at, 0) / 0.006) * (time >= at) for at in _CLAPS)
        noise = band_noise(rng, len(time), rate, low, high) * 0.35 * envelope
        bend = 1.0 + 0.25 * np.exp(-time / 0.012)
        shell = np.sin(2 * np.pi * pitch * time * bend) + 0.5 * np.sin(2 * np.pi * 1.68 * pitch * time * bend)
        return _faded(noise + (0.2 if clap else tone) * shell * np.exp(-time / 0.045), rate)

    return strike


def _metallic(rng: Rng, rate: int, partials: Signal, low: float, decay: float, stick: float = 0.0) -> Signal:
    """Return a cymbal: noise above `low` Hz with inharmonic partials ringing through it."""
    time = clock(decay * 5.0, rate)
    noise = band_noise(rng, len(time), rate, low, 16000.0)
    octaves = partials * np.ceil(low / partials / 1.5)
    heard = octaves[octaves < 0.45 * rate]
    starts = rng.random(len(heard))
    ring = sum(
        (np.sin(2 * np.pi * (f * time + at)) for f, at in zip(heard, starts, strict=True)),
        np.zeros(len(time)),
    )
    sound = (noise + (0.15 + stick) * levelled(ring)) * np.exp(-time / decay)
    if stick:
        sound += 1.5 * noise * np.exp(-time / 0.008)
    return _faded(0.4 * sound, rate)


def _tom(rng: Rng, rate: int, pitch: float) -> Signal:
    time = clock(0.55, rate)
    phase = pitch * time + 0.35 * pitch * 0.04 * (1.0 - np.exp(-time / 0.04))
    body = np.sin(2 * np.pi * phase) + 0.3 * np.sin(2 * np.pi * 1.59 * phase) * np.exp(-time / 0.05)
    noise = band_noise(rng, len(time), rate, 300.0, 5000.0) * np.exp(-time / 0.015)
    return _faded(body * np.exp(-time / 0.14) + 0.25 * noise, rate)


def _faded(sound: Signal, rate: int) -> Signal:
    # One millisecond in, five out: no click where a sound is cut.
    rise, fall = max(1, rate // 1000), max(1, rate // 200)
    sound[:rise] *= np.linspace(0.0, 1.0, rise)[: len(sound)]
    sound[-fall:] *= np.linspace(1.0, 0.0, fall)[-len(sound) :]
    return sound


_CLAPS = (0.0, 0.011, 0.023)
