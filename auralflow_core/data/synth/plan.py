"""What a song's players agree on: tempo, metre, key, chords, sections and groove."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from auralflow_core.data.synth.dsp import Rng, pick

Steps = tuple[int, ...]

SCALES: dict[str, Steps] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
# Degrees of the scale, counted from 0; chosen so that none needs a diminished chord.
_PROGRESSIONS: dict[str, tuple[Steps, ...]] = {
    "major": (
        (0, 4, 5, 3),
        (5, 3, 0, 4),
        (0, 5, 1, 4),
        (0, 3, 5, 4),
        (3, 0, 4, 5),
        (0, 2, 3, 3),
        (1, 4, 0, 5),
    ),
    "minor": (
        (0, 5, 2, 6),
        (0, 6, 5, 6),
        (0, 3, 5, 6),
        (5, 6, 0, 0),
        (0, 2, 6, 3),
        (0, 0, 5, 4),
        (3, 0, 5, 6),
    ),
    "dorian": ((0, 3, 0, 3), (0, 6, 3, 0), (0, 2, 3, 0), (0, 0, 6, 3)),
    "mixolydian": ((0, 6, 3, 0), (0, 3, 6, 3), (0, 4, 3, 0), (3, 0, 6, 0)),
}
_KICKS: dict[int, tuple[Steps, ...]] = {
    4: ((0, 4, 8, 12), (0, 8), (0, 8, 10), (0, 6, 10), (0, 7, 10), (0, 3, 8, 11), (0, 3, 6, 10), (0, 2, 8)),
    3: ((0,), (0, 6), (0, 10), (0, 4, 10)),
}
_SNARES: dict[int, tuple[Steps, ...]] = {
    4: ((4, 12), (4, 12), (4, 12), (8,), (4, 11)),
    3: ((4, 8), (8,), (6,)),
}
_SECTION_ORDER = ("verse", "chorus", "verse", "chorus", "break", "chorus")
_ENERGY = {"intro": 0.7, "verse": 0.8, "chorus": 1.0, "break": 0.65}


@dataclass(frozen=True)
class Note:
    """One note: start and length in seconds, MIDI pitch, velocity in (0, 1]."""

    start: float
    length: float
    pitch: float
    velocity: float


@dataclass(frozen=True)
class Chord:
    """A chord: its root and its notes as pitch classes, root first."""

    root: int
    notes: Steps


@dataclass(frozen=True)
class Section:
    """Some bars with one character, and the stems that play in it."""

    kind: str
    first_bar: int
    chords: tuple[Chord, ...]
    playing: frozenset[str]

    @property
    def energy(self) -> float:
        """How hard the section is played, in (0, 1]."""
        return _ENERGY[self.kind]


@dataclass(frozen=True)
class Groove:
    """The drummer's pattern of a bar, in sixteenths."""

    kick: Steps
    snare: Steps
    hat_every: int
    hat_offset: int
    ghosts: float


@dataclass(frozen=True)
class Plan:
    """A song's outline; `tonic` is a pitch class, `swing` the lateness of off-eighths as a fraction of a beat."""

    seconds: float
    tempo: float
    beats: int
    swing: float
    tonic: int
    mode: str
    groove: Groove
    sections: tuple[Section, ...]

    @property
    def steps(self) -> int:
        """The sixteenths of a bar."""
        return 4 * self.beats

    @property
    def step_seconds(self) -> float:
        """The length of a sixteenth."""
        return 15.0 / self.tempo

    def time(self, bar: int, step: float) -> float:
        """Return when a sixteenth of a bar begins, in seconds, swing included."""
        beat, within = divmod(step / 4.0, 1.0)
        late = self.swing * (1.0 - abs(2.0 * within - 1.0))
        return (bar * self.beats + beat + within + late) * 60.0 / self.tempo

    def bars(self, stem: str) -> Iterator[tuple[Section, int, Chord]]:
        """Yield the section, number and chord of each bar in which a stem plays."""
        for section in self.sections:
            if stem in section.playing:
                for index, chord in enumerate(section.chords):
                    yield section, section.first_bar + index, chord

    def scale(self) -> Steps:
        """Return the pitch classes of the key."""
        return tuple((self.tonic + step) % 12 for step in SCALES[self.mode])


def plan_song(rng: Rng, seconds: float) -> Plan:
    """Draw the outline of a song."""
    tempo = float(rng.uniform(74.0, 148.0))
    beats = 3 if rng.random() < 0.12 else 4
    mode = pick(rng, ("major", "major", "minor", "minor", "dorian", "mixolydian"))
    tonic = int(rng.integers(12))
    bars = int(np.ceil(seconds * tempo / 60.0 / beats))
    return Plan(
        seconds=seconds,
        tempo=tempo,
        beats=beats,
        swing=pick(rng, (0.0, 0.0, 0.03, 0.1, 0.16)),
        tonic=tonic,
        mode=mode,
        groove=_draw_groove(rng, beats),
        sections=_draw_sections(rng, bars, tonic, mode),
    )


def _draw_groove(rng: Rng, beats: int) -> Groove:
    every, offset = pick(rng, ((2, 0), (2, 0), (1, 0), (4, 0), (4, 2)))
    return Groove(
        kick=pick(rng, _KICKS[beats]),
        snare=pick(rng, _SNARES[beats]),
        hat_every=every,
        hat_offset=offset,
        ghosts=float(rng.choice([0.0, 0.05, 0.15])),
    )


def _draw_sections(rng: Rng, bars: int, tonic: int, mode: str) -> tuple[Section, ...]:
    size = 2 if bars < 14 else 4 if bars < 64 else 8
    seventh = rng.random() < 0.35
    slow = 2 if rng.random() < 0.25 else 1
    loops = {kind: pick(rng, _PROGRESSIONS[mode]) for kind in _ENERGY}
    sections: list[Section] = []
    first = 0
    order = iter(_section_kinds(rng, bars))
    while first < bars:
        kind = next(order)
        count = min(max(1, size // 2) if kind == "intro" else size, bars - first)
        degrees = [loops[kind][(bar // slow) % len(loops[kind])] for bar in range(count)]
        chords = tuple(_chord(degree, tonic, mode, seventh) for degree in degrees)
        sections.append(Section(kind, first, chords, _draw_playing(rng, kind)))
        first += count
    return tuple(sections)


def _section_kinds(rng: Rng, bars: int) -> Iterator[str]:
    if bars >= 6 and rng.random() < 0.7:
        yield "intro"
    while True:
        yield from _SECTION_ORDER


def _draw_playing(rng: Rng, kind: str) -> frozenset[str]:
    everyone = frozenset({"drums", "bass", "other", "vocals"})
    if kind == "intro":
        return pick(rng, (everyone - {"vocals"}, frozenset({"other", "drums"}), frozenset({"other"})))
    if kind == "break":
        return pick(rng, (everyone - {"vocals"}, everyone - {"drums"}, frozenset({"other", "vocals"}), everyone))
    return everyone


def _chord(degree: int, tonic: int, mode: str, seventh: bool) -> Chord:
    scale = SCALES[mode]
    notes = tuple((tonic + scale[(degree + third) % 7]) % 12 for third in ((0, 2, 4, 6) if seventh else (0, 2, 4)))
    return Chord(notes[0], notes)
