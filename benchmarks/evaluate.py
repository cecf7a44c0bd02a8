"""BSSEval v4 of auralflow beside museval's: time, memory and agreement on one song, in one run.

    python benchmarks/evaluate.py                        a 3-minute stereo song with 4 targets
    python benchmarks/evaluate.py --seconds 60
    python benchmarks/evaluate.py --songs musdb18hq/test the stems of the first song there, tiled to the length

Each side runs in a process of its own, on float audio that is already in memory; memory is the peak above that.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

SAMPLE_RATE = 44100
METRICS = ("SDR", "ISR", "SIR", "SAR")
MEGABYTE = 1e6

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Run:
    """What one side took; scores are `(metric, target, frame)` in dB, memory is in bytes above the inputs."""

    seconds: float
    cpu_seconds: float
    memory: float
    scores: NDArray[np.float64]


def main() -> None:
    """Measure both sides and print a table."""
    options = _parser().parse_args()
    references = _stems(options.songs, options.seconds, options.targets)
    estimates = _separated(references)
    # Threads that wait by spinning take the other side's time wherever cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    print(f"{options.seconds} s, {len(references)} targets, {references.shape[1]} channels, {SAMPLE_RATE} Hz")
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "references.npy"), references)
        np.save(Path(folder, "estimates.npy"), estimates)
        runs = {side: _measured(side, folder) for side in ("auralflow", "museval")}
    for side, run in runs.items():
        print(f"{side:10}{run.seconds:8.1f} s {run.cpu_seconds:8.1f} CPU s {run.memory / MEGABYTE:8.0f} MB")
    ours, theirs = runs["auralflow"], runs["museval"]
    print(
        f"{theirs.seconds / ours.seconds:.1f} x faster ({theirs.cpu_seconds / ours.cpu_seconds:.1f} x in CPU time), ",
        end="",
    )
    print(f"{ours.memory / theirs.memory:.2f} of the memory")
    if not np.array_equal(np.isfinite(ours.scores), np.isfinite(theirs.scores)):
        sys.exit("the sides disagree on which frames have a score")
    for name, mine, reference in zip(METRICS, ours.scores, theirs.scores, strict=True):
        known = np.isfinite(reference)
        largest = np.abs(mine[known] - reference[known]).max(initial=0)
        print(f"{name}: largest difference of a frame {largest:.1e} dB, of {known.sum()} frames")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=180, help="length of the song (180)")
    parser.add_argument("--targets", type=int, default=4, help="number of targets (4)")
    parser.add_argument(
        "--songs", type=Path, help="folder of song folders with one WAV a stem; without: rendered stems"
    )
    return parser


def _measured(side: str, folder: str) -> Run:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_run, side, folder).result()


def _run(side: str, folder: str) -> Run:
    if side == "museval":
        from museval.metrics import bss_eval as museval_bss_eval
    else:
        from auralflow_core.metrics import bss_eval
    references, estimates = (np.load(Path(folder, f"{name}.npy")) for name in ("references", "estimates"))
    if side == "museval":
        # The layout and type in which musdb hands audio to museval.
        references, estimates = (np.moveaxis(audio, 1, 2).astype(np.float64) for audio in (references, estimates))
    before = _memory("VmRSS")
    start, cpu_start = time.perf_counter(), time.process_time()
    if side == "museval":
        scores = np.array(museval_bss_eval(references, estimates, window=SAMPLE_RATE, hop=SAMPLE_RATE)[:4])
    else:
        found = bss_eval(references, estimates)
        scores = np.stack([found.sdr, found.isr, found.sir, found.sar])
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return Run(seconds, cpu_seconds, _memory("VmHWM") - before, scores)


def _memory(field: str) -> float:
    """Return the process's memory in bytes, now (`VmRSS`) or at its peak (`VmHWM`); without /proc, the peak."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not `ru_maxrss`, which on Linux begins with the memory of the process that started this one.
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _stems(songs: Path | None, seconds: int, targets: int) -> Audio:
    """Return stems `(target, channel, time)` in 16 bits."""
    length = seconds * SAMPLE_RATE
    if songs is None:
        stems = [_rendered(number, length) for number in range(targets)]
    else:
        import soundfile

        files = [file for file in sorted(songs.glob("*/*.wav")) if file.stem != "mixture"][:targets]
        if len(files) < targets:
            sys.exit(f"{songs} has {len(files)} stems in its song folders, expected {targets}: folder/song/stem.wav")
        stems = [soundfile.read(file, dtype="float32", always_2d=True)[0].T for file in files]
    tiled = [np.tile(stem, -(-length // stem.shape[1]))[:, :length] for stem in stems]
    # A slow change of level, so that no two repetitions are equal.
    level = 0.8 + 0.2 * np.sin(np.arange(length) / length * 11, dtype=np.float32)
    return (np.round(np.stack(tiled) * level * 2**15) / 2**15).astype(np.float32)


def _rendered(number: int, length: int) -> Audio:
    """Return a stem of decaying notes in both channels, with noise of its own, `(channel, time)`."""
    random = np.random.default_rng(number)
    beat = SAMPLE_RATE // 4
    times = np.arange(beat) / SAMPLE_RATE
    notes = []
    for _ in range(-(-length // beat)):
        pitch = 55 * 2 ** (number + random.integers(24) / 12)
        tones = sum(np.sin(2 * np.pi * pitch * order * times) / order for order in range(1, 6))
        noise = lfilter([1], [1, -0.9], random.standard_normal((2, beat)))
        pan = random.uniform(0.2, 0.8, size=(2, 1))
        notes.append((0.1 * pan * tones + 0.01 * noise) * np.exp(-times * random.uniform(1, 12)))
    return np.concatenate(notes, axis=1)[:, :length].astype(np.float32)


def _separated(references: Audio) -> Audio:
    """Return estimates with leaks, a coloured level and noise."""
    random = np.random.default_rng(0)
    estimates = []
    for number, stem in enumerate(references):
        noise = 0.003 * random.standard_normal(stem.shape, dtype=np.float32)
        leak = 0.1 * references[(number + 1) % len(references)] if len(references) > 1 else 0
        estimates.append(lfilter([0.8, 0.15], [1], stem, axis=-1).astype(np.float32) + leak + noise)
    return np.stack(estimates).astype(np.float32)


if __name__ == "__main__":
    main()
