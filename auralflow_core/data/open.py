"""From a folder to its songs."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from auralflow_core.config import DatasetConfig
from auralflow_core.data.song import Audio, Song, check_convertible
from auralflow_core.data.splits import Split
from auralflow_core.errors import DataError

# What a user wrote goes before what a folder looks like.
_WRITTEN = ("mix", "described")

# How often a song is looked at: twice to know it again among thousands of songs, more often to see that a stem is
# another one.
_LOOKS, _STEM_LOOKS, _LOOK_FRAMES = 2, 8, 512


class SongDataset(Protocol):
    """What a registered data set type is: made of a folder and the settings, it lists the songs of a split."""

    def __init__(self, root: Path, config: DatasetConfig) -> None: ...

    @classmethod
    def detects(cls, root: Path) -> bool:
        """Whether the folder looks like this type; `folder` is asked last."""
        ...

    def songs(self, split: Split) -> list[Song]:
        """Return the songs of a split, sorted by name."""
        ...


def detect(root: Path, types: Mapping[str, type[SongDataset]]) -> str:
    """Return the name of the data set type that recognises the folder; `folder` takes what no other one does."""
    special = [name for name in types if name not in ("folder", *_WRITTEN)]
    written = [name for name in _WRITTEN if name in types]
    return next((name for name in (*written, *special) if types[name].detects(root)), "folder")


def suited(songs: list[Song], config: DatasetConfig) -> tuple[list[Song], list[str]]:
    """Return the songs that training takes, and what is said about those that are converted or left out.

    Raises:
        DataError: No song is left, or one is to be converted that cannot be.
    """
    kept, remarks = songs, []
    if config.other_channels == "convert":
        check_convertible(songs, config.num_channels)
    facts = (
        ("channels", config.num_channels, "channel(s)", config.other_channels, "other_channels"),
        ("sample_rate", config.sample_rate, "Hz", config.other_rates, "other_rates"),
    )
    for name, wanted, unit, choice, setting in facts:
        fitting = [song for song in kept if getattr(song, name) == wanted]
        if len(fitting) == len(kept):
            continue
        if choice == "discard" and not fitting:
            raise DataError(f"no song has {wanted} {unit}, and others are left out; convert them: --{setting} convert")
        what = "left out" if choice == "discard" else "converted as they are read"
        theirs = " or ".join(str(value) for value in sorted({getattr(song, name) for song in kept} - {wanted}))
        count = len(kept) - len(fitting)
        remarks.append(f"{count} of {len(songs)} songs are {what}: they have {theirs} {unit}, the model {wanted}")
        kept = fitting if choice == "discard" else kept
    return kept, remarks


def pool(songs: list[Song], max_num_tracks: int, seed: int) -> list[Song]:
    """Return a seeded choice of at most `max_num_tracks` songs, and as many files of each single stem, in order."""
    kinds: dict[str, list[int]] = {}
    for number, song in enumerate(songs):
        kinds.setdefault(next(iter(song.stems)) if song.is_loose else "", []).append(number)
    chosen: set[int] = set()
    for numbers in kinds.values():
        few = len(numbers) <= max_num_tracks
        chosen.update(numbers if few else random.Random(seed).sample(numbers, max_num_tracks))
    return [song for number, song in enumerate(songs) if number in chosen]


def fingerprint(songs: Sequence[Song]) -> dict[str, Any]:
    """Return what identifies the songs of a split.

    Returns:
        `songs`: their names; `audio`: the `audio_fingerprint` of each; `sha256`: a hash over names, audio and stems.

    Raises:
        AudioError: A file cannot be read.
    """
    audio = [audio_fingerprint(song) for song in songs]
    names = [song.name for song in songs]
    facts = [[name, print_, sorted(song.stems)] for name, print_, song in zip(names, audio, songs, strict=True)]
    return {"songs": names, "audio": audio, "sha256": hashlib.sha256(json.dumps(facts).encode()).hexdigest()}


def audio_fingerprint(song: Song, stems: Sequence[str] = ()) -> str:
    """Return 32 hexadecimal digits by which a song is known again, whatever its name, folder or lossless format.

    They are a hash of its length, rate and channel count and of short pieces of its mixture, rounded to 16 bits, which
    are read by seek.

    Args:
        song: The song.
        stems: Stems that are looked at as well; without any, songs with one mixture have one fingerprint.

    Raises:
        AudioError: A file cannot be read.
    """
    digest = hashlib.sha256(f"{song.frames} {song.sample_rate} {song.channels}".encode())
    frames = min(song.frames, _LOOK_FRAMES)
    looks = _STEM_LOOKS if stems else _LOOKS
    for number in range(looks):
        start = (song.frames - frames) * (2 * number + 1) // (2 * looks)
        digest.update(_as_bytes(song.read_mixture(start, frames)))
        if stems:
            digest.update(_as_bytes(song.read_stems(list(stems), start, frames)))
    return digest.hexdigest()[:32]


def _as_bytes(audio: Audio) -> bytes:
    clipped = np.clip(np.nan_to_num(audio), -1, 1 - 2.0**-15)
    samples: NDArray[np.int16] = np.rint(clipped * 2.0**15).astype("<i2")
    return samples.tobytes()
