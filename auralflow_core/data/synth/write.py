"""A data set of synthesised songs on disk, in the layout of MUSDB18-HQ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from auralflow_core.data.synth.mix import STEMS, check_request, render_song
from auralflow_core.errors import DataError
from auralflow_core.files import atomic_folder

SAMPLE_RATE = 44100
SPLITS = ("train", "valid", "test")

# fmt: off
_FIRST_WORDS = (
    "Amber", "Autumn", "Blue", "Bright", "Broken", "Clear", "Copper", "Crystal", "Distant", "Drifting", "Early",
    "Electric", "Endless", "Faded", "Falling", "Gentle", "Golden", "Hidden", "Hollow", "Indigo", "Ivory", "Last",
    "Little", "Lonely", "Lunar", "Midnight", "Morning", "Northern", "Open", "Paper", "Quiet", "Restless",
    "Scarlet", "Second", "Silent", "Silver", "Sleeping", "Slow", "Summer", "Velvet", "Violet", "Wandering",
    "Warm", "Wild", "Winter",
)
_SECOND_WORDS = (
    "Avenue", "Balcony", "Bells", "Bridge", "Circles", "City", "Clouds", "Coast", "Echoes", "Engine", "Ferry",
    "Fields", "Fires", "Garden", "Harbour", "Heart", "Horizon", "Island", "Lanterns", "Letters", "Lights",
    "Machine", "Mirror", "Mountain", "Ocean", "Orchard", "Parade", "Planets", "Postcard", "Radio", "Rain",
    "River", "Road", "Satellite", "Shadows", "Signals", "Station", "Stories", "Streets", "Tide", "Trains",
    "Valley", "Waves", "Window", "Woods",
)
# fmt: on


def write_songs(
    root: Path,
    *,
    train: int,
    valid: int,
    test: int,
    seconds: float,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write songs as `root/{train,valid,test}/<song>/{mixture,drums,bass,other,vocals}.wav`.

    Files are 16-bit stereo at 44.1 kHz, and a mixture is the exact sum of its stems' samples. A song depends on the
    seed, its split, its place in it and its length alone, so that a larger set begins with the songs of a smaller one.
    A song's folder appears when it is whole; one that stands there already is kept.

    Args:
        root: The data set's folder, made if it is missing.
        train: How many songs to write for training.
        valid: How many for validation.
        test: How many for testing.
        seconds: The length of each song, above 0 and at most 600.
        seed: The data set's number, at least 0.
        progress: Called with the songs that stand and the songs asked for, after each song.

    Raises:
        DataError: A count, the seed or the length is outside its range, or a song of another length stands in `root`.
        AuralflowError: The folder cannot be written or the disk is full.
    """
    counts = dict(zip(SPLITS, (train, valid, test), strict=True))
    for split, count in counts.items():
        if count < 0:
            raise DataError(f"{split} {count}: the number of songs must be at least 0")
    frames = check_request(seed, seconds, SAMPLE_RATE)
    wanted = [(split, index) for split in SPLITS for index in range(counts[split])]
    for done, (split, index) in enumerate(wanted, start=1):
        folder = root / split / song_name(seed, split, index)
        if not _stands(folder, frames):
            _write_song(folder, (seed, SPLITS.index(split), index), seconds)
        if progress is not None:
            progress(done, len(wanted))


def song_name(seed: int, split: str, index: int) -> str:
    """Return the name of a data set's song; no two songs of a data set share one."""
    titles = np.random.default_rng(seed).permutation(len(_FIRST_WORDS) * len(_SECOND_WORDS))
    # The splits take turns, so that no split's names depend on how many songs another one has.
    volume, slot = divmod(index * len(SPLITS) + SPLITS.index(split), len(titles))
    first, second = divmod(int(titles[slot]), len(_SECOND_WORDS))
    title = f"{_FIRST_WORDS[first]} {_SECOND_WORDS[second]}"
    return f"{title} {volume + 1}" if volume else title


def _stands(folder: Path, frames: int) -> bool:
    files = [folder / f"{name}.wav" for name in ("mixture", *STEMS)]
    if not all(file.is_file() for file in files):
        return False
    found = soundfile.info(str(files[0])).frames
    if found != frames:
        raise DataError(
            f"{folder}: stands there with {found / SAMPLE_RATE:g} s, but {frames / SAMPLE_RATE:g} s are asked for; "
            "delete the songs, or choose another folder or the same length"
        )
    return True


def _write_song(folder: Path, seed: tuple[int, int, int], seconds: float) -> None:
    song = render_song(seed, seconds, SAMPLE_RATE)
    samples = {stem: (song[stem].T * 32768).astype(np.int16) for stem in STEMS}
    # The sum's peak is below full scale, so that it cannot wrap.
    samples["mixture"] = np.sum(list(samples.values()), axis=0, dtype=np.int16)
    with atomic_folder(folder) as scratch:
        for name, audio in samples.items():
            soundfile.write(str(scratch / f"{name}.wav"), audio, SAMPLE_RATE, subtype="PCM_16")
