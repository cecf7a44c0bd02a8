"""Open a data set as training and evaluation do, and tell what they refuse."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import get_args

from auralflow_core.build import open_dataset
from auralflow_core.config import Config
from auralflow_core.data.folder import FolderDataset
from auralflow_core.data.musdb import MusdbDataset
from auralflow_core.data.open import pool, suited
from auralflow_core.data.song import Song
from auralflow_core.data.splits import Split
from auralflow_core.doctor.finding import Finding
from auralflow_core.doctor.inventory import Candidate
from auralflow_core.doctor.songs import check_doubles
from auralflow_core.errors import AuralflowError
from auralflow_core.registry import Registry

_SPLITS: tuple[Split, ...] = get_args(Split)


def refused(where: str, error: AuralflowError) -> Finding:
    """Return the finding for what training, or for the songs for test evaluation, refuses with this error."""
    by = "evaluation" if where == "test" else "training"
    return Finding.of_error("opening", where, error, said=f"{by} refuses it: ")


def all_stems(config: Config, songs: Sequence[Candidate]) -> Config:
    """Return the settings for a model of all stems that every song has, or of all stems that belong to no song."""
    whole = [song.stems for song in songs if song.stems and not song.is_loose]
    whole = whole or [[stem for song in songs for stem in song.stems]]
    common = [stem for stem in dict.fromkeys(whole[0]) if all(stem in stems for stems in whole)]
    return config.model_copy(update={"dataset": config.dataset.model_copy(update={"targets": common})})


def check_opening(
    root: Path, config: Config, registry: Registry, songs: Sequence[Candidate], found: Collection[Finding]
) -> Iterator[Finding]:
    """What training refuses of the songs for training and validation, and evaluation of those for test.

    Args:
        root: The data set's folder.
        config: The settings.
        registry: The registry.
        songs: The songs as they were listed.
        found: What is known already; it is not told again.
    """
    errors = [finding for finding in found if finding.severity == "error"]
    said = {finding.what for finding in errors}
    faulty = {finding.where for finding in errors}
    try:
        dataset = open_dataset(root, config, registry)
    except AuralflowError as error:
        yield refused("data", error)
        return
    if isinstance(dataset, FolderDataset | MusdbDataset):
        for song in (song for song in songs if song.files):
            doubles = list(check_doubles(song))
            yield from doubles
            faulty |= {finding.where for finding in doubles}
    marks = [mark for song in songs if song.where in faulty for mark in _marks(song)]
    for split in _splits(songs, faulty):
        try:
            _check_chunks(dataset.songs(split), split, config)
        except AuralflowError as error:
            finding = refused(split, error)
            if finding.what not in said and not any(mark in str(error) for mark in marks):
                said.add(finding.what)
                yield finding


def _splits(songs: Sequence[Candidate], faulty: Collection[str]) -> list[Split]:
    """Return the splits that are read, without those of which no song could be listed."""
    listed = {song.split for song in songs}
    lost = {split for split in _SPLITS if split in faulty} - listed
    if "train" in lost:  # validation songs may come from it
        return []
    return [split for split in _SPLITS if split in {"train", "valid", *listed} - lost]


def _check_chunks(songs: list[Song], split: Split, config: Config) -> None:
    from auralflow_core.data.chunks import ChunkDataset

    if split != "test":
        data, seed = config.dataset, config.training.random_seed
        kept, _ = suited(songs, data)
        chosen = pool(kept, data.max_num_tracks, seed) if split == "train" else kept
        ChunkDataset(chosen, data, seed=seed, shuffle=split == "train")


def _marks(song: Candidate) -> list[str]:
    """Return what a refusal calls a song: its name, its row of a table, its files."""
    row = re.search(r"\((line \d+)\)$", song.name)
    return [f"song {song.name!r}", *([f", {row[1]}: "] if row else []), *map(str, song.files.values())]
