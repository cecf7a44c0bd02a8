"""Separation: memory and time against length, overhead, start-up, and where the time goes.

    python benchmarks/separate.py              all tables, of files up to an hour; takes long
    python benchmarks/separate.py --quick      the same of shorter files, each once
    python benchmarks/separate.py --only overhead shares
    python benchmarks/separate.py --only openunmix demucs --seconds 180    beside these packages, if installed

Each measurement runs in a process of its own, with as many threads as --threads says, on rendered stereo songs of
44.1 kHz in 16 bits; figures are medians of three. Memory is the peak above that of the process with the model loaded.

With --in-turns a package and ours run at once, each for a second while the other is stopped: where a machine's speed
drifts, it does so for both. Their CPU times can be compared then, and the clock's cannot.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from peers import COMPARISONS, comparison_table, estimate

from auralflow_core.processes import end_with_parent

RATE = 44100
MEGABYTE = 1e6
OVERHEAD_LIMIT, STARTUP_LIMIT, GROWTH_LIMIT = 3.0, 1.5, 50.0


@dataclass(frozen=True)
class Run:
    """What one process took; memory is in bytes."""

    seconds: float
    cpu_seconds: float
    memory: float


# What loads libraries before memory is counted, what prepares the work, and its arguments.
Job = tuple[Callable[[], None] | None, Callable[..., Callable[[], Any]], tuple[Any, ...]]


@dataclass(frozen=True)
class Setup:
    """How measurements are made: where files lie, how often, with how many threads."""

    folder: Path
    repeats: int
    threads: int
    in_turns: bool = False

    def measure(self, prepare: Callable[..., Callable[[], object]], *arguments: Any) -> Run:
        """Return the medians of several runs of what `prepare` gives; the preparation is not counted."""
        runs = [self.once(prepare, *arguments) for _ in range(self.repeats)]
        return Run(*(statistics.median(getattr(run, name) for run in runs) for name in Run.__dataclass_fields__))

    def once(
        self, prepare: Callable[..., Callable[[], Any]], *arguments: Any, libraries: Callable[[], None] | None = None
    ) -> Run:
        """Run what `prepare` gives in a new process; memory counts from after `libraries`, else after `prepare`."""
        with self._process() as process:
            return process.submit(_measured, prepare, arguments, libraries).result()

    def all(self, jobs: Mapping[str, Job]) -> dict[str, Run]:
        """Run several jobs, each in a new process, one after the other or in turns."""
        if not self.in_turns:
            return {
                side: self.once(prepare, *arguments, libraries=libraries)
                for side, (libraries, prepare, arguments) in jobs.items()
            }
        with ExitStack() as stack:
            processes = {side: stack.enter_context(self._process()) for side in jobs}
            numbers = {side: process.submit(os.getpid).result() for side, process in processes.items()}
            waiting = {}
            for side, (libraries, prepare, arguments) in jobs.items():
                waiting[side] = processes[side].submit(_measured, prepare, arguments, libraries)
                os.kill(numbers[side], signal.SIGSTOP)
            try:
                while running := [side for side, job in waiting.items() if not job.done()]:
                    for side in running:
                        os.kill(numbers[side], signal.SIGCONT)
                        wait([waiting[side]], timeout=1)
                        os.kill(numbers[side], signal.SIGSTOP)
            finally:  # a process that is stopped never ends
                for number in numbers.values():
                    os.kill(number, signal.SIGCONT)
            return {side: job.result() for side, job in waiting.items()}

    def _process(self) -> ProcessPoolExecutor:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(self.threads)
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent)

    def song(self, seconds: int) -> Path:
        """Render a song, once; return its file."""
        path = self.folder / f"{seconds}.wav"
        if not path.exists():
            random = np.random.default_rng(0)
            piece = random.normal(0, 0.1, (10 * RATE, 2)) * np.linspace(0.1, 1, 10 * RATE)[:, None]
            with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
                for _ in range(0, seconds, 10):
                    file.write(piece[: min(10, seconds) * RATE])
        return path


def _measured(
    prepare: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...], libraries: Callable[[], None] | None
) -> Run:
    """Measure the work; a function that it returns is called after that."""
    before = None
    if libraries:
        libraries()
        before = _memory("VmRSS")
    work = prepare(*arguments)
    before = before or _memory("VmRSS")
    start, cpu_start = time.perf_counter(), time.process_time()
    rest = work()
    run = Run(time.perf_counter() - start, time.process_time() - cpu_start, _memory("VmHWM") - before)
    if callable(rest):
        rest()
    return run


def _ours(type_: str | None, song: Path, output: Path) -> Callable[[], object]:
    """Separate a file with an untrained model, or with a network that does nothing."""
    from auralflow_core.separate import Options, Separator, separate_song

    model = _model(type_)
    separator = Separator(model)
    separator(np.zeros((2, RATE), np.float32), RATE)
    outputs = {name: output / f"{name}.wav" for name in separator.targets}
    return partial(separate_song, separator, song, outputs, Options())


def _bare(song: Path, output: Path) -> Callable[[], object]:
    """Read a file, transform it there and back in pieces of ten seconds, and write it."""
    import torch

    model = _model(None)
    model.istft(model.stft(torch.zeros(2, RATE)), RATE)
    output.mkdir(parents=True, exist_ok=True)

    def work() -> None:
        with (
            soundfile.SoundFile(song) as source,
            soundfile.SoundFile(output / "bare.wav", "w", source.samplerate, source.channels, "PCM_16") as copy,
            torch.no_grad(),
        ):
            for block in source.blocks(10 * RATE, dtype="float32", always_2d=True):
                audio = torch.from_numpy(block.T.copy())
                copy.write(model.istft(model.stft(audio), audio.shape[-1]).numpy().T)

    return work


def _model(type_: str | None) -> Any:
    import torch
    from torch import nn

    from auralflow_core.build import build_model, default_config
    from auralflow_core.config import Config, validate
    from auralflow_core.model import SpectrogramMaskModel

    class Nothing(nn.Module):
        """Masks of one."""

        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(1))

        def forward(self, magnitude: torch.Tensor) -> torch.Tensor:
            return self.one.expand(magnitude.shape)

    data: dict[str, Any] = default_config(type_, "model").model_dump() if type_ else {"model": {"type": "Nothing"}}
    data["training"] = {**data.get("training", {}), "device": "cpu"}
    data["dataset"] = {**data.get("dataset", {}), "num_channels": 2}
    config = validate(Config, data)
    model = build_model(config) if type_ else SpectrogramMaskModel(config, Nothing())
    model.eval()
    return model


def _memory(field: str) -> float:
    """Return the process's memory in bytes, now (`VmRSS`) or at its peak (`VmHWM`); without /proc, the peak."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not `ru_maxrss`, which on Linux begins with the memory of the process that started this one.
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def length_table(setup: Setup, lengths: list[int], type_: str) -> None:
    """Print memory and time against length, of a model and of a network that does nothing."""
    sides: dict[str, Callable[[Path], Run]] = {
        type_: lambda song: setup.measure(_ours, type_, song, setup.folder / "stems"),
        "nothing": lambda song: setup.measure(_ours, None, song, setup.folder / "stems"),
    }
    for side, measure in sides.items():
        print(f"\n{side:28}{'seconds':>10}{'CPU s':>10}{'MB':>10}{'x real time':>14}")
        found = {seconds: measure(setup.song(seconds)) for seconds in lengths}
        for seconds, run in found.items():
            speed = seconds / run.seconds
            figures = f"{run.seconds:10.1f}{run.cpu_seconds:10.1f}{run.memory / MEGABYTE:10.0f}{speed:14.1f}"
            print(f"{seconds:6} s{'':20}{figures}")
        growth = (found[lengths[-1]].memory - found[lengths[1]].memory) / MEGABYTE
        print(f"{lengths[-1]} s against {lengths[1]} s: {growth:+.0f} MB (limit for ours {GROWTH_LIMIT:.0f})")


def overhead_table(setup: Setup, seconds: int) -> None:
    """Print what a song costs with a network that does nothing, against reading, transforming and writing alone."""
    song = setup.song(seconds)
    bare = setup.measure(_bare, song, setup.folder / "bare")
    ours = setup.measure(_ours, None, song, setup.folder / "stems")
    print(f"\noverhead, {seconds} s{'seconds':>18}{'CPU s':>10}")
    for name, run in {"read, STFT, ISTFT, write": bare, "separate_song, no network": ours}.items():
        print(f"{name:28}{run.seconds:7.2f}{run.cpu_seconds:10.2f}")
    ratios = ours.seconds / bare.seconds, ours.cpu_seconds / bare.cpu_seconds
    print(f"{ratios[0]:.2f} x the time, {ratios[1]:.2f} x the CPU time (limit {OVERHEAD_LIMIT:g})")


def startup_table(setup: Setup) -> None:
    """Print what a command on a tiny file takes, against `import torch`."""
    program = [sys.executable, "-m", "auralflow"]
    folder = setup.folder / "tiny"
    settings = ["--hidden_channels", "2", "--num_fft", "128", "--window_size", "128", "--hop_length", "64"]
    _run([*program, "config", "tiny", "SpectrogramNetSimple", "--save", str(setup.folder), "--force", *settings])
    from auralflow_core.build import build_model
    from auralflow_core.config import load_config

    build_model(load_config(folder), folder=folder).save(1)
    song = setup.folder / "short.wav"
    soundfile.write(song, np.zeros((RATE // 10, 2)), RATE)
    found = {}
    for name, command in {
        "import torch": [sys.executable, "-c", "import torch"],
        "auralflow --help": [*program, "--help"],
        "auralflow separate": [*program, "separate", str(folder), str(song), "--save", str(setup.folder / "out")],
    }.items():
        seconds = []
        for number in range(setup.repeats):
            began = time.perf_counter()
            _run([*command[:-1], command[-1] + str(number)] if name == "auralflow separate" else command)
            seconds.append(time.perf_counter() - began)
        found[name] = statistics.median(seconds)
        print(f"{name:28}{found[name]:7.2f} s")
    print(f"{found['auralflow separate'] / found['import torch']:.2f} x import torch (limit {STARTUP_LIMIT:g})")


def shares_table(setup: Setup, seconds: int, type_: str) -> None:
    """Print each stage's share, each alone on one core over the same song."""
    song = setup.song(seconds)
    stages = {name: setup.measure(_stage, name, type_, song, setup.folder / "stage.wav") for name in STAGES}
    total = sum(run.cpu_seconds for name, run in stages.items() if name != "resample")
    print(f"\nstages, {seconds} s{'CPU s':>18}{'share':>8}")
    for name, run in stages.items():
        share = "" if name == "resample" else f"{run.cpu_seconds / total:8.1%}"
        print(f"{name:22}{run.cpu_seconds:10.2f}{share}")


STAGES = ("decode", "resample", "STFT", "network", "overlap-add", "encode")


def _stage(name: str, type_: str, song: Path, output: Path) -> Callable[[], object]:
    """Return one stage over a whole song."""
    import torch

    from auralflow_core.audio import AudioReader, AudioWriter, StreamResampler
    from auralflow_core.separate.segments import Cutter, overlap_add

    model = _model(type_)
    cutter = Cutter(model.config.separation, RATE)
    with AudioReader(song) as reader:
        blocks = list(reader.blocks(1 << 16))
    segments = list(cutter.cut(blocks, 2))
    magnitude = model.stft(segments[0].audio[None]).abs()

    def decode() -> None:
        with AudioReader(song) as reader:
            for _ in reader.blocks(1 << 16):
                pass

    def resample() -> None:
        there, back = StreamResampler(2, RATE, 48000), StreamResampler(2, 48000, RATE)
        for block in blocks:
            back.process(there.process(block))

    def transform() -> None:
        for segment in segments:
            model.istft(model.stft(segment.audio), segment.audio.shape[-1])

    def network() -> None:
        for _ in segments:
            model.network(magnitude)

    def join() -> None:
        estimates = ((segment, segment.audio.numpy()[None]) for segment in cutter.cut(blocks, 2))
        for _ in overlap_add(estimates, cutter.weights):
            pass

    def encode() -> None:
        with AudioWriter(output, RATE, 2, format="WAV", subtype="PCM_16") as writer:
            for block in blocks:
                writer.write(block)

    functions = dict(zip(STAGES, (decode, resample, transform, network, join, encode), strict=True))
    return torch.no_grad()(functions[name])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> None:
    """Measure and print."""
    tables = ("length", "overhead", "startup", "shares", *COMPARISONS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short files, each once")
    parser.add_argument("--repeats", type=int, help="runs of each measurement (3, quick: 1)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--in-turns", action="store_true", help="let ours and a package take turns of a second")
    parser.add_argument("--seconds", type=int, nargs="+", help="lengths beside peers (600 and 180, quick: 30)")
    parser.add_argument("--type", default="SpectrogramNetLSTM", help="model type (SpectrogramNetLSTM)")
    parser.add_argument("--only", nargs="*", choices=tables, default=tables)
    parser.add_argument("--folder", type=Path, help="where files are made and kept (a temporary folder)")
    options = parser.parse_args()
    lengths = [5, 10, 30, 60] if options.quick else [30, 180, 600, 3600]
    repeats = options.repeats or (1 if options.quick else 3)
    with _folder(options.folder) as folder:
        setup = Setup(folder, repeats, options.threads, options.in_turns)
        print(f"{options.threads} threads, median of {repeats}", flush=True)
        if "length" in options.only:
            length_table(setup, lengths, options.type)
        if "overhead" in options.only:
            overhead_table(setup, lengths[2])
        if "startup" in options.only:
            startup_table(setup)
        if "shares" in options.only:
            shares_table(setup, lengths[1], options.type)
        for package in COMPARISONS:
            if package in options.only:
                peer_tables(setup, package, options.seconds or ([30] if options.quick else None))


def peer_tables(setup: Setup, package: str, lengths: list[int] | None) -> None:
    """Print the comparisons with a package, if it is installed."""
    comparison = COMPARISONS[package]
    if not importlib.util.find_spec(package):
        print(f"\n{package} is not installed; `pip install {package}` to compare with it")
        return
    for seconds in lengths or [comparison.seconds]:
        minutes = estimate(comparison, seconds, setup.repeats, setup.threads) / 60
        print(f"\n{package}, {seconds} s: about {minutes:.0f} minutes", flush=True)
        comparison_table(setup, comparison, seconds)


if __name__ == "__main__":
    main()
