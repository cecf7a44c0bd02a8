"""Checkpoints that are written beside the training."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any

from torch import Tensor

from auralflow_core.checkpoint import CheckpointStore
from auralflow_core.trainer.progress import Progress


class CheckpointWriter:
    """Writes a training's checkpoints, if need be in a thread; as a context it ends when everything is written.

    Args:
        store: Where they are kept.
        keep: How many of the latest are kept, besides the best one and what training began from.
    """

    def __init__(self, store: CheckpointStore, keep: int) -> None:
        self._store = store
        self._keep = keep
        self._threads = ThreadPoolExecutor(1, "checkpoint")
        self._task: Future[None] | None = None

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception:
            if error is None:  # Where the body failed, that is what has to be told.
                raise

    def save(
        self, progress: Progress, meta: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]], *, waits: bool
    ) -> None:
        """Write a checkpoint, after the one before is written, and remove what is not kept any more.

        Args:
            progress: Where the training stands.
            meta: Facts about the model.
            parts: State dicts by name.
            waits: Whether to return when it is written, or as soon as all tensors are copied.

        Raises:
            AuralflowError: It, or the one before, cannot be written.
        """
        self.wait()
        if waits:
            self._write(progress, meta, parts)
        else:
            self._task = self._threads.submit(self._write, replace(progress), meta, copied(parts))

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            AuralflowError: Something could not be written.
        """
        task, self._task = self._task, None
        if task is not None:
            task.result()

    def _write(self, progress: Progress, meta: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> None:
        self._store.save(progress.step, meta, parts)
        if progress.best_step == progress.step:
            self._store.mark_best(progress.step, progress.best_loss)
        latest = self._store.steps()[-self._keep :]
        self._store.keep_only({*latest, progress.best_step, progress.began_from})


def copied(state: Any) -> Any:
    """Return a state dict whose tensors are copies on the CPU, which training does not change any more."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(copied(value) for value in state)
    return state
