"""The training loop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from auralflow_core.checkpoint import CheckpointStore
from auralflow_core.data.chunks import Batch, ChunkDataset, chunk_loader
from auralflow_core.errors import ConfigError, TrainingError
from auralflow_core.model import SeparationModel
from auralflow_core.trainer.batch_norm import measure_statistics
from auralflow_core.trainer.callbacks import Callback, Epoch, Step
from auralflow_core.trainer.ema import WeightAverage
from auralflow_core.trainer.feed import Feed
from auralflow_core.trainer.progress import Progress, StopReason, Summary
from auralflow_core.trainer.resume import restore, snapshot
from auralflow_core.trainer.signals import stopping
from auralflow_core.trainer.spec_augment import SpecAugment
from auralflow_core.trainer.transfer import Transfer
from auralflow_core.trainer.validation import Validated, validate


class Trainer:
    """Trains a model on chunks, validates it after each epoch, and keeps its best and its latest checkpoints.

    A training that is stopped and resumed gives the same weights, to the bit, as one that is not: chunks depend on
    seed, epoch and index alone, and a checkpoint holds the random state and the position inside the epoch.

    Args:
        model: The model, in its model folder.
        train_data: Chunks to train with.
        valid_data: Chunks to validate with.
        callbacks: Told about steps and epochs, in order.

    Raises:
        ConfigError: A setting does not fit the model.
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
        self.valid_data = valid_data
        self.store = CheckpointStore(model.folder / "checkpoint")
        self.progress = Progress()
        self.feed = Feed(train_data, self.config)
        _ = model.scheduler  # What is wrong with the optimizer's settings shows now.
        self.average = WeightAverage(model.network, self.config.ema.decay) if self.config.ema else None
        self._masks = self._spec_augment()
        self._valid_loader, _ = chunk_loader(valid_data, self.config)
        self.transfer: Transfer | None = None
        self._callbacks = list(callbacks)
        self._interrupted = threading.Event()
        self._epoch_began = self._run_began = self._began = self._waited = 0.0

    @property
    def train_data(self) -> ChunkDataset:
        """The chunks to train with, of their current length."""
        return self.feed.data

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in an epoch."""
        return self.feed.steps

    def resume(self) -> None:
        """Go on from the latest checkpoint; from its weights alone where it holds no more.

        Raises:
            CheckpointError: There is none, it is damaged, or it belongs to another model.
        """
        self.progress = restore(self)

    def fit(self) -> Summary:
        """Train until the last epoch or step, a lasting plateau, the time limit or Ctrl-C; return what was done.

        Raises:
            TrainingError: The loss is no longer a number.
        """
        if self.progress.step == max(0, self.progress.began_from):
            torch.manual_seed(self.config.random_seed)
        self.model.scheduler.plan(self.total_steps())
        self._run_began = time.monotonic()
        self._began = self._run_began - self.progress.seconds
        self.tell("on_start")
        with stopping(self._interrupted):
            reason = self._run()
        summary = self._summary(reason)
        with self.averaged():
            self.tell("on_end", summary)
        return summary

    def total_steps(self) -> int:
        """Return how many steps there will be at most; with a sequence schedule, if chunks grew no more."""
        steps = self.config.max_epochs * self.feed.steps
        return steps if self.config.max_steps is None else min(steps, self.config.max_steps)

    def averaged(self) -> AbstractContextManager[None]:
        """Return the context in which the network has the weights that are validated and saved."""
        return self.average.applied() if self.average else nullcontext()

    def _run(self) -> StopReason:
        progress = self.progress
        while not (progress.finished or self._is_done()):
            reason = self._train_epoch()
            if reason == "interrupted":
                self._save()
                return reason
            self._close_epoch(is_last=reason is not None)
            if reason is not None:
                return reason
        if progress.finished:
            return "plateau"
        return "max_epochs" if progress.epoch >= self.config.max_epochs else "max_steps"

    def _train_epoch(self) -> StopReason | None:
        """Train until the epoch ends (none) or training has to stop (the reason)."""
        progress = self.progress
        self._epoch_began = time.monotonic()
        for group in self._groups():
            step = self._train_step(group)
            if step is not None:
                self.tell("on_step", step)
            if step is not None and progress.batch < self.feed.batches:
                self._keep_up(progress.step)
            if progress.finished:
                return "plateau"
            if self._interrupted.is_set():
                return "interrupted"
            if self._is_time_up():
                return "max_minutes"
            if self._is_done():
                return "max_steps"
        return None

    def _groups(self) -> Iterator[list[Batch]]:
        """Yield the batches of each step, and take the time that they took; chunks grow between two steps."""
        progress = self.progress
        self._enter_stage()
        while progress.batch < self.feed.batches:
            self.model.train()
            if self._masks:
                self._masks.is_active = 0 <= self.config.start_spec_augment_after_n_epochs <= progress.epoch
            asked = time.monotonic()
            for group in self.feed.groups(progress.epoch, progress.batch):
                self._waited = time.monotonic() - asked
                progress.data_seconds += self._waited
                yield group
                if self._enter_stage():
                    break
                self.model.train()  # A validation inside the epoch leaves it in evaluation mode.
                asked = time.monotonic()

    def _enter_stage(self) -> bool:
        """Let chunks grow if this step is one at which they do; the share of the epoch that is done stays."""
        progress, stage = self.progress, self.feed.stage_at(self.progress.step)
        if stage == self.feed.stage:
            return False
        done, batches = progress.batch, self.feed.batches
        self.feed.enter(stage)
        progress.stage, progress.batch = stage, done * self.feed.batches // batches
        return True

    def _train_step(self, group: Sequence[Batch]) -> Step | None:
        """Update the parameters once; return nothing where the batches were skipped."""
        model, progress = self.model, self.progress
        began, chunks = time.monotonic(), sum(len(batch[0]) for batch in group)
        loss, terms = 0.0, dict[str, float]()
        for number, batch in enumerate(group):
            share = len(batch[0]) / chunks
            model.set_data(*batch)
            model.forward()
            loss += model.compute_loss() * share
            if not math.isfinite(loss):
                self._left_out(f"the loss is {loss}", len(group))
                return None
            model.backward(share, keep=number > 0)
            assert model.prediction is not None
            for name, term in model.prediction.terms.items():
                terms[name] = terms.get(name, 0.0) + float(term.detach()) * share
        if not model.optimizer_step():
            self._left_out("the gradient is no number", len(group))
            return None
        if self.average:
            self.average.update()
        progress.step += 1
        progress.batch += len(group)
        progress.loss_sum += loss * chunks
        progress.chunks += chunks
        ended = time.monotonic()
        progress.compute_seconds += ended - began
        progress.seconds = ended - self._began
        return Step(progress.step, progress.epoch + 1, progress.batch, loss, terms, self._waited, ended - began)

    def _left_out(self, why: str, batches: int) -> None:
        """Stop because of batches whose loss or gradient is no number, or leave them out, as configured."""
        progress = self.progress
        chunks = self.feed.describe(progress.epoch, progress.batch, batches)
        what = f"{why} at step {progress.step + 1} (epoch {progress.epoch + 1}, batch {progress.batch + 1})"
        if self.config.on_nan == "stop":
            raise TrainingError(
                f"{what}; lower training.lr (now {self._lr():g}) or switch off use_mixed_precision, then go on from "
                f"the last good checkpoint with --resume, or set on_nan to skip; the chunks: {chunks}"
            )
        progress.batch += batches
        progress.skipped += batches
        self.tell("on_skip", f"{what}: skipped {chunks}")

    def _keep_up(self, step: int) -> None:
        """Validate or save inside an epoch, where it is time."""
        validation, every = self.config.validation.every_n_steps, self.config.checkpointing.save_every_n_steps
        if validation and step % validation == 0 and not self._is_throttled():
            self._validate_and_save(ends_epoch=False, counts=True)
        elif every and step % every == 0:
            self._save()

    def _close_epoch(self, *, is_last: bool) -> None:
        """Validate and save; after a complete epoch adapt the learning rate and go on to the next one."""
        progress = self.progress
        if not progress.chunks:
            raise TrainingError(
                f"epoch {progress.epoch + 1} has no batch whose loss is a number; lower training.lr (now "
                f"{self._lr():g}), then go on from the last good checkpoint with --resume"
            )
        is_complete = progress.batch >= self.feed.batches
        if progress.validated_step == progress.step and not is_complete:
            return
        if is_complete and self._is_throttled() and not (is_last or progress.epoch + 1 == self.config.max_epochs):
            progress.next_epoch()
            self._save()
            return
        self._validate_and_save(ends_epoch=is_complete, counts=is_complete)

    def _validate_and_save(self, *, ends_epoch: bool, counts: bool) -> None:
        """Validate, save and tell; `counts` says whether the schedule sees the result."""
        progress = self.progress
        lr, train_loss = self._lr(), progress.loss_sum / max(1, progress.chunks)
        with self.averaged():
            measure_statistics(self.model, self._first_mixtures(progress.epoch))
            found = self._validate()
            is_best = found.value < progress.best_value
            if is_best:
                progress.best_loss, progress.best_value, progress.best_step = found.loss, found.value, progress.step
            epoch = progress.epoch + 1
            if counts:
                progress.finished = self.model.scheduler_step(found.value)
            if ends_epoch:
                progress.next_epoch()
            progress.seconds = progress.validated_at = time.monotonic() - self._began
            progress.validated_step = progress.step
            self._save()
            seconds = time.monotonic() - self._epoch_began
            facts = Epoch(epoch, progress.step, train_loss, found.loss, lr, seconds, is_best, found.score)
            self.tell("on_epoch", facts)

    def _first_mixtures(self, epoch: int) -> Iterator[Tensor]:
        """Yield the mixtures of an epoch's first batches."""
        for batch in range(min(self.config.batch_norm_batches, self.feed.batches)):
            yield torch.stack([self.train_data.mixture(key) for key in self.feed.keys(epoch, batch)])

    def _validate(self) -> Validated:
        total = len(self._valid_loader)
        found = validate(
            self.model,
            self._valid_loader,
            self.config.validation.metric,
            lambda done: self.tell("on_validation", done, total),
        )
        if not math.isfinite(found.loss):
            raise TrainingError(
                f"the validation loss is {found.loss} after step {self.progress.step}; lower training.lr (now "
                f"{self._lr():g}), then go on from the last good checkpoint with --resume"
            )
        return found

    def _save(self) -> None:
        """Save a checkpoint; keep the latest ones, the best one, what training began from, and nothing else."""
        progress = self.progress
        with self.averaged():
            self.model.save(progress.step, trainer=snapshot(self))
        if progress.best_step == progress.step:
            self.store.mark_best(progress.step, progress.best_loss)
        latest = self.store.steps()[-self.config.checkpointing.keep :]
        self.store.keep_only({*latest, progress.best_step, progress.began_from})

    def _spec_augment(self) -> SpecAugment | None:
        config = self.config.spec_augment
        if config is None:
            return None
        if self.model.domain != "magnitude":
            raise ConfigError(
                f"training.spec_augment: hides parts of magnitudes, but {self.model.config.model.type} works in the "
                f"{self.model.domain} domain; set it to null"
            )
        masks = SpecAugment(config)
        masks.attach(self.model.network)
        return masks

    def _summary(self, reason: StopReason) -> Summary:
        progress, has_score = self.progress, self.config.validation.metric != "loss"
        return Summary(
            reason,
            progress.epoch,
            progress.step,
            progress.best_step,
            progress.best_loss,
            progress.seconds,
            -progress.best_value if has_score else None,
            progress.data_seconds,
            progress.compute_seconds,
            progress.skipped,
        )

    def _lr(self) -> float:
        return float(self.model.optimizer.param_groups[0]["lr"])

    def _is_done(self) -> bool:
        """Return whether as many epochs or steps are done as are configured."""
        limit = self.config.max_steps
        return self.progress.epoch >= self.config.max_epochs or (limit is not None and self.progress.step >= limit)

    def _is_time_up(self) -> bool:
        limit = self.config.max_minutes
        return limit is not None and time.monotonic() - self._run_began >= 60 * limit

    def _is_throttled(self) -> bool:
        progress = self.progress
        return time.monotonic() - self._began - progress.validated_at < self.config.validation.throttle_secs

    def tell(self, event: str, *facts: Any) -> None:
        """Call a method of every callback, in order."""
        for callback in self._callbacks:
            getattr(callback, event)(self, *facts)
