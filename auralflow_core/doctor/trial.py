"""A few steps of training in a process of its own: speed, memory, and whether one batch can be learned."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from auralflow_core.config import Config
from auralflow_core.doctor.finding import Finding
from auralflow_core.doctor.loading import Loading, measure_loading
from auralflow_core.errors import AuralflowError

if TYPE_CHECKING:
    from torch import Tensor

    from auralflow_core.data.chunks import ChunkDataset
    from auralflow_core.model import SeparationModel

MOST_STEPS = 100
_CHUNKS, _SONGS = 16, 8
_LOADING_SHARE = 0.2
_LEARNED, _ENOUGH_STEPS = 0.02, 10
_MUCH = 0.85
_GIB = 2**30
_WORKER_BYTES = 400 * 2**20


@dataclass(frozen=True)
class Trial:
    """What the steps showed.

    Attributes:
        losses: Loss of each step on one batch.
        step_seconds: A step's time, without loading.
        loading: How fast chunks are loaded.
        peak_bytes: Highest memory of the process.
        gpu_bytes: Highest memory on the accelerator; 0 without one.
        gpu_total: Its whole memory.
    """

    losses: list[float]
    step_seconds: float
    loading: Loading
    peak_bytes: int
    gpu_bytes: int = 0
    gpu_total: int = 0


def run_trial(config: Config, data: Path, seconds: float) -> Trial | Finding:
    """Train on one batch for some seconds in a child process; return what it showed, or why it could not.

    Args:
        config: The model's configuration; its weights start anew, and nothing is written.
        data: The data set's folder.
        seconds: How long to train: at most `MOST_STEPS` steps; four times as long for ten steps; always three.
    """
    # A process of its own: its peak memory is that of training alone, and running out of it ends no one else.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_train, config.model_dump(mode="json"), data, seconds).result()
        except BrokenProcessPool:
            return Finding(
                "memory", "error", "a step of training ended its process", "model", cause="not enough memory",
                next_step="lower batch_size or sample_length",
            )  # fmt: skip
        except AuralflowError as error:
            return Finding.of_error("overfit", "model", error, said="training cannot start: ")
        except (RuntimeError, ValueError, MemoryError) as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            is_memory = isinstance(error, MemoryError) or "memory" in reason.lower()
            return Finding(
                "memory" if is_memory else "overfit", "error", f"a step of training fails: {reason}", "model",
                cause="not enough memory" if is_memory else "sizes that do not fit the network",
                next_step="lower batch_size or sample_length" if is_memory else "see `auralflow show-model`",
            )  # fmt: skip


def _train(settings: dict[str, object], data: Path, seconds: float) -> Trial:
    import torch

    from auralflow_core.build import build_model
    from auralflow_core.config import validate
    from auralflow_core.data.cache import cached
    from auralflow_core.data.chunks import ChunkDataset
    from auralflow_core.data.open import pool
    from auralflow_core.trainer import Trainer
    from auralflow_core.trainer.memory import peak_memory
    from auralflow_core.trainer.smallest_batch import check_smallest_batch
    from auralflow_core.training import training_songs

    config = validate(Config, settings)
    training = config.training
    torch.manual_seed(training.random_seed)
    songs, valid_songs = training_songs(config, data)
    train_chunks = ChunkDataset(songs, config.dataset, seed=training.random_seed)
    valid_chunks = ChunkDataset(valid_songs, config.dataset, shuffle=False)
    model = build_model(config, folder=data)  # nothing is written
    model.forward_pass.check()
    check_smallest_batch(Trainer(model, train_chunks, valid_chunks))
    # Of a few songs: those that are compressed are decoded into the cache, as training does it.
    few = cached(pool(songs, _SONGS, training.random_seed), config.dataset, "train")
    chunks = ChunkDataset(few, config.dataset, seed=training.random_seed)
    loading = measure_loading(chunks, songs, training, seconds * _LOADING_SHARE)
    losses, times = _steps(model, _batch(chunks, training.batch_size), seconds)
    is_cuda = model.device.type == "cuda"
    return Trial(
        losses,
        median(times),
        loading,
        peak_memory(),
        torch.cuda.max_memory_allocated(model.device) if is_cuda else 0,
        torch.cuda.get_device_properties(model.device).total_memory if is_cuda else 0,
    )


def _batch(chunks: ChunkDataset, size: int) -> tuple[Tensor, ...]:
    """Return a batch as large as training's of the chunks with the loudest targets; there may be fewer chunks."""
    import torch

    from auralflow_core.data.chunks import ChunkKey

    loaded = [chunks[ChunkKey(0, number)] for number in range(min(len(chunks), max(size, _CHUNKS)))]
    loudest = sorted(loaded, key=lambda pair: -float(pair[1].square().sum()))[:size]
    full = [loudest[number % len(loudest)] for number in range(size)]
    return tuple(torch.stack(parts) for parts in zip(*full, strict=True))


def _steps(model: SeparationModel, batch: tuple[Tensor, ...], seconds: float) -> tuple[list[float], list[float]]:
    """Train on one batch; return the losses and the seconds of the steps."""
    import torch

    model.train()
    losses: list[float] = []
    times: list[float] = []
    while not is_enough(times, seconds):
        begin = time.perf_counter()
        torch.manual_seed(0)  # The same dropout in each step: losses differ by what is learned alone.
        model.set_data(*batch)
        model.forward()
        losses.append(model.compute_loss())
        model.backward()
        model.optimizer_step()
        times.append(time.perf_counter() - begin)
        if not math.isfinite(losses[-1]):
            break
    return losses, times


def is_enough(times: Sequence[float], seconds: float) -> bool:
    """Whether there are enough steps: `MOST_STEPS`, or what fits into the time; ten if they fit into four times of it.

    Args:
        times: The seconds of the steps so far; the first one is slower than the others.
        seconds: How long to train.
    """
    steps = len(times)
    if not 3 <= steps < MOST_STEPS:
        return steps >= MOST_STEPS
    # By the middle one: that the machine halted for a while is no reason to make fewer steps.
    return median(times[1:]) * (steps - 1) >= seconds * (1 if steps >= _ENOUGH_STEPS else 4)


def check_overfit(trial: Trial) -> Iterator[Finding]:
    """A loss that is no number, or that does not fall on one batch."""
    first, steps = trial.losses[0], len(trial.losses)
    needed = _LEARNED * steps / MOST_STEPS
    last = sum(trial.losses[-3:]) / len(trial.losses[-3:])
    value = f"{first:.4g} to {last:.4g} in {steps} steps"
    if not math.isfinite(last):
        yield Finding(
            "overfit", "error", "the loss is no number", "model", value, "a number", "a learning rate that is too high",
            "lower lr, or switch mixed precision off",
        )  # fmt: skip
    elif first - last < needed * abs(first) and steps >= _ENOUGH_STEPS:
        yield Finding(
            "overfit", "warning", "the loss on one batch does not fall", "model", value, f"{needed:.1%} lower",
            "a learning rate that does not fit, or frozen parameters", "try another lr; check `freeze` and the targets",
        )  # fmt: skip
    else:
        yield Finding("overfit", "info", "loss on one batch", "model", value)


def check_memory(trial: Trial, workers: int) -> Iterator[Finding]:
    """A step that needs nearly all memory."""
    from auralflow_core.trainer.memory import physical_memory

    # Each worker is a process with torch loaded.
    needed = trial.peak_bytes + workers * _WORKER_BYTES
    places = [("machine", needed, physical_memory()), ("GPU", trial.gpu_bytes, trial.gpu_total)]
    for where, used, total in places:
        if used and total:
            is_much = used > _MUCH * total
            yield Finding(
                "memory", "warning" if is_much else "info", "memory of training", where, f"{used / _GIB:.1f} GiB",
                f"below {total / _GIB:.1f} GiB", "large batches or chunks" if is_much else "",
                "lower batch_size, sample_length or num_workers" if is_much else "",
            )  # fmt: skip
