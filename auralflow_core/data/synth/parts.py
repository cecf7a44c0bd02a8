"""What each player reads: the bass line, the chords, the riff and the melody as lists of notes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from auralflow_core.data.synth.dsp import Rng, pick
from auralflow_core.data.synth.plan import SCALES, Chord, Note, Plan, Section, Steps

BASS_STYLES = ("held", "eighths", "octaves", "with_kick", "walking")
CHORD_STYLES = ("held", "strummed", "arpeggio", "stabs", "halves")

# Onsets of a two-beat cell in sixteenths, each with its length; a melody strings such cells together.
_CELLS: tuple[tuple[tuple[int, int], ...], ...] = (
    ((0, 8),),
    ((0, 4), (4, 4)),
    ((0, 2), (2, 2), (4, 4)),
    ((0, 4), (4, 2), (6, 2)),
    ((0, 3), (3, 3), (6, 2)),
    ((0, 6), (6, 2)),
    ((2, 2), (4, 4)),
    ((2, 2), (4, 2), (6, 2)),
    ((0, 2), (2, 2), (4, 2), (6, 2)),
    ((0, 3), (3, 5)),
)


def write_bass(plan: Plan, rng: Rng, style: str) -> list[Note]:
    """Write the bass line in one of `BASS_STYLES`; choruses of a held line move in eighths."""
    lowest = int(rng.integers(28, 34))
    notes: list[Note] = []
    bars = list(plan.bars("bass"))
    for index, (section, bar, chord) in enumerate(bars):
        root = _nearest_above(chord.root, lowest)
        following = bars[(index + 1) % len(bars)][2]
        here = "eighths" if style == "held" and section.kind == "chorus" else style
        for step, length, pitch in _bass_bar(plan, rng, here, root, chord, _nearest_above(following.root, lowest)):
            velocity = section.energy * rng.uniform(0.75, 1.0)
            notes.append(_note(plan, rng, bar, step, length * 0.92, pitch, velocity, spread=0.004))
    return notes


def write_chords(plan: Plan, rng: Rng, style: str) -> list[Note]:
    """Write the accompaniment in one of `CHORD_STYLES`, each chord voiced near the one before."""
    centre = float(rng.uniform(56, 66))
    pattern = _strum_pattern(rng, plan.steps)
    order = rng.permutation(4)
    notes: list[Note] = []
    for section, bar, chord in plan.bars("other"):
        voicing = _voice(chord, centre)
        velocity = section.energy * 0.8
        if style == "arpeggio":
            every = 1 if section.kind == "chorus" and plan.tempo < 105 else 2
            for index, step in enumerate(range(0, plan.steps, every)):
                pitch = voicing[int(order[index % 4]) % len(voicing)] + (12 if index % 8 == 5 else 0)
                notes.append(_note(plan, rng, bar, step, every * 2.5, pitch, velocity * rng.uniform(0.6, 1.0)))
            continue
        for step, length in _chord_hits(style, plan.steps, pattern):
            upward = style == "strummed" and step % 4 == 2
            lag = 0.011 if style == "strummed" else 0.003
            for index, pitch in enumerate(voicing[::-1] if upward else voicing):
                note = _note(plan, rng, bar, step, length, pitch, velocity * rng.uniform(0.75, 1.0))
                notes.append(Note(note.start + index * lag, note.length, note.pitch, note.velocity))
    return notes


def write_pad(plan: Plan, rng: Rng) -> list[Note]:
    """Write chords held for whole bars."""
    centre = float(rng.uniform(58, 70))
    return [
        _note(plan, rng, bar, 0, plan.steps * 1.02, pitch, 0.6, spread=0.0)
        for _, bar, chord in plan.bars("other")
        for pitch in _voice(chord, centre)
    ]


def write_riff(plan: Plan, rng: Rng) -> list[Note]:
    """Write a two-bar riff on the pentatonic notes of the key, where nobody sings and in some choruses."""
    centre = float(rng.uniform(67, 79))
    ladder = _ladder(plan, centre, pentatonic=True)
    rhythm = [_bar_rhythm(plan, rng) for _ in range(2)]
    shape = [[int(move) for move in rng.integers(-2, 3, len(bar))] for bar in rhythm]
    in_chorus = rng.random() < 0.6
    notes: list[Note] = []
    for section, bar, chord in plan.bars("other"):
        if "vocals" in section.playing and not (section.kind == "chorus" and in_chorus):
            continue
        place = _start_on(ladder, chord, centre)
        for (step, length), move in zip(rhythm[bar % 2], shape[bar % 2], strict=True):
            place = int(np.clip(place + move, 0, len(ladder) - 1))
            velocity = section.energy * rng.uniform(0.6, 0.95)
            notes.append(_note(plan, rng, bar, step, length * 0.9, ladder[place], velocity))
    return notes


def write_melody(plan: Plan, rng: Rng, centre: float) -> list[Note]:
    """Write the sung melody around a pitch: phrases of two bars that end on a long note and a breath.

    Sections of one kind share their phrases' rhythm and contour, as verses and choruses do.
    """
    motifs: dict[str, list[list[tuple[int, int, int]]]] = {}
    notes: list[Note] = []
    for section in plan.sections:
        if "vocals" not in section.playing:
            continue
        if section.kind not in motifs:
            motifs[section.kind] = [_phrase(plan, rng) for _ in range(2)]
        middle = centre + (2.5 if section.kind == "chorus" else 0.0)
        for first in range(0, len(section.chords), 2):
            phrase = motifs[section.kind][(first // 2) % 2]
            notes.extend(_sing_phrase(plan, rng, section, first, phrase, middle))
    return notes


def harmony(notes: list[Note], plan: Plan) -> list[Note]:
    """Return the melody's notes of choruses a third higher in the key."""
    spans = [
        (plan.time(section.first_bar, 0), plan.time(section.first_bar + len(section.chords), 0))
        for section in plan.sections
        if section.kind == "chorus"
    ]
    scale = [plan.tonic + step + 12 * octave for octave in range(10) for step in SCALES[plan.mode]]
    found = []
    for note in notes:
        if any(start - 0.05 <= note.start < end - 0.05 for start, end in spans):
            place = int(np.argmin([abs(pitch - note.pitch) for pitch in scale]))
            found.append(Note(note.start, note.length, scale[min(place + 2, len(scale) - 1)], note.velocity))
    return found


def _note(
    plan: Plan,
    rng: Rng,
    bar: int,
    step: float,
    length: float,
    pitch: float,
    velocity: float,
    spread: float = 0.006,
) -> Note:
    start = max(0.0, plan.time(bar, step) + rng.normal() * spread)
    return Note(start, length * plan.step_seconds, pitch, float(min(velocity, 1.0)))


def _bass_bar(
    plan: Plan, rng: Rng, style: str, root: int, chord: Chord, following: int
) -> Iterator[tuple[int, float, int]]:
    steps = plan.steps
    if style == "held":
        yield 0, steps - 2, root
        yield steps - 2, 2, root if rng.random() < 0.5 else following
    elif style == "with_kick":
        onsets = sorted({*plan.groove.kick, steps - 2} if rng.random() < 0.4 else plan.groove.kick)
        for onset, end in zip(onsets, [*onsets[1:], steps], strict=True):
            yield onset, min(end - onset, 4), root if onset < steps - 2 else following
    elif style == "walking":
        path = [root, _nearest_above(chord.notes[1], root), _nearest_above(chord.notes[2], root)][: plan.beats - 1]
        for beat, pitch in enumerate([*path, following + pick(rng, (-1, 1, 2))]):
            yield 4 * beat, 4, pitch
    else:
        leap = 12 if style == "octaves" else 0
        for step in range(0, steps, 2):
            fill = step == steps - 2 and rng.random() < 0.3
            yield step, 2, _nearest_above(chord.notes[2], root) if fill else root + leap * (step // 2 % 2)


def _chord_hits(style: str, steps: int, pattern: Steps) -> list[tuple[int, float]]:
    if style == "held":
        return [(0, float(steps))]
    if style == "halves":
        return [(step, 7.5) for step in range(0, steps, 8)]
    if style == "stabs":
        return [(step, 1.5) for step in range(2, steps, 4)]
    return [(step, float(end - step)) for step, end in zip(pattern, [*pattern[1:], steps], strict=True)]


def _strum_pattern(rng: Rng, steps: int) -> Steps:
    return tuple(step for step in range(0, steps, 2) if step == 0 or rng.random() < (0.8 if step % 4 == 0 else 0.6))


def _bar_rhythm(plan: Plan, rng: Rng) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first in range(0, plan.steps, 8):
        room = min(8, plan.steps - first)
        found.extend((first + at, min(length, room - at)) for at, length in pick(rng, _CELLS) if at < room)
    return found


def _phrase(plan: Plan, rng: Rng) -> list[tuple[int, int, int]]:
    """Return two bars of melody as (step, length, move on the ladder), the last note long, then a rest."""
    second = [(plan.steps + step, length) for step, length in _bar_rhythm(plan, rng)]
    rest = int(rng.integers(3, 7))
    end = 2 * plan.steps - rest
    rhythm = [(step, length) for step, length in [*_bar_rhythm(plan, rng), *second] if step < end - 3]
    last = rhythm[-1][0]
    rhythm[-1] = (last, end - last)
    moves = rng.choice([-3, -2, -1, -1, 0, 0, 1, 1, 2, 3], size=len(rhythm))
    return [(step, length, int(move)) for (step, length), move in zip(rhythm, moves, strict=True)]


def _sing_phrase(
    plan: Plan, rng: Rng, section: Section, first: int, phrase: list[tuple[int, int, int]], middle: float
) -> Iterator[Note]:
    ladder = _ladder(plan, middle)
    place = _start_on(ladder, section.chords[first], middle)
    bars = len(section.chords) - first
    for step, length, move in phrase:
        bar, within = divmod(step, plan.steps)
        if bar >= bars:
            return
        place += move
        # A melody that drifts is pulled back, and on a strong beat it settles on a note of the chord.
        place += int(np.sign(len(ladder) // 2 - place)) * (abs(place - len(ladder) // 2) > 4)
        place = int(np.clip(place, 0, len(ladder) - 1))
        if within % 8 == 0 or length >= 6:
            place = _settle(ladder, place, section.chords[first + bar])
        velocity = section.energy * rng.uniform(0.8, 1.0)
        yield _note(plan, rng, section.first_bar + first + bar, within, length * 0.97, ladder[place], velocity, 0.012)


def _ladder(plan: Plan, centre: float, pentatonic: bool = False) -> list[int]:
    classes = plan.scale()
    if pentatonic:
        skipped = (3, 6) if plan.mode in ("major", "mixolydian") else (1, 5)
        classes = tuple(note for index, note in enumerate(classes) if index not in skipped)
    return [pitch for pitch in range(round(centre) - 9, round(centre) + 10) if pitch % 12 in classes]


def _start_on(ladder: list[int], chord: Chord, centre: float) -> int:
    return _settle(ladder, int(np.argmin([abs(pitch - centre) for pitch in ladder])), chord)


def _settle(ladder: list[int], place: int, chord: Chord) -> int:
    fits = [index for index, pitch in enumerate(ladder) if pitch % 12 in chord.notes]
    return min(fits, key=lambda index: abs(index - place)) if fits else place


def _nearest_above(pitch_class: int, lowest: int) -> int:
    return lowest + (pitch_class - lowest) % 12


def _voice(chord: Chord, centre: float) -> list[int]:
    low = round(centre) - 6
    return sorted(_nearest_above(note, low) for note in chord.notes)
