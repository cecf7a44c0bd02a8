"""How much memory a step of training takes: estimated before the first, or measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from auralflow_core.processes import end_with_parent

if TYPE_CHECKING:
    from auralflow_core.model import SeparationModel

Batches = list[tuple[int, int]]
"""Batches of so many chunks of so many samples."""
GIB = 2**30

# Numbers that an optimizer keeps for each parameter; most keep two.
_KEPT = {"sgd": 1, "muon": 1}
_NOISE = 0.1
_FREE_SHARE = 0.9
_MACHINE, _PROCESS = Path("/proc/meminfo"), Path("/proc/self/status")


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a step of training takes.

    Attributes:
        program: What the process holds besides the model; 0 where that is on an accelerator.
        weights: Weights, gradients, and what the optimizer and the moving average keep.
        activations: What the forward pass keeps of a batch for the backward pass.
    """

    program: int
    weights: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.program + self.weights + self.activations


def estimate(model: SeparationModel, batch_size: int) -> StepMemory | None:
    """Estimate the memory of a step by a forward pass of one chunk; nothing that training depends on is changed.

    Returns:
        The estimate; none where the network does not take one chunk alone.
    """
    training = model.config.training
    parameters = list(model.network.parameters())
    weights = sum(tensor.nbytes for tensor in (*parameters, *model.network.buffers()))
    trained = sum(parameter.nbytes for parameter in parameters if parameter.requires_grad)
    try:
        saved = saved_bytes(model)
    except (RuntimeError, ValueError):
        return None
    program = max(0, resident_memory() - weights) if model.device.type == "cpu" else 0
    kept = trained * (1 + _KEPT.get(training.optimizer.name, 2)) + weights * (2 if training.ema else 1)
    return StepMemory(program, kept, batch_size * saved)


def saved_bytes(model: SeparationModel, chunks: int = 1) -> int:
    """Return the bytes that a forward pass of noise in training mode keeps for the backward pass."""
    known = {tensor.untyped_storage().data_ptr() for tensor in model.network.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = noise(model, chunks)
    with unchanged(model), saved_tensors_hooks(pack, lambda tensor: tensor):
        model.train()
        model.set_data(*batch)
        model.forward()
        model.compute_loss()
        # The graph, and with it all that was saved, lives until here: no address was used twice.
        model.set_data(*batch)
    return sum(size for address, size in sizes.items() if address not in known)


def noise(model: SeparationModel, chunks: int, frames: int | None = None) -> tuple[Tensor, Tensor]:
    """Return a batch of noise: mixtures `(batch, channel, time)` and targets `(batch, target, channel, time)`."""
    data = model.config.dataset
    generator = torch.Generator().manual_seed(0)
    size = (chunks, len(data.targets), data.num_channels, frames or data.chunk_frames)
    targets = _NOISE * torch.randn(size, generator=generator)
    return targets.sum(1), targets


@contextmanager
def unchanged(model: SeparationModel) -> Iterator[None]:
    """Put back the random state, the mode and the network's buffers after the body."""
    was_training = model.training
    buffers = [(buffer, buffer.clone()) for buffer in model.network.buffers()]
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        model.network.train(was_training)


def largest_batch(make_model: Callable[[], SeparationModel], batches: Sequence[Batches], limit: int) -> list[int]:
    """Measure steps of ever larger batches until one does not fit; return the bytes of those that do.

    The steps are done in a process of its own, which leaves this one and its random numbers as they are, and which
    may run out of memory.

    Args:
        make_model: Makes the model; is pickled.
        batches: What to try, the smallest first: each is one step, or several, of so many chunks of so many samples.
        limit: Bytes that a step may take.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_probe, args=(make_model, batches, limit, sender), daemon=True)
    process.start()
    sender.close()
    peaks: list[int] = []
    try:
        while True:
            found = receiver.recv()
            if isinstance(found, Exception):
                raise found
            peaks.append(found)
    except EOFError:  # It ended, of its own will or for want of memory.
        pass
    finally:
        process.kill()
        process.join()
    return [peak for peak in peaks if peak <= limit]


def _probe(
    make_model: Callable[[], SeparationModel],
    batches: Sequence[Batches],
    limit: int,
    sender: Connection,
) -> None:
    """Send the highest memory after the steps of each batch, as long as the next one is expected to fit."""
    end_with_parent()
    try:
        model = make_model()
        _step_peak(model, batches[0])  # The optimizer's state is there from the second step on.
        done: list[tuple[int, int]] = []
        for batch in batches:
            chunks = batch[0][0]
            if _expected(done, chunks) > limit:
                return
            done.append((chunks, _step_peak(model, batch)))
            sender.send(done[-1][1])
    except (MemoryError, torch.OutOfMemoryError):
        return
    except Exception as error:
        sender.send(error)
    finally:
        sender.close()


def _expected(done: Sequence[tuple[int, int]], chunks: int) -> float:
    """Return the memory of a step with so many chunks, if it grows as it did last; 0 where that is not known."""
    if len(done) < 2:
        return done[-1][1] if done else 0
    (less, before), (more, now) = done[-2:]
    return now + (now - before) / (more - less) * (chunks - more)


def _step_peak(model: SeparationModel, batch: Batches) -> int:
    """Return the highest memory of the process, or of the model on an accelerator, after a step of each size."""
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(model.device)
    for chunks, frames in batch:
        model.train()
        model.set_data(*noise(model, chunks, frames))
        model.forward()
        model.compute_loss()
        model.backward()
        model.optimizer_step()
    if model.device.type == "cuda":
        return torch.cuda.max_memory_reserved(model.device)
    return peak_memory()


def free_memory(device: torch.device) -> int:
    """Return the bytes that a training may fill: most of what is free on the device."""
    if device.type == "cuda":
        return int(_FREE_SHARE * torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(_FREE_SHARE * torch.mps.recommended_max_memory())
    return int(_FREE_SHARE * (_from_proc(_MACHINE, "MemAvailable") or physical_memory()))


def physical_memory() -> int:
    """Return the bytes of the machine's memory; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 0


def resident_memory() -> int:
    """Return the bytes that this process holds; 0 where the system does not tell."""
    return _from_proc(_PROCESS, "VmRSS") or peak_memory()


def peak_memory() -> int:
    """Return the most bytes that this process has held; 0 where the system does not tell."""
    # What getrusage says begins, in a new process on Linux, with the peak of the one that started it.
    return _from_proc(_PROCESS, "VmHWM") or _peak_of_usage()


def _from_proc(file: Path, name: str) -> int:
    """Return a figure of one of Linux's files in bytes; 0 elsewhere."""
    try:
        with file.open(encoding="ascii") as lines:
            return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
    except OSError:
        return 0


def _peak_of_usage() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
