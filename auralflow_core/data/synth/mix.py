"""The engineer: puts the stems into a room, balances them, and rounds them to the samples of a file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from auralflow_core.data.synth.drums import render_drums
from auralflow_core.data.synth.dsp import Rng, Signal, convolve, decibels, echo, levelled, pan, rms, room
from auralflow_core.data.synth.parts import harmony, write_melody
from auralflow_core.data.synth.plan import Plan, plan_song
from auralflow_core.data.synth.players import render_bass, render_other
from auralflow_core.data.synth.voice import draw_voice, sing
from auralflow_core.errors import DataError

STEMS = ("drums", "bass", "other", "vocals")

LONGEST_SECONDS = 600.0
LOWEST_RATE, HIGHEST_RATE = 8000, 192000
_FULL_SCALE = 32768


def render_song(
    seed: int | Sequence[int], seconds: float = 24.0, sample_rate: int = 44100
) -> dict[str, NDArray[np.float32]]:
    """Compose, play and mix a song.

    Every sample is a multiple of 1/32768, so that 16-bit files hold the stems and their sum exactly, and the last
    digits in which processors differ are rounded away: a seed gives the same bytes everywhere.

    Args:
        seed: A number of at least 0, or several of them: a data set's, a split's, a song's.
        seconds: The song's length, above 0 and at most 600. From 12 s on, every stem plays.
        sample_rate: Samples per second, 8000 to 192000.

    Returns:
        The stems by name, in the order of `STEMS`, each `(2, frames)` in [-1, 1]. Their sum peaks between 0.8 and 0.96;
        the vocals lie 2 to 4 dB below the accompaniment where they are heard at all.

    Raises:
        DataError: The seed, the length or the sample rate is outside its range.
    """
    frames = check_request(seed, seconds, sample_rate)
    numbers = _numbers(seed)
    # NumPy pads short seeds with zeros, so that 1 would be (1, 0): how many numbers there are counts too.
    sequence = np.random.SeedSequence([len(numbers), *numbers])
    planning, drumming, bassing, playing, singing, mixing = (
        np.random.default_rng(child) for child in sequence.spawn(6)
    )
    plan = plan_song(planning, seconds)
    stems = {
        "drums": _in_room(render_drums(plan, drumming, frames, sample_rate), mixing, (-24.0, -12.0), 0.6, sample_rate),
        "bass": render_bass(plan, bassing, frames, sample_rate),
        "other": _in_room(render_other(plan, playing, frames, sample_rate), mixing, (-22.0, -10.0), 1.0, sample_rate),
        "vocals": _in_room(_render_vocals(plan, singing, frames, sample_rate), mixing, (-20.0, -9.0), 1.2, sample_rate),
    }
    return _mastered(stems, mixing)


def check_request(seed: int | Sequence[int], seconds: float, sample_rate: int) -> int:
    """Return the number of samples of a song that can be rendered.

    Raises:
        DataError: The seed, the length or the sample rate is outside its range.
    """
    numbers = _numbers(seed)
    if not numbers or any(number < 0 for number in numbers):
        raise DataError(f"seed {seed}: must be a whole number of at least 0, or several; choose another seed")
    if not 0 < seconds <= LONGEST_SECONDS:
        raise DataError(
            f"seconds {seconds}: a synthesised song is longer than 0 and at most {LONGEST_SECONDS:.0f} seconds; "
            "ask for a length in that range"
        )
    if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise DataError(
            f"sample_rate {sample_rate}: must be {LOWEST_RATE} to {HIGHEST_RATE} Hz; 44100 suits most models"
        )
    return max(1, round(seconds * sample_rate))


def _numbers(seed: int | Sequence[int]) -> list[int]:
    return [int(seed)] if isinstance(seed, (int, np.integer)) else [int(number) for number in seed]


def _render_vocals(plan: Plan, rng: Rng, frames: int, rate: int) -> Signal:
    """Return the lead, in the middle, with a second voice at the sides of the choruses of some songs."""
    voice = draw_voice(rng)
    notes = write_melody(plan, rng, voice.centre)
    stereo = pan(sing(notes, voice, rng, frames, rate), rng.uniform(-0.1, 0.1))
    second = harmony(notes, plan) if rng.random() < 0.4 else []
    if second:
        stereo += pan(sing(second, voice, rng, frames, rate), rng.uniform(-0.6, 0.6)) * decibels(-8.0)
    if rng.random() < 0.4:
        stereo = echo(stereo, plan.step_seconds * 4, rng.uniform(0.1, 0.25), rate)
    return stereo


def _in_room(stereo: Signal, rng: Rng, level: tuple[float, float], longest: float, rate: int) -> Signal:
    """Add reverberation whose level relative to the dry signal is drawn from a range in dB."""
    response = room(rng, rng.uniform(0.25, longest), rng.uniform(1.2, 3.0), rate)
    wet = convolve(stereo.mean(axis=0), response)
    dry_level = rms(stereo)
    return stereo + levelled(wet, dry_level * decibels(rng.uniform(*level)))


def _mastered(stems: dict[str, Signal], rng: Rng) -> dict[str, NDArray[np.float32]]:
    """Balance the stems, scale the song to its peak, and round it to 16 bits."""
    levels = {"drums": 0.0, "bass": rng.uniform(-3.0, 1.0), "other": rng.uniform(-4.0, 1.0)}
    gains = {stem: decibels(level) / max(rms(stems[stem]), 1e-9) for stem, level in levels.items()}
    mixture = sum((gain * stems[stem] for stem, gain in gains.items()), np.zeros(1))
    gains["vocals"] = rms(mixture) * decibels(rng.uniform(-4.0, -2.0)) / max(rms(stems["vocals"]), 1e-9)
    mixture += gains["vocals"] * stems["vocals"]
    peaks = [gain * _peak(stems[stem]) for stem, gain in gains.items()]
    scale = _FULL_SCALE * rng.uniform(0.82, 0.95) / max(*peaks, _peak(mixture), 1e-9)
    return {stem: _rounded(stems[stem], scale * gains[stem]) for stem in STEMS}


def _peak(signal: Signal) -> float:
    return float(max(signal.max(), -signal.min()))


def _rounded(signal: Signal, scale: float) -> NDArray[np.float32]:
    scaled = signal * scale
    return np.rint(scaled, out=scaled).astype(np.float32) / np.float32(_FULL_SCALE)
