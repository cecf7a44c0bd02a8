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
from auralflow_core.data.song import Audio, Song
from auralflow_core.data.splits import Split

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
    special = [name for name in types if name != "folder"]
    return next((name for name in special if types[name].detects(root)), "folder")


def pool(songs: list[Song], max_num_tracks: int, seed: int) -> list[Song]:
    """Return at most `max_num_tracks` of the songs: a seeded choice, in the given order."""
    if len(songs) <= max_num_tracks:
        return songs
    chosen = set(random.Random(seed).sample(range(len(songs)), max_num_tracks))
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
    samples: NDArray[np.int16] = np.clip(np.rint(audio * 2.0**15), -(2**15), 2**15 - 1).astype("<i2")
    return samples.tobytes()
