"""Compressed songs, decoded once into a folder of uncompressed samples.

An entry is a folder with `audio.pcm` and `entry.json`. Its name tells the file by path, size and time, and how it was
decoded: a changed file has another entry, which replaces the old one. Samples are kept at the file's own rate and
channel count, so that chunks are the same with the cache as without it, and every model shares it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from auralflow_core.audio import Samples, as_floats
from auralflow_core.config import DatasetConfig
from auralflow_core.data.pcm import PcmSource
from auralflow_core.data.song import Song, Source, SumSource
from auralflow_core.data.splits import Split
from auralflow_core.errors import AudioError, DataError
from auralflow_core.files import atomic_folder
from auralflow_core.weights.cache import cache_folder

Told = Callable[[int, int], None]

_FORMAT = 1
_SAMPLES, _FACTS = "audio.pcm", "entry.json"
_LOCKS = ".locks"
_WIDENED_BYTES = 1 << 20


def _silent(done: int, total: int) -> None:
    pass


class CompressedSource(Protocol):
    """A source that is slow to read by position: one with these attributes is kept in the cache.

    Where `decoding` is empty it is not kept.
    """

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def decoding(self) -> str:
        """What besides the file decides on the samples."""
        ...

    def blocks(self) -> Iterator[Samples]:
        """Yield the whole source in blocks `(channel, frames)`, float32 or, where it holds these, 16-bit integers."""
        ...


@dataclass(frozen=True)
class Entry:
    """A decoded source: its folder, its file and stream, its size in bytes, and whether the file is still as it was."""

    folder: Path
    source: str
    decoding: str
    num_bytes: int
    is_current: bool


@dataclass(frozen=True)
class _Facts:
    format: int
    source: str
    decoding: str
    subtype: str
    channels: int
    frames: int


class SongCache:
    """A folder of decoded songs, which any number of processes may use at once.

    Args:
        folder: Where it lies; by default in the platform's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "songs"

    def songs(self, songs: Sequence[Song], told: Told = _silent) -> list[Song]:
        """Return the songs with compressed sources replaced by decoded ones; what is missing is decoded now.

        Args:
            songs: Any songs; of those that need no decoding nothing is kept.
            told: Called with the number of sources that are decoded and the number that had to be.

        Raises:
            DataError: The disk has not the space.
            AuralflowError: A file cannot be decoded, or the folder cannot be written.
        """
        missing = {
            place: source
            for song in songs
            for source in _compressed(song)
            if self._open(place := self._place(source)) is None
        }
        if missing:
            self._check_space(songs, set(missing))
            self._decode(list(missing.values()), told)
        return [self._decoded(song) for song in songs]

    def entries(self) -> list[Entry]:
        """Return what is kept, in the order of the files' names."""
        found = [entry for place in self._places() if (entry := self._entry(place)) is not None]
        return sorted(found, key=lambda entry: (entry.source, entry.decoding))

    def clear(self) -> int:
        """Remove all entries and what killed processes left; return the number of bytes.

        Nothing else in the folder is touched.
        """
        size = 0
        for place in [*self._places(), *self._leftovers("*")]:
            size += _size(place)
            shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(self.folder / _LOCKS, ignore_errors=True)
        return size

    def _decoded(self, song: Song) -> Song:
        def exchanged(source: Source) -> Source:
            if isinstance(source, SumSource):
                return SumSource(tuple(map(exchanged, source.parts)))
            compressed = _as_compressed(source)
            return source if compressed is None else self._get(compressed)

        stems = {name: exchanged(source) for name, source in song.stems.items()}
        return replace(song, stems=stems, mixture=song.mixture and exchanged(song.mixture))

    def _decode(self, sources: Sequence[CompressedSource], told: Told) -> None:
        # Threads: the decoders, libsndfile and FFmpeg, run outside Python's lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            waiting = [pool.submit(self._get, source) for source in sources]
            told(0, len(waiting))
            try:
                for done, finished in enumerate(as_completed(waiting), start=1):
                    finished.result()
                    told(done, len(waiting))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _get(self, source: CompressedSource) -> PcmSource:
        """Return a source's entry, which is made where there is none."""
        from filelock import FileLock

        place = self._place(source)
        if (found := self._open(place)) is not None:
            return found
        (self.folder / _LOCKS).mkdir(parents=True, exist_ok=True)
        identity = place.name.partition("-")[0]
        with FileLock(self.folder / _LOCKS / identity):
            if (found := self._open(place)) is not None:  # made by another process while this one waited
                return found
            stale = [*self.folder.glob(f"{identity}-*"), *self._leftovers(identity)]
            with atomic_folder(place, is_flushed=False) as scratch:  # a decoder is faster than most disks
                _write(source, scratch)
            for old in stale:
                if old != place:
                    shutil.rmtree(old, ignore_errors=True)
        found = self._open(place)
        assert found is not None
        return found

    def _place(self, source: CompressedSource) -> Path:
        path = source.path.resolve()
        try:
            state = path.stat()
        except OSError as error:
            raise AudioError(f"cannot read {path}: {error.strerror}; check the path and permissions") from error
        identity = _digest(_FORMAT, str(path), source.decoding)
        return self.folder / f"{identity}-{_digest(state.st_size, state.st_mtime_ns)}"

    def _open(self, place: Path) -> PcmSource | None:
        facts = _facts(place)
        if facts is None:
            return None
        source = PcmSource(place / _SAMPLES, 0, facts.subtype, facts.channels, facts.frames)
        return source if _size(place / _SAMPLES) == source.num_bytes else None

    def _entry(self, place: Path) -> Entry | None:
        facts = _facts(place)
        if facts is None:
            return None
        stamp = place.name.partition("-")[2]
        try:
            state = Path(facts.source).stat()
            is_current = stamp == _digest(state.st_size, state.st_mtime_ns)
        except OSError:
            is_current = False
        return Entry(place, facts.source, facts.decoding, _size(place), is_current)

    def _places(self) -> list[Path]:
        return [facts.parent for facts in self.folder.glob(f"[!.]*-*/{_FACTS}")]

    def _leftovers(self, identity: str) -> list[Path]:
        return [path for path in self.folder.glob(f".{identity}-*.part") if path.is_dir()]

    def _check_space(self, songs: Iterable[Song], missing: set[Path]) -> None:
        need = 0
        for song in songs:
            places = {self._place(source) for source in _compressed(song)}
            need += len(places & missing) * song.frames * song.channels * 2
        folder = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        free = shutil.disk_usage(folder).free
        if need > free:
            raise DataError(
                f"{self.folder}: the decoded songs need at least {need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
                "set AURALFLOW_CACHE, --training_cache or --validation_cache to another disk, or --cache false"
            )


def cached(songs: list[Song], config: DatasetConfig, split: Split, told: Told = _silent) -> list[Song]:
    """Return the songs of a split, decoded where the settings want it.

    Raises:
        AuralflowError: See `SongCache.songs`.
    """
    if not config.cache:
        return songs
    named = {"train": config.training_cache, "valid": config.validation_cache, "test": None}[split]
    return SongCache(Path(named) if named else None).songs(songs, told)


def _as_compressed(source: Source) -> CompressedSource | None:
    found: CompressedSource = source  # type: ignore[assignment]  # of a plugin's data set it may have nothing but `read`
    return found if getattr(source, "decoding", "") else None


def _compressed(song: Song) -> list[CompressedSource]:
    return [found for source in song.sources if (found := _as_compressed(source)) is not None]


def _write(source: CompressedSource, folder: Path) -> None:
    """Write an entry."""
    facts = _Facts(_FORMAT, str(source.path.resolve()), source.decoding, *_write_samples(source, folder / _SAMPLES))
    (folder / _FACTS).write_text(json.dumps(asdict(facts), ensure_ascii=False, indent=2), encoding="utf-8")


def _write_samples(source: CompressedSource, path: Path) -> tuple[str, int, int]:
    """Write a source with 16 bits where they hold the samples exactly, else as they are.

    Returns:
        The type of the samples, their channels and frames.
    """
    subtype, channels, frames = "PCM_16", 0, 0
    with path.open("w+b") as file:
        for block in source.blocks():
            whole = _as_16_bits(block) if subtype == "PCM_16" else None
            if subtype == "PCM_16" and whole is None:
                subtype = "FLOAT"
                _widen(file)
            stored = as_floats(block).astype("<f4", copy=False) if whole is None else whole
            file.write(_interleaved(stored).data)
            channels, frames = block.shape[0], frames + block.shape[1]
    return subtype, channels, frames


def _interleaved(audio: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return `(channel, frames)` as contiguous `(frames, channel)`, which most decoders gave in the first place."""
    # Stacking takes a third of the time of a copy of the transposed array.
    return audio.T if audio.T.flags.c_contiguous else np.stack(list(audio), axis=1)


def _as_16_bits(block: Samples) -> NDArray[np.int16] | None:
    """Return samples as 16 bits, or None if these do not hold them."""
    if block.dtype == np.int16:
        return block.astype("<i2", copy=False)
    scaled = block * np.float32(2.0**15)
    with np.errstate(invalid="ignore"):  # what is no number, or too large, is not equal below
        whole = scaled.astype("<i2")
    return whole if np.array_equal(whole.astype(np.float32), scaled) else None  # converted first: twice as fast


def _widen(file: BinaryIO) -> None:
    """Rewrite a file of 16 bits as floating point, its last part first: none is overwritten before it is read."""
    for start in reversed(range(0, file.tell(), _WIDENED_BYTES)):
        file.seek(start)
        narrow = np.frombuffer(file.read(_WIDENED_BYTES), "<i2")
        file.seek(2 * start)
        file.write(as_floats(narrow).astype("<f4", copy=False).data)
    file.seek(0, os.SEEK_END)


def _facts(place: Path) -> _Facts | None:
    """Return what an entry says of itself, or None if it is none, or of another format."""
    try:
        facts = _Facts(**json.loads((place / _FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return facts if facts.format == _FORMAT else None


def _size(path: Path) -> int:
    """Return the bytes of a file, or of the files in a folder; none if it is gone."""
    try:
        return sum(map(_size, path.iterdir())) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


def _digest(*facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
