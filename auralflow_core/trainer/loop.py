"""The training loop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor

from auralflow_core.checkpoint import CheckpointStore
from auralflow_core.data.chunks import Batch, ChunkDataset, chunk_loader
from auralflow_core.errors import CheckpointError, TrainingError
from auralflow_core.model import SeparationModel
from auralflow_core.trainer.batch_norm import measure_statistics
from auralflow_core.trainer.callbacks import Callback, Epoch, Step

StopReason = Literal["max_epochs", "plateau", "max_minutes", "interrupted"]


@dataclass
class Progress:
    """Where a training stands; kept in every checkpoint."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    chunks: int = 0
    best_loss: float = math.inf
    best_step: int = -1
    seconds: float = 0.0
    finished: bool = False


@dataclass(frozen=True)
class Summary:
    """What a training did."""

    reason: StopReason
    epochs: int
    steps: int
    best_step: int
    best_loss: float
    seconds: float


class Trainer:
    """Trains a model on chunks, validates it after each epoch, and keeps its best and its latest checkpoint.

    A training that is stopped and resumed gives the same weights, to the bit, as one that is not: chunks depend on
    seed, epoch and index alone, and a checkpoint holds the random state and the position inside the epoch.

    Args:
        model: The model, in its model folder.
        train_data: Chunks to train with.
        valid_data: Chunks to validate with.
        callbacks: Told about steps and epochs, in order.
    """

    def __init__(
        self,
        model: SeparationModel,
        train_data: ChunkDataset,
        valid_data: ChunkDataset,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        assert model.folder is not None, "a model is trained in its folder"
        self.model = model
        self.config = model.config.training
        self.train_data, self.valid_data = train_data, valid_data
        self.store = CheckpointStore(model.folder / "checkpoint")
        self.progress = Progress()
        self._loader, self._sampler = chunk_loader(train_data, self.config)
        self._valid_loader, _ = chunk_loader(valid_data, self.config)
        self._callbacks = list(callbacks)
        self._interrupted = threading.Event()
        self._epoch_began = self._run_began = self._began = 0.0

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return len(self._sampler)

    def resume(self) -> None:
        """Go on from the latest checkpoint.

        Raises:
            CheckpointError: There is none, it is damaged, or it belongs to another model.
        """
        step = self.store.latest()
        model = self.model
        for load in (model.load_model, model.load_optim, model.load_scheduler, model.load_grad_scaler):
            load(step)
        self._keep_changed_lr(step)
        state = self.store.load(step, "trainer")
        self.progress = Progress(**state["progress"])
        self._check_position(step)
        torch.set_rng_state(state["rng"]["cpu"])
        if "cuda" in state["rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])

    def fit(self) -> Summary:
        """Train until the last epoch, a lasting plateau, the time limit or Ctrl-C; return what was done.

        Raises:
            TrainingError: The loss is no longer a number.
        """
        if self.progress.step == 0:
            torch.manual_seed(self.config.random_seed)
        self._run_began = time.monotonic()
        self._began = self._run_began - self.progress.seconds
        self.tell("on_start")
        with self._signals():
            reason = self._run()
        progress = self.progress
        summary = Summary(
            reason, progress.epoch, progress.step, progress.best_step, progress.best_loss, progress.seconds
        )
        self.tell("on_end", summary)
        return summary

    def _run(self) -> StopReason:
        progress = self.progress
        while progress.epoch < self.config.max_epochs and not progress.finished:
            reason = self._train_epoch()
            if reason == "interrupted":
                self._save()
                return reason
            self._close_epoch(is_complete=progress.batch >= self.steps_per_epoch)
            if reason is not None:
                return reason
        return "plateau" if progress.finished else "max_epochs"

    def _train_epoch(self) -> StopReason | None:
        """Train until the epoch ends (none) or training has to stop (the reason)."""
        progress = self.progress
        self._epoch_began = time.monotonic()
        self.model.train()
        self._sampler.start_at(progress.epoch, progress.batch)
        for batch in self._loader:
            step = self._train_step(batch)
            self.tell("on_step", step)
            if self._interrupted.is_set():
                return "interrupted"
            if self._is_time_up():
                return "max_minutes"
        return None

    def _train_step(self, batch: Batch) -> Step:
        model, progress = self.model, self.progress
        model.set_data(*batch)
        model.forward()
        loss = model.compute_loss()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {progress.step + 1} (epoch {progress.epoch + 1}, batch "
                f"{progress.batch + 1}); lower training.lr (now {self._lr():g}) or switch off use_mixed_precision, "
                "then go on from the last good checkpoint with --resume"
            )
        model.backward()
        model.optimizer_step()
        assert model.prediction is not None
        terms = {name: float(term.detach()) for name, term in model.prediction.terms.items()}
        progress.step += 1
        progress.batch += 1
        progress.loss_sum += loss * len(batch[0])
        progress.chunks += len(batch[0])
        progress.seconds = time.monotonic() - self._began
        return Step(progress.step, progress.epoch + 1, progress.batch, loss, terms)

    def _close_epoch(self, *, is_complete: bool) -> None:
        """Validate and save; after a complete epoch adapt the learning rate and go on to the next one."""
        progress = self.progress
        lr, train_loss = self._lr(), progress.loss_sum / max(1, progress.chunks)
        measure_statistics(self.model, self._first_mixtures(progress.epoch))
        valid_loss = self._validate()
        is_best = valid_loss < progress.best_loss
        if is_best:
            progress.best_loss, progress.best_step = valid_loss, progress.step
        epoch = progress.epoch + 1
        if is_complete:
            progress.finished = self.model.scheduler_step(valid_loss)
            progress.epoch, progress.batch, progress.loss_sum, progress.chunks = epoch, 0, 0.0, 0
        progress.seconds = time.monotonic() - self._began
        self._save()
        seconds = time.monotonic() - self._epoch_began
        self.tell("on_epoch", Epoch(epoch, progress.step, train_loss, valid_loss, lr, seconds, is_best))

    def _first_mixtures(self, epoch: int) -> Iterator[Tensor]:
        """Yield the mixtures of an epoch's first batches."""
        for batch in range(min(self.config.batch_norm_batches, self.steps_per_epoch)):
            yield torch.stack([self.train_data.mixture(key) for key in self._sampler.keys(epoch, batch)])

    def _validate(self) -> float:
        """Return the mean validation loss over chunks."""
        total, chunks = 0.0, 0
        self.model.eval()
        for number, batch in enumerate(self._valid_loader, start=1):
            self.model.set_data(*batch)
            self.model.test()
            total += self.model.compute_loss() * len(batch[0])
            chunks += len(batch[0])
            self.tell("on_validation", number, len(self._valid_loader))
        loss = total / chunks
        if not math.isfinite(loss):
            raise TrainingError(
                f"the validation loss is {loss} after step {self.progress.step}; lower training.lr (now "
                f"{self._lr():g}), then go on from the last good checkpoint with --resume"
            )
        return loss

    def _save(self) -> None:
        """Save a checkpoint; keep it, the best one, and nothing else."""
        progress = self.progress
        rng: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if self.model.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state_all()
        trainer = {"progress": asdict(progress), "rng": rng, "chunks_per_epoch": len(self.train_data)}
        self.model.save(progress.step, trainer={**trainer, "batch_size": self.config.batch_size})
        if progress.best_step == progress.step:
            self.store.mark_best(progress.step, progress.best_loss)
        self.store.keep_only({progress.step, progress.best_step})

    def _check_position(self, step: int) -> None:
        """Refuse to go on inside an epoch that is not the one that was left."""
        state = self.store.load(step, "trainer")
        now = {"chunks_per_epoch": len(self.train_data), "batch_size": self.config.batch_size}
        changed = [name for name, value in now.items() if state[name] != value]
        if changed and self.progress.batch:
            facts = ", ".join(f"{name} was {state[name]} and is {now[name]}" for name in changed)
            raise CheckpointError(
                f"{self.store.path(step)}: was saved inside an epoch that looks different now ({facts}); resume with "
                "the same data and batch_size"
            )

    def _keep_changed_lr(self, step: int) -> None:
        """Take the configured learning rate if it was changed since the checkpoint, else the checkpoint's."""
        trained = self.store.meta(step).get("config", {}).get("training", {}).get("lr", self.config.lr)
        if trained != self.config.lr:
            for group in self.model.optimizer.param_groups:
                group["lr"] = self.config.lr

    def _lr(self) -> float:
        return float(self.model.optimizer.param_groups[0]["lr"])

    def _is_time_up(self) -> bool:
        limit = self.config.max_minutes
        return limit is not None and time.monotonic() - self._run_began >= 60 * limit

    def tell(self, event: str, *facts: Any) -> None:
        """Call a method of every callback, in order."""
        for callback in self._callbacks:
            getattr(callback, event)(self, *facts)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let the first Ctrl-C or SIGTERM end training after the current step; a second Ctrl-C ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(number: int, frame: FrameType | None) -> None:
            if self._interrupted.is_set():
                raise KeyboardInterrupt
            self._interrupted.set()

        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
