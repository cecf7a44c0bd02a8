"""The speed of data, ours and peers' in one run: 6 s of stereo at 44.1 kHz, the mixture and 4 stems.

    python benchmarks/data.py SONGS            SONGS: a folder in MUSDB18-HQ's layout, such as /data/musdb18hq
    python benchmarks/data.py SONGS --quick    all rows, too short to be believed

One process: each row reads chunks at random places, from files that the operating system has in memory; rows take
turns, and the best turn of each counts, in seconds of CPU time of this process and its children. `bare` maps the same
bytes as `wav` and makes them float32 arrays `(channel, time)`. `.stem.mp4` files are made of the songs with ffmpeg.
Short songs are repeated, since peers decode a song from its start. musdb and demucs are peers, and left out where they
cannot be imported. demucs loads through torchaudio, which decodes whole files since its version 2.9, by torchcodec;
where that is not installed libsndfile stands in for it.

Workers: batches of a `chunk_loader` with one and with two worker processes, in seconds of the clock: it needs a machine
with two idle cores. Memory: that of a process which reads thousands of chunks, without pages of files. Cache:
the songs as FLAC, MP3 and `.stem.mp4` are decoded into a new cache, and decoded alone by as many threads.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile
import torch

from auralflow_core.config import DatasetConfig, TrainingConfig
from auralflow_core.data.cache import CompressedSource, SongCache
from auralflow_core.data.chunks import ChunkDataset, ChunkKey, chunk_loader
from auralflow_core.data.folder import FolderDataset
from auralflow_core.data.musdb import MusdbDataset
from auralflow_core.data.pcm import PcmSource
from auralflow_core.data.song import Song
from auralflow_core.errors import AuralflowError
from auralflow_core.torchaudio_cpu import import_torchaudio

RATE, SECONDS, BATCH = 44100, 6, 4
NAMES = ("mixture", "drums", "bass", "other", "vocals")
TARGETS = list(NAMES[1:])
GOALS = (("wav", "bare", 0.8), ("stem.mp4, cached", "musdb", 200), ("wav", "demucs Wavset", 20))

Reader = Callable[[int], object]


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs_folder", type=Path)
    parser.add_argument("--songs", type=int, default=4, help="songs that are read, two at least")
    parser.add_argument("--length", type=int, default=180, help="seconds that a song has at least")
    parser.add_argument("--seconds", type=float, default=5, help="seconds a row and turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--chunks", type=int, default=20_000, help="chunks that are read to see memory grow")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.songs, options.length, options.seconds, options.turns, options.chunks = 2, 20, 0.5, 2, 400
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        songs = make_songs(options.songs_folder, folder / "wav", options.songs, options.length)
        print_cache(compressed_songs(folder), folder / "cache", options.turns)
        print_one_process(all_readers(songs, folder), options.seconds, options.turns)
        print_workers(songs, options.seconds, options.turns)
        print_memory(songs, options.chunks)


def dataset_config() -> DatasetConfig:
    """Return the settings of all rows."""
    return DatasetConfig(
        targets=TARGETS, num_channels=2, sample_rate=RATE, sample_length=SECONDS, n_chunks_per_song=1000
    )


# --- songs


def make_songs(source: Path, folder: Path, count: int, length: int) -> list[Song]:
    """Write the songs as 16-bit WAV, as MUSDB18-HQ has them, at least `length` seconds long; return them."""
    found = sorted(path.parent for path in source.glob("train/*/mixture.wav"))[:count]
    if not found:
        raise SystemExit(f"{source}: has no train/SONG/mixture.wav")
    for song in found:
        target = folder / "train" / song.name
        target.mkdir(parents=True)
        for name in NAMES:
            audio, rate = soundfile.read(song / f"{name}.wav", dtype="float32", always_2d=True)
            repeated = np.tile(audio, (-(-length * rate // len(audio)), 1))
            soundfile.write(target / f"{name}.wav", repeated, rate, "PCM_16")
    (folder / "valid").mkdir()
    return FolderDataset(folder, dataset_config()).songs("train")


def compressed_songs(folder: Path) -> dict[str, list[Song]]:
    """Write one song in compressed formats, and all as `.stem.mp4`; return them by format."""
    found = {}
    for suffix in ("flac", "mp3"):
        for path in next((folder / "wav" / "train").iterdir()).glob("*.wav"):
            target = folder / suffix / "train" / path.parent.name / f"{path.stem}.{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(target, *soundfile.read(path))
        (folder / suffix / "valid").mkdir()
        found[suffix] = FolderDataset(folder / suffix, dataset_config()).songs("train")
    try:
        make_stem_files(folder / "wav", folder / "mp4")
        data = MusdbDataset(folder / "mp4", dataset_config())
        found["stem.mp4"] = data.songs("train") + data.songs("valid")
    except (ImportError, OSError, AuralflowError) as error:
        print(f"without .stem.mp4: {error}")
    return found


def make_stem_files(wav: Path, folder: Path) -> None:
    """Write each song as MUSDB18 has it: five AAC streams."""
    (folder / "train").mkdir(parents=True)
    maps = [word for number in range(len(NAMES)) for word in ("-map", str(number))]
    codec = ["-c:a", "aac", "-b:a", "256k", "-f", "mp4"]
    for song in sorted((wav / "train").iterdir()):
        inputs = [word for name in NAMES for word in ("-i", str(song / f"{name}.wav"))]
        command = ["ffmpeg", "-nostdin", "-loglevel", "error", *inputs, *maps, *codec]
        subprocess.run([*command, str(folder / "train" / f"{song.name}.stem.mp4")], check=True)


# --- chunks in one process


def all_readers(songs: list[Song], folder: Path) -> dict[str, Reader]:
    """Return what reads chunk number n, by the name of the row."""
    readers: dict[str, Reader] = {"bare": bare(songs), "wav": ours(songs)}
    if (folder / "mp4").exists():
        data = MusdbDataset(folder / "mp4", dataset_config())
        kept = SongCache(folder / "cache" / "stem.mp4").songs(data.songs("train") + data.songs("valid"))
        readers |= {"stem.mp4, cached": ours(kept), "musdb": musdb_package(folder / "mp4")}
    try:
        reader = wavset(folder / "wav" / "train")
        reader(0)
        readers["demucs Wavset"] = reader
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        print(f"without demucs: {error}")
    return readers


def ours(songs: list[Song]) -> Reader:
    """Read with our chunk data set."""
    data = ChunkDataset(songs, dataset_config())
    return lambda number: data[ChunkKey(0, number % len(data))]


def bare(songs: list[Song]) -> Reader:
    """Read the bytes of chunks at random places through numpy.memmap, in the fastest of many ways that were tried."""
    mapped = [[mapping(source) for source in (song.mixture, *(song.stems[name] for name in TARGETS))] for song in songs]
    random, frames = np.random.default_rng(0), SECONDS * RATE
    places = [
        (song, int(random.integers(len(song[0]) - frames)))
        for song in (mapped[number] for number in random.integers(len(mapped), size=1000))
    ]

    def read(number: int) -> object:
        song, start = places[number % len(places)]
        chunk = np.empty((len(song), 2, frames), np.float32)
        for part, stored in zip(chunk, song, strict=True):
            np.multiply(stored[start : start + frames].astype(np.float32).T, np.float32(2**-15), out=part)
        return chunk

    return read


def mapping(source: object) -> np.ndarray:
    """Map the samples of a 16-bit WAV file."""
    assert isinstance(source, PcmSource) and source.subtype == "PCM_16"
    return np.memmap(source.path, "<i2", "r", source.offset, (source.frames, source.channels))


def musdb_package(folder: Path) -> Reader:
    """Read with the musdb package, as its page shows it: a chunk of a track, mixture and stems."""
    import musdb

    tracks = musdb.DB(root=str(folder), subsets="train").tracks
    random = np.random.default_rng(0)

    def read(number: int) -> object:
        track = tracks[number % len(tracks)]
        track.chunk_duration = SECONDS
        track.chunk_start = random.uniform(0, track.duration - SECONDS)
        return track.stems

    return read


def wavset(folder: Path) -> Reader:
    """Read with demucs' data set of WAV files."""
    torchaudio: Any = import_torchaudio()  # demucs imports it, and its wheel may not fit this torch
    if not hasattr(torchaudio, "info"):  # gone since 2.9; demucs asks it once a file
        torchaudio.info = lambda path: SimpleNamespace(
            num_frames=soundfile.info(path).frames, sample_rate=soundfile.info(path).samplerate
        )
    if importlib.util.find_spec("torchcodec") is None:
        stand_in: Any = ModuleType("torchcodec.decoders")
        stand_in.AudioDecoder = LibsndfileDecoder
        sys.modules |= {"torchcodec": ModuleType("torchcodec"), "torchcodec.decoders": stand_in}
    from demucs.wav import Wavset, build_metadata

    sources = ["mixture", *TARGETS]
    with redirect_stderr(io.StringIO()):
        metadata = build_metadata(folder, sources, normalize=False)
    data = Wavset(folder, metadata, sources, segment=SECONDS, shift=1, samplerate=RATE, channels=2, normalize=False)
    order = np.random.default_rng(0).permutation(len(data))
    return lambda number: data[int(order[number % len(order)])]


class LibsndfileDecoder:
    """What torchaudio asks of torchcodec's decoder."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.metadata = SimpleNamespace(sample_rate=soundfile.info(path).samplerate)

    def get_all_samples(self) -> object:
        """Return the whole file's samples."""
        audio, _ = soundfile.read(self._path, dtype="float32", always_2d=True)
        return SimpleNamespace(data=torch.from_numpy(audio.T))


def print_one_process(readers: dict[str, Reader], seconds: float, turns: int) -> None:
    """Print chunks per second and the ratios that matter."""
    rates = dict.fromkeys(readers, 0.0)
    for _ in range(turns):
        for name, reader in readers.items():
            rates[name] = max(rates[name], chunks_a_second(reader, seconds))
    print("\nchunks a second of CPU time, one process")
    for name, rate in rates.items():
        print(f"{name:20} {rate:8.1f}")
    for one, other, goal in GOALS:
        if one in rates and other in rates:
            print(f"{one} / {other}: {rates[one] / rates[other]:.2f} (at least {goal})")


def chunks_a_second(read: Reader, seconds: float) -> float:
    """Return chunks per second of CPU time."""
    read(0)
    begin, clock, number = time.perf_counter(), cpu_time(), 0
    while time.perf_counter() - begin < seconds:
        number += 1
        read(number)
    return number / (cpu_time() - clock)


def cpu_time() -> float:
    """Return the seconds of CPU that this process and its finished children have had."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


# --- workers and memory


def print_workers(songs: list[Song], seconds: float, turns: int) -> None:
    """Print how much faster two worker processes load than one."""
    rates = {0: 0.0, 1: 0.0, 2: 0.0}
    for _ in range(turns):
        for workers in rates:
            rates[workers] = max(rates[workers], loaded_a_second(songs, workers, seconds))
    print(f"\nchunks a second of the clock, batches of {BATCH}")
    for workers, rate in rates.items():
        print(f"{workers} workers {rate:20.1f}")
    print(f"2 workers / 1: {rates[2] / rates[1]:.2f} (at least 1.7)")


def loaded_a_second(songs: list[Song], workers: int, seconds: float) -> float:
    """Return the chunks that arrive a second, without the workers' start."""
    data = ChunkDataset(songs, dataset_config().model_copy(update={"n_chunks_per_song": 100_000}))
    loader, _ = chunk_loader(data, TrainingConfig(batch_size=BATCH, num_workers=workers))
    arriving = iter(loader)
    for _ in range(4 * max(1, workers)):  # the first batches were read ahead
        next(arriving)
    begin, number = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        next(arriving)
        number += BATCH
    return number / (time.perf_counter() - begin)


def print_memory(songs: list[Song], chunks: int) -> None:
    """Print the process's own memory at five moments while it reads chunks."""
    read = ours(songs)
    print(f"\nmemory of the process while it reads {chunks} chunks, in MB")
    sizes = []
    for number in range(chunks + 1):
        read(number)
        if number % (chunks // 4) == 0:
            sizes.append(own_memory() / 1e6)
    print(" ".join(f"{size:.1f}" for size in sizes))
    print(f"growth after the first quarter: {sizes[-1] - sizes[1]:+.1f} MB (at most 5)")


def own_memory() -> int:
    """Return the bytes that this process holds, without pages of files."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


# --- the cache


def print_cache(formats: dict[str, list[Song]], folder: Path, turns: int) -> None:
    """Print how fast a cache is built, against decoding alone by as many threads."""
    print("cache: seconds of audio a second, built and decoded alone")
    for name, songs in formats.items():
        sources = [source for song in songs for source in (song.mixture, *song.stems.values())]
        total = sum(song.duration * (len(song.stems) + 1) for song in songs)
        built, decoded = [], []
        for turn in range(turns):
            place = folder / (name if turn == 0 else f"{name} {turn}")
            built.append(cpu_and_wall(lambda songs=songs, place=place: SongCache(place).songs(songs)))
            decoded.append(cpu_and_wall(lambda sources=sources: decode(sources)))
        cpu, wall = map(min, zip(*built, strict=True))
        cpu_alone, wall_alone = map(min, zip(*decoded, strict=True))
        print(
            f"{name:10} {total / wall:8.0f} {total / wall_alone:8.0f}: {wall_alone / wall:.2f} of the decoder's speed "
            f"by the clock, {cpu_alone / cpu:.2f} by CPU time (at least 0.8)"
        )


def decode(sources: Sequence[CompressedSource]) -> None:
    """Decode as the cache does, and keep nothing."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda source: sum(block.shape[1] for block in source.blocks()), sources))


def cpu_and_wall(work: Callable[[], object]) -> tuple[float, float]:
    """Return seconds of CPU and of the clock that something takes."""
    begin, clock = time.perf_counter(), cpu_time()
    work()
    return cpu_time() - clock, time.perf_counter() - begin


if __name__ == "__main__":
    main()
