"""Where chunks lie: which excerpts of which songs an epoch of training is made of.

All draws follow from the seed, the epoch and the chunk's number. No audio is read here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from auralflow_core.config import DatasetConfig
from auralflow_core.data.song import Root, Song
from auralflow_core.errors import ConfigError, DataError, did_you_mean

Indices = NDArray[np.int64]
Masses = NDArray[np.float64]

REST = "(rest)"
"""Stands in the place of a stem's name for what a song's mixture holds besides the targets."""


class Excerpt(NamedTuple):
    """Where a chunk lies: a song, a first sample and a number of samples at the song's own rate."""

    song: Song
    start: int
    frames: int


class Place(NamedTuple):
    """What is planned for a chunk.

    Attributes:
        excerpt: Where it lies.
        lead: Of independent stems, the one that is taken from there; with balanced targets, the one that has to sound.
            Neither: empty.
        is_independent: Whether the other stems come from elsewhere.
    """

    excerpt: Excerpt
    lead: str
    is_independent: bool


class EpochPlan(NamedTuple):
    """The chunks of an epoch: numbers of songs, first samples, numbers of leading stems (-1: none)."""

    songs: Indices
    starts: Indices
    leads: Indices


class Drawer:
    """Draws places for chunks.

    Args:
        songs: The songs.
        config: The settings of the group `dataset`.
        seed: Seed of the order and the places.
        shuffle: Whether epochs differ; if not, chunks are aligned, on a grid from each song's start.

    Raises:
        DataError: There is nothing to draw from, or a song lacks a target where it may not.
    """

    def __init__(self, songs: Sequence[Song], config: DatasetConfig, *, seed: int, shuffle: bool) -> None:
        self.songs = songs
        self.config = config
        self._sampling = config.sampling
        self._seed = seed
        self._shuffle = shuffle
        self._plan = lru_cache(maxsize=2)(self._make_plan)
        self._holders = lru_cache(maxsize=None)(self._find_holders)
        self._check()

    @cached_property
    def count(self) -> int:
        """Number of chunks in an epoch."""
        most = self.config.max_num_samples
        if self._is_free:
            return most
        return min(max(1, round(float(self._masses[self._candidates].sum()))), most)

    @cached_property
    def names(self) -> list[str]:
        """The targets, and then the other stems that independent chunks are made of."""
        others = {name for song in self._drawn for name in self.stems(song)} - set(self.config.targets)
        return [*self.config.targets, *sorted(others)]

    def stems(self, song: Song) -> list[str]:
        """Return what a song gives to a chunk of stems from different songs: its stems, or `REST` for all others."""
        targets, patterns = self.config.targets, self._sampling.rest
        others = [name for name in song.stems if name not in targets]
        if has_residual(song, self.config):
            others = [REST]
        if patterns is not None:
            others = [name for name in others if any(fnmatchcase(name, pattern) for pattern in patterns)]
        return [*(name for name in targets if name in song.stems), *others]

    def is_independent(self, song: Song) -> bool:
        """Whether chunks that begin with this song take their other stems from elsewhere."""
        if not self._shuffle or self._sampling.stems == "aligned":
            return False
        return self._sampling.stems == "independent" or song.is_loose

    def place(self, epoch: int, number: int) -> Place:
        """Return what is planned for a chunk."""
        plan = self._plan(epoch)
        song, lead = self.songs[plan.songs[number]], int(plan.leads[number])
        excerpt = self._excerpt(song, int(plan.starts[number]))
        return Place(excerpt, "" if lead < 0 else self.names[lead], self.is_independent(song))

    def anywhere(self, rng: np.random.Generator, name: str = "", *, aligned: bool = False) -> Excerpt:
        """Draw an excerpt of any song that has the stem, or of those whose chunks are aligned; no name: any stem."""
        songs, upto = self._holders(name, aligned)
        found = min(int(np.searchsorted(upto, rng.random() * upto[-1], side="right")), len(songs) - 1)
        song = self.songs[songs[found]]
        return self._excerpt(song, int(rng.integers(self._room(song) + 1)))

    def _check(self) -> None:
        if self._sampling.missing_stems == "refuse":
            for song in self.songs:
                if not self.is_independent(song):
                    song.require(self.config.targets)
        if not self._drawn:
            raise DataError("all songs have the weight 0, so that none is drawn; change dataset.sampling.weights")
        known = {name for song in self._drawn for name in song.stems}
        for target in self.config.targets:
            if target not in known:
                raise DataError(
                    f"no song has a stem {target!r}{did_you_mean(target, known)} (there are "
                    f"{', '.join(sorted(known)) or 'none'}); add songs that have it, or change `targets`"
                )

    @property
    def _is_anywhere(self) -> bool:
        """Whether chunks lie anywhere, and not side by side."""
        per_song = self.config.n_chunks_per_song is not None
        return self._shuffle and (per_song or self._sampling.places == "anywhere")

    @property
    def _is_free(self) -> bool:
        """Whether the number of chunks is set, and not that of each song."""
        return self._is_anywhere and self.config.n_chunks_per_song is None

    @cached_property
    def _drawn(self) -> list[Song]:
        """The songs that anything is drawn from."""
        return [song for song, mass in zip(self.songs, self._masses, strict=True) if mass > 0]

    @cached_property
    def _candidates(self) -> Indices:
        """The songs that chunks begin with: of files with one stem, those of the stem that there is most of."""
        loose: dict[Root, dict[str, int]] = {}
        for song in self.songs:
            if self.is_independent(song) and song.is_loose:
                totals = loose.setdefault(song.root, {})
                (name,) = song.stems
                totals[name] = totals.get(name, 0) + self._slots(song)
        leads = {root: max(sorted(totals), key=totals.__getitem__) for root, totals in loose.items()}
        return np.array(
            [
                number
                for number, song in enumerate(self.songs)
                if not (self.is_independent(song) and song.is_loose) or leads[song.root] in song.stems
            ],
            np.int64,
        )

    @cached_property
    def _masses(self) -> Masses:
        """How often each song is drawn: on a grid, the number of its chunks."""
        sizes = np.array([self._size(song) * self._weight(song) for song in self.songs], np.float64)
        return sizes * self._root_factors(sizes)

    def _root_factors(self, sizes: Masses) -> Masses:
        """Return what gives each root its share of the chunks, while their number stays."""
        factors = np.ones(len(sizes))
        begins = np.zeros(len(sizes), bool)
        begins[self._candidates] = True
        members = {root: np.array([song.root == root for song in self.songs]) for root in {s.root for s in self.songs}}
        totals = {root: float(sizes[mine & begins].sum()) for root, mine in members.items() if root.weight is not None}
        weights = sum(root.weight or 0.0 for root in totals)
        for root, total in totals.items():
            if self._shuffle and total > 0 and weights > 0:
                factors[members[root]] = (root.weight or 0.0) / weights * sum(totals.values()) / total
        return factors

    def _size(self, song: Song) -> float:
        if not self._is_anywhere:
            return self._slots(song)
        if self.config.n_chunks_per_song:
            return self.config.n_chunks_per_song
        return song.duration if self._sampling.song_share == "duration" else 1.0

    def _weight(self, song: Song) -> float:
        if not self._shuffle:
            return 1.0
        found = [weight for pattern, weight in self._sampling.weights.items() if fnmatchcase(song.name, pattern)]
        return math.prod(found, start=song.weight)

    def _find_holders(self, name: str, aligned: bool) -> tuple[Indices, Masses]:
        """Return the songs that have a stem, and their masses added up."""
        holders = [
            number
            for number, song in enumerate(self.songs)
            if self._masses[number] > 0
            and (not name or name in self.stems(song))
            and not (aligned and self.is_independent(song))
        ]
        return np.array(holders, np.int64), np.cumsum(self._masses[np.array(holders, np.int64)])

    def _make_plan(self, epoch: int) -> EpochPlan:
        """Return the place of every chunk of an epoch."""
        rng = np.random.default_rng([self._seed, epoch])
        # Of its own, so that chunks of songs without weights are what they were before there were weights.
        offsets = np.random.default_rng([self._seed, epoch, 0, 1])
        songs, starts, leads = [], [], []
        for lead, candidates, count in self._shares():
            masses = self._masses[candidates]
            parts = _spread(masses, count, float(offsets.random()) if self._shuffle else 0.0)
            for number, part in zip(candidates, parts, strict=True):
                songs.append(np.full(part, number))
                starts.append(self._starts(rng, self.songs[number], int(part)))
                leads.append(np.full(part, self._lead(self.songs[number]) if lead is None else lead))
        order = np.arange(sum(map(len, songs)))
        if self._shuffle:
            rng.shuffle(order)
        order = order[: self.count]
        return EpochPlan(np.concatenate(songs)[order], np.concatenate(starts)[order], np.concatenate(leads)[order])

    def _shares(self) -> list[tuple[int | None, Indices, int]]:
        """Return what has a share of its own in an epoch: a target or none, the songs it is drawn from, a number."""
        all_ = self._candidates[self._masses[self._candidates] > 0]
        total = self.count if self._is_free else max(1, round(float(self._masses[all_].sum())))
        if not (self._sampling.balance and self._shuffle):
            return [(None, all_, total)]
        having = [all_[[target in self.songs[song].stems for song in all_]] for target in self.config.targets]
        present = [target for target, songs in enumerate(having) if len(songs)]
        total = min(total, self.count)
        counts = [len(range(number, total, len(present))) for number in range(len(present))]
        return [(target, having[target], count) for target, count in zip(present, counts, strict=True)]

    def _lead(self, song: Song) -> int:
        return self.names.index(self.stems(song)[0]) if self.is_independent(song) and self.stems(song) else -1

    def _starts(self, rng: np.random.Generator, song: Song, count: int) -> Indices:
        """Return the first samples of some chunks of a song: anywhere, or on as many grids as it takes."""
        if self._is_anywhere:
            return rng.integers(self._room(song) + 1, size=count)
        length, slots = self._native_frames(song), self._slots(song)
        slack = max(0, song.frames - slots * length)
        starts = [np.zeros(0, np.int64)]
        for done in range(0, count, slots):
            offset = int(rng.integers(slack + 1)) if self._shuffle else 0
            chosen = np.arange(slots) if count - done >= slots else rng.permutation(slots)[: count - done]
            starts.append(offset + length * chosen)
        return np.concatenate(starts)

    def _excerpt(self, song: Song, start: int) -> Excerpt:
        return Excerpt(song, start, min(self._native_frames(song), song.frames - start))

    def _native_frames(self, song: Song) -> int:
        return math.ceil(self.config.sample_length * song.sample_rate)

    def _room(self, song: Song) -> int:
        return max(0, song.frames - self._native_frames(song))

    def _slots(self, song: Song) -> int:
        return max(1, song.frames // self._native_frames(song))


def check_song_patterns(songs: Sequence[Song], config: DatasetConfig) -> None:
    """Refuse patterns that fit none of the training songs or their stems, and so would do nothing.

    Args:
        songs: All songs for training, before some of them are left out.
        config: The settings of the group `dataset`.

    Raises:
        ConfigError: Names the setting, the pattern and the nearest names.
    """
    sampling = config.sampling
    _require_fits(
        "dataset.sampling.weights", sampling.weights, [song.name for song in songs], f"training song (of {len(songs)})"
    )
    others = {name for song in songs for name in song.stems} - set(config.targets)
    if any(has_residual(song, config) for song in songs):
        others.add(REST)
    _require_fits("dataset.sampling.rest", sampling.rest or (), sorted(others), "stem besides the targets")


def check_stem_patterns(config: DatasetConfig) -> None:
    """Refuse patterns of augmented stems that fit none of the targets or the rest.

    Raises:
        ConfigError: Names the setting, the pattern and the nearest names.
    """
    patterns, parts = config.augmentations.stems_by_name, [*config.targets, REST]
    _require_fits("dataset.augmentations.stems_by_name", patterns, parts, f"target, nor {REST}")


def _require_fits(setting: str, patterns: Iterable[str], names: Collection[str], what: str) -> None:
    for pattern in patterns:
        if any(fnmatchcase(name, pattern) for name in names):
            continue
        raise ConfigError(
            f"{setting}: {pattern!r} fits no {what}{_nearest(pattern, names)} (patterns are compared with whole names, "
            "letter by letter; `*` stands for anything); mend it, or leave it out"
        )


def _nearest(pattern: str, names: Collection[str]) -> str:
    """Return the names that a pattern could mean, or else the first names."""
    plain = pattern.strip("*? ").casefold()
    near = [name for name in names if plain and plain in name.casefold()]
    if near:
        return f"; did you mean {' or '.join(map(repr, near[:2]))}?"
    return did_you_mean(plain, names) or f"; there are {', '.join([*names][:5]) or 'none'}{', ...' * (len(names) > 5)}"


def has_residual(song: Song, config: DatasetConfig) -> bool:
    """Whether what a song holds besides the targets is only known from its mixture.

    Where mixtures are the sums of stems, several stems are taken for the whole song.
    """
    is_known = any(name not in config.targets for name in song.stems)
    is_whole = config.sampling.mixture == "sum" and len(song.stems) > 1
    return song.mixture is not None and not is_known and not is_whole


def _spread(masses: Masses, count: int, offset: float) -> Indices:
    """Divide a number of chunks among songs by their masses; over many offsets in [0, 1) each gets its exact share."""
    upto = np.cumsum(masses)
    borders = np.floor(upto * (count / upto[-1]) + offset).astype(np.int64)
    borders[-1] = count
    return np.asarray(np.diff(borders, prepend=0), np.int64)
