"""Chunks per second, ours and peers' in one run: 6 s of stereo at 44.1 kHz, the mixture and 4 stems, one process.

    python benchmarks/data.py SONGS            SONGS: a folder in MUSDB18-HQ's layout, such as /data/musdb18hq
    python benchmarks/data.py SONGS --songs 2 --seconds 2

`.stem.mp4` files are made of the first songs with ffmpeg. Each row reads chunks at the same random places for some
seconds, from files that the operating system has in memory; rows take turns, and the best turn of each counts, in
seconds of CPU time of this process and its children. `bare` maps the same bytes as `wav` and makes them float32 arrays
`(channel, time)`. musdb and demucs are peers, and left out where they cannot be imported.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile

from auralflow_core.config import DatasetConfig
from auralflow_core.data.cache import SongCache
from auralflow_core.data.chunks import ChunkDataset, ChunkKey
from auralflow_core.data.folder import FolderDataset
from auralflow_core.data.pcm import PcmSource
from auralflow_core.data.song import Song
from auralflow_core.errors import AuralflowError
from auralflow_core.torchaudio_cpu import import_torchaudio

RATE, SECONDS, TURNS = 44100, 6, 3
NAMES = ("mixture", "drums", "bass", "other", "vocals")
TARGETS = list(NAMES[1:])

Reader = Callable[[int], object]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs_folder", type=Path)
    parser.add_argument("--songs", type=int, default=4, help="songs that are read, two at least")
    parser.add_argument("--seconds", type=float, default=5, help="seconds a row and turn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        songs = make_songs(options.songs_folder, folder / "wav", options.songs)
        make_stem_files(folder / "wav", folder / "mp4")
        readers = all_readers(songs, folder)
        rates = dict.fromkeys(readers, 0.0)
        for _ in range(TURNS):
            for name, reader in readers.items():
                rates[name] = max(rates[name], chunks_a_second(reader, options.seconds))
    print_rates(rates)


def make_songs(source: Path, folder: Path, count: int) -> list[Song]:
    """Write the songs as 16-bit WAV, as MUSDB18-HQ has them; return them."""
    found = sorted(path.parent for path in source.glob("train/*/mixture.wav"))[:count]
    if not found:
        raise SystemExit(f"{source}: has no train/SONG/mixture.wav")
    for song in found:
        target = folder / "train" / song.name
        target.mkdir(parents=True)
        for name in NAMES:
            audio, rate = soundfile.read(song / f"{name}.wav", dtype="float32", always_2d=True)
            soundfile.write(target / f"{name}.wav", audio, rate, "PCM_16")
    (folder / "valid").mkdir()
    return FolderDataset(folder, dataset_config()).songs("train")


def make_stem_files(wav: Path, folder: Path) -> None:
    """Write each song as MUSDB18 has it: five AAC streams."""
    (folder / "train").mkdir(parents=True)
    maps = [word for number in range(len(NAMES)) for word in ("-map", str(number))]
    for song in sorted((wav / "train").iterdir()):
        inputs = [word for name in NAMES for word in ("-i", str(song / f"{name}.wav"))]
        command = [
            "ffmpeg",
            "-nostdin",
            "-loglevel",
            "error",
            *inputs,
            *maps,
            "-c:a",
            "aac",
            "-b:a",
            "256k",
            "-f",
            "mp4",
        ]
        subprocess.run([*command, str(folder / "train" / f"{song.name}.stem.mp4")], check=True)


def dataset_config() -> DatasetConfig:
    """Return the settings of all rows."""
    return DatasetConfig(
        targets=TARGETS, num_channels=2, sample_rate=RATE, sample_length=SECONDS, n_chunks_per_song=1000
    )


def all_readers(songs: list[Song], folder: Path) -> dict[str, Reader]:
    """Return what reads chunk number n, by the name of the row."""
    readers: dict[str, Reader] = {"bare": bare(songs), "wav": ours(songs)}
    try:
        from auralflow_core.data.musdb import MusdbDataset

        data = MusdbDataset(folder / "mp4", dataset_config())
        stem_songs = data.songs("train") + data.songs("valid")
    except (ImportError, AuralflowError) as error:
        print(f"without .stem.mp4: {error}")
    else:
        begin = time.perf_counter()
        kept = SongCache(folder / "cache").songs(stem_songs)
        print(f"cache of {len(kept)} songs built in {time.perf_counter() - begin:.1f} s")
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
    """Read the bytes of the same chunks through numpy.memmap."""
    data = ChunkDataset(songs, dataset_config())
    mapped = {}
    for song in songs:
        for source in (song.mixture, *(song.stems[name] for name in TARGETS)):
            assert isinstance(source, PcmSource) and source.subtype == "PCM_16"
            mapped[source] = np.memmap(source.path, "<i2", "r", source.offset, (source.frames, source.channels))

    def read(number: int) -> object:
        song, start, frames = data.excerpt(ChunkKey(0, number % len(data)))
        chunk = np.empty((len(NAMES), 2, frames), np.float32)
        for index, source in enumerate((song.mixture, *(song.stems[name] for name in TARGETS))):
            np.multiply(mapped[source][start : start + frames].T, np.float32(2**-15), out=chunk[index])
        return chunk

    return read


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
    import_torchaudio()  # demucs imports it, and its wheel may not fit this torch
    from demucs.wav import Wavset, build_metadata

    sources = ["mixture", *TARGETS]
    metadata = build_metadata(folder, sources, normalize=False)
    data = Wavset(folder, metadata, sources, segment=SECONDS, shift=1, samplerate=RATE, channels=2, normalize=False)
    order = np.random.default_rng(0).permutation(len(data))
    return lambda number: data[int(order[number % len(order)])]


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


def print_rates(rates: dict[str, float]) -> None:
    """Print chunks per second and the ratios that matter."""
    for name, rate in rates.items():
        print(f"{name:20} {rate:8.1f} chunks/s")
    pairs = [("wav", "bare", 0.8), ("stem.mp4, cached", "musdb", 200), ("wav", "demucs Wavset", 20)]
    for one, other, goal in pairs:
        if one in rates and other in rates:
            print(f"{one} / {other}: {rates[one] / rates[other]:.2f} (at least {goal})")


if __name__ == "__main__":
    main()
