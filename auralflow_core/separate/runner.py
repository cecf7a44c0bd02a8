"""Runs a model on the segments of one stream."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from auralflow_core.model import SeparationModel
from auralflow_core.processes import giving_back_memory
from auralflow_core.separate.base import Audio, Notify
from auralflow_core.separate.pipeline import threads
from auralflow_core.separate.segments import Segment

MAX_THREADS = 4

_setting_threads = threading.Lock()


class Runner:
    """Estimates batches of segments; when an accelerator's memory does not suffice, makes do with less.

    The batch is halved, down to one segment; if even that is too much, the rest of the stream goes on the CPU. On the
    CPU itself each segment is estimated alone: a matrix product may round otherwise for another batch size.

    Args:
        model: The model.
        on_cpu: Gives a copy of it on the CPU.
        batch_size: Segments that go through the network together, at most.
        tta: Whether to average with what becomes of swapped channels and inverted polarity.
        notify: Told what was done about the memory.
    """

    def __init__(
        self,
        model: SeparationModel,
        on_cpu: Callable[[], SeparationModel],
        batch_size: int,
        *,
        tta: bool = False,
        notify: Notify | None = None,
    ) -> None:
        self._model = model
        self._on_cpu = on_cpu
        self._batch_size = 1 if model.device.type == "cpu" else batch_size
        self._tta = tta
        self._notify = notify or (lambda _: None)

    def batches(self, segments: Iterable[Segment]) -> Iterator[list[Segment]]:
        """Gather neighbours of equal length."""
        batch: list[Segment] = []
        for segment in segments:
            if batch and (len(batch) == self._batch_size or batch[0].audio.shape != segment.audio.shape):
                yield batch
                batch = []
            batch.append(segment)
        if batch:
            yield batch

    def __call__(self, batch: list[Segment]) -> list[tuple[Segment, Audio]]:
        """Return each segment with its estimate `(target, channel, time)`."""
        done: list[tuple[Segment, Audio]] = []
        while len(done) < len(batch):
            part = batch[len(done) : len(done) + self._batch_size]
            estimates = self._try(torch.stack([segment.audio for segment in part]) if part[1:] else part[0].audio[None])
            if estimates is None:
                self._make_do_with_less()
            else:
                done += zip(part, estimates.numpy(), strict=True)
        return done

    def _try(self, audio: Tensor) -> Tensor | None:
        """Estimate `(batch, channel, time)`; give none if an accelerator's memory does not suffice."""
        if self._model.device.type == "cpu":
            return self._estimate(audio)
        try:
            return self._estimate(audio)
        except RuntimeError as error:
            # Not every backend raises OutOfMemoryError, which is a RuntimeError.
            if "out of memory" not in str(error).lower():
                raise
        return None

    def _make_do_with_less(self) -> None:
        # By now the error is gone, and with it what its traceback held of the device's memory.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        device = self._model.device
        if self._batch_size > 1:
            self._batch_size //= 2
            self._notify(f"{device}: out of memory; went on with {self._batch_size} segments at once")
        else:
            self._model = self._on_cpu()
            self._notify(f"{device}: out of memory with one segment; went on on the CPU (a shorter --segment may fit)")

    def _estimate(self, audio: Tensor) -> Tensor:
        estimates = self._model.separate(audio)
        if not self._tta:
            return estimates
        # A model that masks magnitudes does the same to both polarities.
        views = [estimates] if self._model.makes_mask else [estimates, -self._model.separate(-audio)]
        if audio.shape[1] > 1:
            views.append(self._model.separate(audio.flip(1)).flip(2))
        return torch.stack(views).mean(dim=0)


def default_threads() -> int:
    """Return how many segments a CPU computes at once: as many as torch has threads, within what memory allows."""
    return min(torch.get_num_threads(), MAX_THREADS)


@contextmanager
def one_core_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads in each of which torch computes on one core.

    How torch shares an operation among cores shows in the last bits of its result. Cores that each have a segment
    of their own do not share any, and wait less for each other.
    """
    with ExitStack() as stack:
        if count > 1:
            stack.enter_context(giving_back_memory())
        yield stack.enter_context(threads(count, "separate", _stay_on_one_core, (torch.get_num_threads(),)))


def _stay_on_one_core(usual: int) -> None:
    # torch keeps this number for each thread, and one for threads to come, which they take over when they first ask.
    with _setting_threads:
        torch.set_num_threads(1)
        torch.get_num_threads()
        helper = threading.Thread(target=torch.set_num_threads, args=(usual,))
        helper.start()
        helper.join()
