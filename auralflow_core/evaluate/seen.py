"""Which tested songs a model knows from its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from auralflow_core.data.open import audio_fingerprint
from auralflow_core.data.song import Song

_SHOWN = 5


@dataclass(frozen=True)
class SeenSong:
    """A tested song that the checkpoint's training used.

    Attributes:
        song: Its name in the test.
        split: What it was used for: `train`, or `valid`, by which the best checkpoint was chosen.
        by: How it was recognised: by `audio`, or by its `name` alone, as another version or a namesake.
        known_as: Its name in the training.
    """

    song: str
    split: Literal["train", "valid"]
    by: Literal["audio", "name"]
    known_as: str


def seen_songs(training: Mapping[str, Any], songs: Sequence[Song]) -> list[SeenSong]:
    """Return the songs that were used to train or to choose a checkpoint.

    Args:
        training: `data` of a checkpoint's `meta.json`; empty where it is not known.
        songs: The tested songs.

    Raises:
        AudioError: A file cannot be read.
    """
    prints = {song.name: audio_fingerprint(song) for song in songs} if training else {}
    seen = []
    for song, audio in prints.items():
        for split in ("train", "valid"):
            known = training.get(split, {})
            names = list(known.get("songs", ()))
            by_audio = dict(zip(known.get("audio", ()), names, strict=False))
            if audio in by_audio:
                seen.append(SeenSong(song, split, "audio", by_audio[audio]))
            elif song in names:
                seen.append(SeenSong(song, split, "name", song))
    return seen


def warnings_of(training: Mapping[str, Any], seen: Sequence[SeenSong], tested: int) -> list[str]:
    """Return what is to be said of songs that a model knows, a line for each kind.

    Args:
        training: `data` of a checkpoint's `meta.json`; empty where it is not known.
        seen: What `seen_songs` found.
        tested: How many songs are tested.
    """
    if not training:
        return ["it is not known which songs this checkpoint was trained with; the tested ones may be among them"]
    kinds = {
        ("train", "audio"): "{} tested songs were in the training of this checkpoint, so that their scores say nothing "
        "about other songs",
        (
            "train",
            "name",
        ): "{} tested songs have the names of training songs of this checkpoint, with other audio; make "
        "sure that they are no other versions of these",
        (
            "valid",
            "audio",
        ): "{} tested songs chose this checkpoint as validation songs, so that their scores are rather high",
        ("valid", "name"): "{} tested songs have the names of validation songs of this checkpoint, with other audio",
    }
    lines = []
    for (split, by), text in kinds.items():
        found = [song for song in seen if (song.split, song.by) == (split, by)]
        if found:
            lines.append(f"{text.format(f'{len(found)} of {tested}')}: {_listed(found)}")
    return lines


def _listed(found: Sequence[SeenSong]) -> str:
    names = [song.song if song.song == song.known_as else f"{song.song} (there {song.known_as})" for song in found]
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
