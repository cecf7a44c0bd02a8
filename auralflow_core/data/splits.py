"""A data set's folder, and which of its songs are for training, validation and test."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal, TypeVar

from auralflow_core.errors import DataError

Split = Literal["train", "valid", "test"]
Item = TypeVar("Item")

# Fixed, so that the songs kept for validation are the same for every model that is compared on a data set.
_SPLIT_SEED = 42


def existing(root: Path) -> Path:
    """Return a data set's folder.

    Raises:
        DataError: It is missing.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; check the path of the data set")
    return root


def divide(
    songs: list[Item], share: float, chosen: Collection[str] = (), *, key: Callable[[Item], str]
) -> tuple[list[Item], list[Item]]:
    """Divide songs into those for training and those for validation.

    Args:
        songs: All songs of the training part.
        share: Share of the songs, in (0, 1), that is kept for validation: at least one song, and not all.
        chosen: Names of the validation songs; if none of them is there, a seeded choice is made by name.
        key: Gives a song's name.

    Raises:
        DataError: There are fewer than two songs.
    """
    if len(songs) < 2:
        raise DataError(
            f"{len(songs)} song(s) cannot be divided into training and validation; add songs, or a folder valid/"
        )
    names = {key(song) for song in songs} & set(chosen)
    if not names or len(names) == len(songs):
        count = min(max(1, round(share * len(songs))), len(songs) - 1)
        names = set(random.Random(_SPLIT_SEED).sample(sorted(key(song) for song in songs), count))
    return [song for song in songs if key(song) not in names], [song for song in songs if key(song) in names]
