"""A library of 60 songs of all kinds, three of them broken: separated undisturbed, and killed three times on the way.

    python benchmarks/library.py rendered/songs --seconds 3        short excerpts, a tiny untrained model
    python benchmarks/library.py rendered/songs --model my_model   whole songs and a trained model

SONGS holds song folders with a mixture.wav, at any depth. The library made of them has wav, flac, ogg, m4a and mp3 of
constant and of variable bit rate, 8 to 96 kHz, 1 to 6 channels. `kill -9` hits the second run three times, when a
quarter, half and three quarters are done. At the end all stems of both are compared bit by bit, and so are their
reports; every stem has its song's rate, channels and length. Ends with status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from auralflow_core.audio import AudioWriter, audio_info, match_channels, read_audio, resample

CLOCK = ("seconds", "speed")
NAMES = ("plain", "with spaces", "Ünïcödé ♫", "dots. and. more", "x" * 120)


@dataclass(frozen=True)
class Kind:
    """A kind of file: how it is written, at which rate in Hz, with how many channels."""

    suffix: str
    rate: int
    channels: int
    bit_depth: str | None = None
    bitrate: int | None = None
    is_variable: bool = False


KINDS = (
    *(
        Kind("wav", rate, channels, depth)
        for rate, channels, depth in [(44100, 2, "16"), (96000, 1, "24"), (8000, 6, "32f")]
    ),
    *(Kind("flac", rate, channels, "24") for rate, channels in [(48000, 2), (88200, 5), (11025, 1), (44100, 4)]),
    *(Kind("mp3", rate, channels, bitrate=64) for rate, channels in [(44100, 2), (32000, 1), (16000, 2)]),
    *(Kind("mp3", rate, channels, is_variable=True) for rate, channels in [(44100, 2), (48000, 1), (22050, 2)]),
    *(Kind("m4a", rate, channels) for rate, channels in [(44100, 2), (48000, 1), (24000, 2)]),
    *(Kind("ogg", rate, channels) for rate, channels in [(44100, 2), (8000, 1), (48000, 3), (96000, 2)]),
)


def main() -> int:
    """Make the library, run twice, compare."""
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        root = Path(folder)
        library = root / "library"
        make_library(options.songs, library, options.count, options.seconds)
        model = options.model or make_model(root / "model")
        words = [str(model), str(library), "--residual", "--jobs", str(options.jobs), *options.words]
        began = time.monotonic()
        status = run(words, root / "undisturbed").wait()
        print(f"undisturbed: status {status}, {time.monotonic() - began:.0f} s")
        for kill in range(1, options.kills + 1):
            songs = options.count * kill // (options.kills + 1)
            ended = killed_when(run(words, root / "killed"), root / "killed", songs)
            print(
                f"killed with {ended_songs(root / 'killed')} of {options.count} songs ended" if ended else "not killed"
            )
        last = run(words, root / "killed").wait()
        faults = [*compare(root, status, last), *check_stems(library, root / "undisturbed", options.count)]
    for fault in faults:
        print(f"FAULT: {fault}")
    print(f"{options.count} songs, 3 broken: {'not as it should be' if faults else 'all as it should be'}")
    return 1 if faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path, help="folder with song folders that hold mixture.wav")
    parser.add_argument("--model", help="model folder or name of weights (a tiny untrained one)")
    parser.add_argument("--count", type=int, default=60, help="number of songs, 3 of them broken (60)")
    parser.add_argument("--seconds", type=float, help="length of the songs (whole)")
    parser.add_argument("--kills", type=int, default=3, help="how often the second run is killed (3)")
    parser.add_argument("--jobs", type=int, default=1, help="songs at once (1)")
    parser.add_argument("--work", type=Path, help="where the work folder is made (the folder for temporary files)")
    parser.add_argument("--words", nargs=argparse.REMAINDER, default=[], help="further options of `auralflow separate`")
    return parser


def make_library(songs: Path, library: Path, count: int, seconds: float | None) -> None:
    """Write the songs of a library, three of them broken."""
    mixtures = sorted(songs.rglob("mixture.wav"))
    if not mixtures:
        sys.exit(f"{songs} has no mixture.wav in its song folders")
    kinds = itertools.cycle(KINDS)
    for number, mixture in zip(range(count - 3), itertools.cycle(mixtures)):
        folder = library / ("" if number % 3 else f"album {number // 12}")
        folder.mkdir(parents=True, exist_ok=True)
        kind = next(kinds)
        write_song(folder / f"{number:02} {NAMES[number % len(NAMES)]}.{kind.suffix}", mixture, kind, seconds)
    whole = next(library.rglob("*.flac")).read_bytes()
    (library / "broken 1.flac").write_bytes(whole[: len(whole) * 2 // 3])
    (library / "broken 2.mp3").write_text("This is no music.\n" * 100)
    (library / "broken 3.wav").touch()


def write_song(path: Path, mixture: Path, kind: Kind, seconds: float | None) -> None:
    """Write a song of a kind."""
    audio, rate = read_audio(mixture)
    audio = audio if seconds is None else audio[:, : round(seconds * rate)]
    stereo = match_channels(resample(audio, rate, kind.rate), 2)
    # Further channels are quieter copies with a delay, so that no two are alike.
    extra = [0.5**channel * np.roll(stereo[channel % 2], 100 * channel) for channel in range(2, kind.channels)]
    signal = np.stack([*stereo, *extra])[: kind.channels].astype(np.float32)
    if kind.is_variable:
        soundfile.write(path, signal.T, kind.rate, format="MP3", bitrate_mode="VARIABLE", compression_level=0.4)
        return
    with AudioWriter(path, kind.rate, kind.channels, bit_depth=kind.bit_depth, bitrate=kind.bitrate) as writer:
        writer.write(signal)


def make_model(folder: Path) -> Path:
    """Make a small model with random weights."""
    from auralflow_core.build import build_model
    from auralflow_core.config import Config, save_config, validate

    data = {
        "model": {"type": "SpectrogramNetSimple", "params": {"hidden_channels": 2}},
        "dataset": {"targets": ["vocals", "drums"], "num_fft": 512, "window_size": 512, "hop_length": 256},
        "separation": {"segment": 2},
    }
    model = build_model(validate(Config, data), folder=folder)
    save_config(model.config, folder / "config.json")
    model.save(0)
    return folder


def run(words: list[str], save: Path) -> subprocess.Popen[bytes]:
    """Start `auralflow separate`."""
    command = [sys.executable, "-m", "auralflow", "separate", *words, "--save", str(save), "--quiet"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def killed_when(process: subprocess.Popen[bytes], save: Path, count: int) -> bool:
    """Kill a process soon after so many songs have ended; return whether it was still there."""
    while process.poll() is None:
        if ended_songs(save) >= count:
            time.sleep(0.1)  # into the next song
            process.kill()
            process.wait()
            return True
        time.sleep(0.01)
    return False


def songs_of(save: Path) -> list[dict[str, Any]]:
    """Return the songs in a report."""
    path = save / "report.json"
    return list(json.loads(path.read_text(encoding="utf-8"))["songs"]) if path.is_file() else []


def ended_songs(save: Path) -> int:
    """Return how many songs have ended, well or not."""
    return sum(song["state"] != "waiting" for song in songs_of(save))


def compare(root: Path, first: int, second: int) -> Iterator[str]:
    """Yield in what the run that was killed differs from the undisturbed one."""
    if (first, second) != (1, 1):
        yield f"the runs ended with status {first} and {second}, not 1, though songs are broken"
    one, two = (contents(root / name) for name in ("undisturbed", "killed"))
    for path in sorted(one.keys() | two.keys()):
        if one.get(path) != two.get(path):
            yield f"{path}: {'differs' if path in one and path in two else 'is in one run only'}"
    reports = ({song["path"]: song for song in songs_of(root / name)} for name in ("undisturbed", "killed"))
    one_report, other = (
        {(path, key): value for path, song in report.items() for key, value in song.items() if key not in CLOCK}
        for report in reports
    )
    for fact in sorted(one_report.keys() | other.keys()):
        if one_report.get(fact) != other.get(fact):
            yield f"report: {fact}: {one_report.get(fact)} and {other.get(fact)}"


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder but the report."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "report.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def check_stems(library: Path, save: Path, count: int) -> Iterator[str]:
    """Yield what is wrong with the report or with the shape of a stem."""
    songs = songs_of(save)
    failed = sorted(Path(song["path"]).name for song in songs if song["state"] == "failed")
    if len(songs) != count or failed != ["broken 1.flac", "broken 2.mp3", "broken 3.wav"]:
        yield f"{len(songs)} songs in the report, failed: {failed}"
    for song in songs:
        if song["state"] != "done":
            continue
        source = audio_info(song["path"])
        for output in song["outputs"]:
            stem = audio_info(save / output["path"])
            shape = [(info.sample_rate, info.channels, info.frames) for info in (source, stem)]
            if shape[0] != shape[1]:
                yield f"{output['path']}: {shape[1]} where the song is {shape[0]}"


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
