"""What the trainer costs: over a bare loop, in memory, until its first step, and while it saves; and GPUs' throughput.

    python benchmarks/train.py SONGS                SONGS: a folder in MUSDB18-HQ's layout
    python benchmarks/train.py SONGS --quick        the same with fewer steps and smaller models
    python benchmarks/train.py SONGS --only start checkpoints

overhead     CPU seconds of a step by `Trainer` with all its callbacks, over those of a bare PyTorch loop of the same
             model, batch and data in memory; the two take turns, step by step
memory       growth of the resident memory of a training after its first tenth
start        seconds from the command `auralflow train` to the end of its first step, with a small model, beyond those
             of `import torch`; commands take turns
checkpoints  share of the time that steps are held up where a checkpoint is saved every 200 steps
gpu          where there is one: steps a second in several precisions, compiled and not, and the share of the
             floating-point operations that the GPU does a second in a large product of bf16 matrices
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from auralflow_core.build import build_model, default_config
from auralflow_core.cli.training_progress import TrainingProgress
from auralflow_core.config import Config, validate
from auralflow_core.data.chunks import ChunkDataset
from auralflow_core.data.song import Song
from auralflow_core.trainer import Callback, Step, Trainer
from auralflow_core.trainer.memory import resident_memory
from auralflow_core.training import build_loggers

TYPE = "SpectrogramNetSimple"
SMALL = {"hidden_channels": 2, "num_fft": 256, "window_size": 256, "hop_length": 128, "batch_size": 2}
SAVED_EVERY = 200
LIMITS = {"overhead": 0.05, "memory": 4.0, "start": 5.0, "checkpoints": 0.02}
RATE = 44100

Figures = Iterator[tuple[str, str, bool | None]]


@dataclass(frozen=True)
class Options:
    """What is measured with: the songs, a scratch folder, and whether it has to be quick."""

    songs: Path
    folder: Path
    quick: bool


@dataclass(frozen=True)
class InMemory:
    """Audio `(channel, time)` as a source of songs."""

    audio: NDArray[np.float32]

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        """Return a part."""
        return self.audio[:, start : start + frames]


class Turns(Callback):
    """Lets a bare loop do a step after each of the trainer's; keeps the CPU seconds of both."""

    def __init__(self, bare: Callable[[], object]) -> None:
        self._bare = bare
        self._mark: float | None = None
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def on_step(self, trainer: Trainer, step: Step) -> None:
        """Let the bare loop do its step."""
        now = time.process_time()
        if self._mark is not None:
            self.ours.append(now - self._mark)
            self._bare()
            self.theirs.append(time.process_time() - now)
        self._mark = time.process_time()


class Resident(Callback):
    """Keeps the resident memory after each step, in MB."""

    def __init__(self) -> None:
        self.megabytes: list[float] = []

    def on_step(self, trainer: Trainer, step: Step) -> None:
        """Look at the memory."""
        self.megabytes.append(resident_memory() / 1e6)


class TimedTrainer(Trainer):
    """A trainer that knows how long its checkpoints hold it up."""

    blocked = 0.0

    def save(self, *, is_waited_for: bool = True) -> None:
        """Save, and take the time."""
        began = time.perf_counter()
        super().save(is_waited_for=is_waited_for)
        self.blocked += time.perf_counter() - began


def make_config(**settings: Any) -> Config:
    """Return a configuration of the model that is measured, with these settings, wherever they belong."""
    config = default_config(TYPE, "benchmark").model_dump()
    for name, value in settings.items():
        group = next(group for group in (*config.values(), config["model"]["params"]) if name in group)
        group[name] = value
    return validate(Config, config)


def train(config: Config, folder: Path, callbacks: list[Callback], make: type[Trainer] = Trainer) -> Trainer:
    """Train as `auralflow train` does, on songs in memory."""
    model = build_model(config, folder=folder)
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 20 * RATE)).astype(np.float32)
    songs = [
        Song(str(number), {"vocals": InMemory(audio[:1]), "drums": InMemory(audio[1:])}, None, RATE, 1, audio.shape[1])
        for number, audio in enumerate(noise)
    ]
    train_data = ChunkDataset(songs[1:], config.dataset)
    valid_data = ChunkDataset(songs[:1], config.dataset.model_copy(update={"max_num_samples": 2}), shuffle=False)
    with TrainingProgress(quiet=True) as progress:
        trainer = make(model, train_data, valid_data, [progress, *build_loggers(config, folder), *callbacks])
        trainer.fit()
    return trainer


def bare_loop(config: Config) -> Callable[[], Tensor]:
    """Return a step of plain PyTorch: the same network, loss, optimizer and sizes."""
    network = build_model(config).network.train()
    data = config.dataset
    window = torch.hann_window(data.window_size)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.training.lr)
    mixture, target = 0.1 * torch.randn(2, config.training.batch_size, data.chunk_frames)

    def magnitudes(audio: Tensor) -> Tensor:
        found = torch.stft(
            audio, data.num_fft, data.hop_length, data.window_size, window, pad_mode="constant", return_complex=True
        )
        magnitude: Tensor = found.abs().unsqueeze(1)
        return magnitude

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        mixed = magnitudes(mixture)
        loss: Tensor = (network(mixed) * mixed - magnitudes(target)).abs().mean()
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach()

    return step


def overhead(options: Options) -> Figures:
    """Measure the trainer's cost over the bare loop."""
    steps, sizes = (20, {"hidden_channels": 4}) if options.quick else (60, {"hidden_channels": 8})
    config = make_config(**sizes, batch_size=4, sample_length=1.0, max_steps=steps)
    turns = Turns(bare_loop(config))
    train(config, options.folder / "overhead", [turns])
    ours, theirs = (statistics.median(each[1:]) for each in (turns.ours, turns.theirs))
    ratio = statistics.median(one / other for one, other in zip(turns.ours[1:], turns.theirs[1:], strict=True)) - 1
    what = f"{ratio:+.1%} ({ours * 1000:.0f} and {theirs * 1000:.0f} ms of CPU a step)"
    yield "trainer over a bare loop", what, ratio <= LIMITS["overhead"]


def memory(options: Options) -> Figures:
    """Measure the growth of the resident memory over a training."""
    steps, resident = 400 if options.quick else 2000, Resident()
    config = make_config(**SMALL, sample_length=0.1, max_steps=steps)
    train(config, options.folder / "memory", [resident])
    tenth = steps // 10
    begin, end = (
        statistics.median(part) for part in (resident.megabytes[tenth : 2 * tenth], resident.megabytes[-tenth:])
    )
    yield f"memory over {steps} steps", f"{end - begin:+.1f} MB of {begin:.0f}", end - begin <= LIMITS["memory"]


_COMMAND = """
import os, sys, time
import torch
if len(sys.argv) > 1:
    def ended(*_):
        print(time.process_time(), flush=True)
        os._exit(0)
    from torch.optim.optimizer import register_optimizer_step_post_hook
    register_optimizer_step_post_hook(ended)
    from auralflow_core.cli import main
    main(["train", *sys.argv[1:]])
print(time.process_time(), flush=True)
"""


def start(options: Options) -> Figures:
    """Measure the time to the first step."""
    folder, settings = options.folder / "start", [f"--{name}={value}" for name, value in SMALL.items()]
    subprocess.run(
        [sys.executable, "-m", "auralflow", "config", folder, TYPE, *settings], check=True, stdout=subprocess.DEVNULL
    )
    turns = [(_timed(), _timed(str(folder), str(options.songs))) for _ in range(3 if options.quick else 7)]
    wall, cpu = (statistics.median(ours[unit] - bare[unit] for bare, ours in turns) for unit in (0, 1))
    what = f"{wall:.2f} s, {cpu:.2f} s of CPU"
    yield "first step after `import torch`", what, min(wall, cpu) <= LIMITS["start"]


def _timed(*words: str) -> tuple[float, float]:
    """Return the seconds that a command took to its first step, and those of CPU."""
    began = time.perf_counter()
    command = [sys.executable, "-c", _COMMAND, *words]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - began, float(printed.split()[-1])


def checkpoints(options: Options) -> Figures:
    """Measure how long checkpoints hold up steps."""
    sizes = SMALL if options.quick else {"batch_size": 2}
    saves = 3 if options.quick else 2
    every = SAVED_EVERY if options.quick else 3
    settings = {"checkpointing": {"save_every_n_steps": every}, "max_steps": every * saves + 1}
    config = make_config(**sizes, sample_length=1.0, n_chunks_per_song=1000, **settings)
    steps = StepTimes()
    trainer = train(config, options.folder / "checkpoints", [steps], TimedTrainer)
    held_up = steps.blocked_before_the_end / saves
    share = held_up / (SAVED_EVERY * statistics.median(steps.seconds))
    size = sum(tensor.nbytes for tensor in trainer.model.network.state_dict().values()) * 3 / 1e6
    what = (
        f"{share:.2%} ({held_up * 1000:.0f} ms each, {size:.0f} MB, steps of {statistics.median(steps.seconds):.3f} s)"
    )
    yield f"held up by checkpoints every {SAVED_EVERY} steps", what, share <= LIMITS["checkpoints"]


class StepTimes(Callback):
    """Keeps the seconds of steps, and those that checkpoints inside the epoch took."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.blocked_before_the_end = 0.0

    def on_step(self, trainer: Trainer, step: Step) -> None:
        """Take the times of a step and of the checkpoints before it."""
        assert isinstance(trainer, TimedTrainer)
        self.seconds.append(step.data_seconds + step.compute_seconds)
        self.blocked_before_the_end = trainer.blocked


def gpu(options: Options) -> Figures:
    """Measure steps a second on a GPU."""
    if not torch.cuda.is_available():
        yield "throughput on a GPU", "not measured: there is none", None
        return
    peak = _matrix_speed()
    yield "bf16 products of matrices", f"{peak / 1e12:.0f} TFLOP/s", None
    sizes = {"batch_size": 8 if options.quick else 32, "device": "cuda"}
    amp = {"use_mixed_precision": True}
    ways: dict[str, dict[str, Any]] = {
        "float32": {},
        "TF32": {"tf32": True},
        "fp16": {**amp, "mixed_precision_dtype": "fp16"},
        "bf16": amp,
        "bf16, channels last": {**amp, "channels_last": True},
        "bf16, compiled": {**amp, "compile": True},
        "bf16, channels last, compiled": {**amp, "channels_last": True, "compile": True},
        "bf16, gradient checkpointing": {**amp, "gradient_checkpointing": True},
    }
    for name, settings in ways.items():
        seconds, operations, gib = _gpu_step(make_config(**sizes, **settings))
        rate, share = sizes["batch_size"] / seconds, operations / seconds / peak  # type: ignore[operator]
        yield f"GPU, {name}", f"{rate:.0f} chunks/s, {share:.1%} of bf16's limit, {gib:.1f} GiB", None


def _gpu_step(config: Config) -> tuple[float, float, float]:
    """Return the seconds of a step, as the best of turns of eight, its operations, and its memory in GiB."""
    from auralflow_core.device import tf32
    from auralflow_core.trainer.memory import noise

    model = build_model(config)
    batch = tuple(part.to(model.device) for part in noise(model, config.training.batch_size))
    model.train()

    def step() -> None:
        model.set_data(*batch)
        model.forward()
        model.compute_loss()
        model.backward()
        model.optimizer_step()

    plain = build_model(config.model_copy(update={"training": config.training.model_copy(update={"compile": False})}))
    plain.train()
    with FlopCounterMode(display=False) as counter:
        plain.set_data(*batch)
        plain.forward()
        plain.compute_loss()
        plain.backward()
    del plain
    with tf32(config.training.tf32):
        for _ in range(4):
            step()
        torch.cuda.reset_peak_memory_stats()
        turns = []
        for _ in range(3):
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(8):
                step()
            torch.cuda.synchronize()
            turns.append((time.perf_counter() - began) / 8)
    return min(turns), counter.get_total_flops(), torch.cuda.max_memory_allocated() / 2**30


def _matrix_speed(size: int = 8192) -> float:
    """Return the floating-point operations a second in a product of bf16 matrices."""
    one = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(10):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(5):
            one @ one
        torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - began) / 5)
    return 2 * size**3 / best


MEASUREMENTS: dict[str, Callable[[Options], Figures]] = {
    "overhead": overhead,
    "memory": memory,
    "start": start,
    "checkpoints": checkpoints,
    "gpu": gpu,
}


def main() -> None:
    """Print the figures; exit with 1 where one misses its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    arguments = parser.parse_args()
    missed = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.only:
            for what, figure, is_good in MEASUREMENTS[name](Options(arguments.songs, Path(scratch), arguments.quick)):
                verdict = "" if is_good is None else f"   limit {LIMITS[name]:g}: {'ok' if is_good else 'MISSED'}"
                print(f"{what:44} {figure}{verdict}", flush=True)
                missed += [what] if is_good is False else []
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
