"""The processes of one training, on one machine or several: who they are, and what they tell each other.

All of them run the same program on their part of each batch. Numbers and facts go over gloo between CPUs, also where
gradients go over NCCL between GPUs: they are a few a step, which need no GPU to wait for them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from auralflow_core.errors import AuralflowError, ConfigError, TrainingError
from auralflow_core.model import SeparationModel

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

T = TypeVar("T")

# How long a process waits for the others: the first one validates songs and draws pictures meanwhile.
_PATIENCE = timedelta(minutes=30)
# A fault that all processes meet is told by the first one.
_PRECEDENCE_SECONDS = 0.5
# `torchrun` kills the others as soon as one has ended, and the one that tells a fault has to come to its end.
_TELLING_SECONDS = 5.0


class World:
    """A process that trains alone. `Processes` stands in its place where there are several.

    Every method has to be called by all processes, in the same order, and gives all of them the same answer.
    """

    rank = 0
    size = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and tells what all of them do."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add up numbers, each with those at its place in the other processes."""
        return list(values)

    def any(self, flag: bool) -> bool:
        """Return whether one of the processes says yes."""
        return self.sum([flag])[0] > 0

    def gather(self, value: T) -> list[T]:
        """Return what each process gives, by rank."""
        return [value]

    def barrier(self) -> None:
        """Wait until all are here."""

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Set tensors to their mean over the processes."""

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Set tensors to those of the first process."""


class Processes(World):
    """The processes that `torchrun` started."""

    def __init__(self) -> None:
        import torch.distributed

        self._group = torch.distributed
        self.rank, self.size = self._group.get_rank(), self._group.get_world_size()

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add up numbers, by rank: to the last bit the same in all processes."""
        own = torch.tensor(list(values), dtype=torch.float64)
        everyone = [torch.empty_like(own) for _ in range(self.size)]
        with _in_contact():
            self._group.all_gather(everyone, own)
        total: list[float] = torch.stack(everyone).sum(0).tolist()
        return total

    def gather(self, value: T) -> list[T]:
        """Return what each process gives, by rank."""
        found: list[Any] = [None] * self.size
        with _in_contact():
            self._group.all_gather_object(found, value)
        return found

    def barrier(self) -> None:
        """Wait until all are here."""
        self.sum([0.0])

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Set tensors to their mean over the processes."""
        for tensor in tensors:
            with _in_contact():
                self._group.all_reduce(tensor)
            tensor.div_(self.size)

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Set tensors to those of the first process."""
        for tensor in tensors:
            on_cpu = tensor.detach().cpu()
            with _in_contact():
                self._group.broadcast(on_cpu, 0)
            tensor.detach().copy_(on_cpu)


class LostContactError(TrainingError):
    """Another process does not answer any more."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"lost contact with another process of this training ({reason}): it ended or was killed, or its machine or "
            "the network failed; see what it said, then go on from the last checkpoint with --resume"
        )


def current_world() -> World:
    """Return this process and those that were started with it; they join when this is first asked."""
    if _is_alone():
        return World()
    import torch.distributed

    if not torch.distributed.is_initialized():
        _join()
    return Processes()


@contextmanager
def together() -> Iterator[World]:
    """Work with the other processes of a training, if there are any, and end when one of them fails.

    The first one to fail says why; the others then end without a word, with exit status 1.
    """
    if _is_alone():
        yield World()
        return
    store = _join()
    world = Processes()
    try:
        yield world
    except Exception as error:
        if world.rank:
            time.sleep(_PRECEDENCE_SECONDS)
        if store.add("auralflow/failed", 1) > 1:
            time.sleep(_TELLING_SECONDS)
            raise SystemExit(1) from None
        told = _with_place(error, world)
        if told is error:
            raise
        raise told from error
    torch.distributed.destroy_process_group()


def check_processes(model: SeparationModel, world: World) -> None:
    """Refuse settings that cannot work with this many processes.

    Raises:
        ConfigError: There are fewer chunks in a batch, or fewer GPUs, than processes, or the device is no choice.
    """
    if world.size == 1:
        return
    training, local = model.config.training, int(os.environ.get("LOCAL_RANK", 0))
    if training.batch_size < world.size:
        raise ConfigError(
            f"training.batch_size: {training.batch_size} chunks cannot be shared among {world.size} processes; it is "
            f"the size of the whole batch: set it to {world.size} or more, or start fewer processes"
        )
    if ":" in training.device or model.device.type not in ("cpu", "cuda"):
        raise ConfigError(
            f"training.device: {training.device} is one device, and there are {world.size} processes; set it to cpu, "
            "or to cuda, of which each process takes one"
        )
    if model.device.type == "cuda" and local >= torch.cuda.device_count():
        raise ConfigError(
            f"training.device: process {local + 1} of this machine finds {torch.cuda.device_count()} GPUs; start as "
            "many processes on it with --nproc-per-node"
        )


def _is_alone() -> bool:
    return int(os.environ.get("WORLD_SIZE", 1)) == 1


def _join() -> Store:
    """Meet the other processes; return the store that they share."""
    import torch.distributed
    from torch.distributed.rendezvous import rendezvous

    local, on_gpu = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.is_available()
    if on_gpu and local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    store: Store
    store, rank, size = next(iter(rendezvous("env://", timeout=_PATIENCE)))
    backend = "cpu:gloo,cuda:nccl" if on_gpu and torch.distributed.is_nccl_available() else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    return store


@contextmanager
def _in_contact() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostContactError(str(error).splitlines()[0]) from error


def _with_place(error: Exception, world: World) -> Exception:
    """Return an error that says which process met it, where it is not the first."""
    if (type(error) is RuntimeError and "gloo" in str(error)) or type(error).__name__ == "DistBackendError":
        return LostContactError(str(error).splitlines()[0])  # while gradients were added up
    if isinstance(error, AuralflowError) and world.rank:
        return TrainingError(f"{error} (process {world.rank + 1} of {world.size}, on {socket.gethostname()})")
    return error
