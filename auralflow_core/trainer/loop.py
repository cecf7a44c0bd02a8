"""The training loop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from auralflow_core.checkpoint import CheckpointStore
from auralflow_core.data.chunks import Batch, ChunkDataset, chunk_loader
from auralflow_core.device import moved_ahead, tf32
from auralflow_core.layout import ModelFolder
from auralflow_core.model import SeparationModel
from auralflow_core.trainer.batch_norm import measure_statistics
from auralflow_core.trainer.callbacks import Callback, Epoch, Step
from auralflow_core.trainer.distributed import check_processes, current_world
from auralflow_core.trainer.ema import WeightAverage
from auralflow_core.trainer.feed import Feed
from auralflow_core.trainer.journal import Journal, Position
from auralflow_core.trainer.no_number import NoNumberError, bad_batches, buffers, failure, roll_back, skip
from auralflow_core.trainer.passes import make_passes
from auralflow_core.trainer.progress import Progress, StopReason, Summary
from auralflow_core.trainer.resume import random_state, restore, set_random_state, snapshot
from auralflow_core.trainer.scores import score_whole_songs
from auralflow_core.trainer.signals import InterruptedTraining, stopping
from auralflow_core.trainer.spec_augment import attach_spec_augment
from auralflow_core.trainer.transfer import Transfer
from auralflow_core.trainer.validation import Validated, validate
from auralflow_core.trainer.writer import CheckpointWriter


class Trainer:
    """Trains a model on chunks, validates it after each epoch, and keeps its best and its latest checkpoints.

    A training that is stopped and resumed gives the same weights, to the bit, as one that is not: chunks depend on
    seed, epoch and index alone, and a checkpoint holds the random state and the position inside the epoch.

    Where `torchrun` started several processes, each makes a trainer, and together they train one model: they share each
    batch, and the first one alone saves and tells.

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
        self.world = current_world()
        check_processes(model, self.world)
        self.config = model.config.training
        self.valid_data = valid_data
        self.store = CheckpointStore(model.folder / "checkpoint")
        self.journal = Journal(ModelFolder(model.folder).journal, is_kept=self.world.is_main)
        self.progress = Progress()
        self.feed = Feed(train_data, self.config, self.world, model.device)
        self.passes = make_passes(model, self.world)
        _ = model.scheduler  # What is wrong with the optimizer's settings shows now.
        self.average = WeightAverage(model.network, self.config.ema.decay) if self.config.ema else None
        self._masks = attach_spec_augment(model)
        self._valid_loader, self._valid_sampler = chunk_loader(
            valid_data, self.config, self.world.rank, self.world.size
        )
        self.transfer: Transfer | None = None
        self._writer = CheckpointWriter(self.store, self.config.checkpointing.keep)
        self._callbacks = list(callbacks) if self.world.is_main else []
        self._interrupted = threading.Event()
        self._epoch_began = self._run_began = self._began = self._waited = 0.0

    @property
    def train_data(self) -> ChunkDataset:
        """The chunks to train with, of their current length."""
        return self.feed.data

    @property
    def position(self) -> Position:
        """Where the next step takes its batches."""
        progress = self.progress
        return Position(progress.step, progress.epoch, progress.batch, progress.stage, self.feed.batches)

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
        is_new = self.progress.step == max(0, self.progress.began_from) and not self.progress.rollbacks
        if is_new:
            torch.manual_seed(self.config.random_seed + self.world.rank)
        self.model.scheduler.plan(self.total_steps())
        config = self.model.config.model_dump(mode="json")
        self.journal.begin(self.progress.step, config, self.model.data_facts, anew=is_new)
        if is_new and self.config.on_nan == "rollback":
            self.save()  # what there is to go back to before the first checkpoint
        self._run_began = time.monotonic()
        self._began = self._run_began - self.progress.seconds
        self.tell("on_start")
        with tf32(self.config.tf32), self._writer, stopping(self._interrupted, is_patient=self.world.size > 1):
            reason = self._run()
        summary = self.progress.summary(reason, has_score=self.config.validation.metric != "loss")
        self.journal.end(self.progress.step)
        with self.averaged():
            if self.world.is_main and reason != "interrupted":
                summary = replace(summary, song_scores=score_whole_songs(self))
            self.tell("on_end", summary)
        if reason == "interrupted":
            self.world.barrier()  # `torchrun` ends the first process when another one has ended with an error.
        return summary

    def total_steps(self) -> int:
        """Return how many steps there will be at most; with a sequence schedule, if chunks grew no more."""
        steps = self.config.max_epochs * self.feed.steps
        return steps if self.config.max_steps is None else min(steps, self.config.max_steps)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Return the context in which the network has the weights that are validated and saved."""
        with self.average.applied() if self.average else nullcontext(), self.passes.whole():
            yield

    def _run(self) -> StopReason:
        while not self.progress.finished and (not self.is_done() or self._lacks_validation()):
            try:
                reason = self._train_epoch()
                self._close_epoch(is_last=reason is not None)
            except InterruptedTraining:
                self.save()
                return "interrupted"
            except NoNumberError as error:
                self._writer.wait()
                self.world.barrier()
                roll_back(self, error)
                continue
            if reason is not None:
                return reason
        if self.progress.finished:
            return "plateau"
        return "max_epochs" if self.progress.epoch >= self.config.max_epochs else "max_steps"

    def _train_epoch(self) -> StopReason | None:
        """Train until the epoch ends (none) or training has to stop (the reason)."""
        progress = self.progress
        self._epoch_began = time.monotonic()
        if self.is_done():
            return "max_steps"
        if 0 < progress.batch < self.feed.batches:
            self._validate_if_due()  # It was, where somebody asked to stop meanwhile.
        for group in self._groups():
            step = self._train_step(group)
            if step is not None:
                self.tell("on_step", step)
            if step is not None and progress.batch < self.feed.batches:
                self._keep_up(progress.step)
            if progress.finished:
                return "plateau"
            self._stop_if_asked()
            if self._is_time_up():
                return "max_minutes"
            if self.is_done():
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
            self.journal.go_on(self.position)
            asked = time.monotonic()
            for group in moved_ahead(self.feed.groups(progress.epoch, progress.batch), self.model.device):
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
        if [progress.epoch, progress.batch] in progress.avoided:
            skip(self, bad_batches(self, "its loss was no number before", len(group)))
            return None
        began, lr = time.monotonic(), self.lr()
        chunks = self.feed.chunks(progress.epoch, progress.batch, len(group))
        before = buffers(model.network) if self.config.on_nan == "skip" else {}
        loss, terms = self._compute_gradients(group, chunks)
        if not math.isfinite(loss):
            self._left_out(f"the loss is {loss}", len(group), before)
            return None
        if not model.optimizer_step():
            self._left_out("the gradient is no number", len(group), before)
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
        facts = (progress.step, progress.epoch + 1, progress.batch, loss, terms, self._waited, ended - began)
        return Step(*facts, lr, self.train_data.config.sample_length, self.feed.batch_size, model.gradient_norm)

    def _compute_gradients(self, group: Sequence[Batch], chunks: int) -> tuple[float, dict[str, float]]:
        """Compute the gradients of a step of so many chunks; return its loss and the network's own terms."""
        loss, terms = 0.0, dict[str, float]()
        for number, batch in enumerate(group):
            share = len(self.feed.share(self.progress.epoch, self.progress.batch + number)) / chunks
            self.model.set_data(*batch)
            loss += self.passes(share, is_first=number == 0, is_last=number == len(group) - 1) * share
            assert self.model.prediction is not None
            for name, term in self.model.prediction.terms.items():
                terms[name] = terms.get(name, 0.0) + float(term.detach()) * share
        loss, *values = self.world.sum([loss, *terms.values()])
        return loss, dict(zip(terms, values, strict=True))

    def _left_out(self, why: str, batches: int, before: dict[str, Tensor]) -> None:
        """Leave out batches whose loss or gradient is no number, or give up on them, as configured."""
        left_out = bad_batches(self, why, batches)
        if self.config.on_nan == "skip":
            self.model.network.load_state_dict(before, strict=False)  # Statistics took the batches in.
            skip(self, left_out)
            return
        raise failure(self, left_out)

    def _keep_up(self, step: int) -> None:
        """Validate or save inside an epoch, where it is time."""
        every = self.config.checkpointing.save_every_n_steps
        if not self._validate_if_due() and every and step % every == 0:
            self.save(is_waited_for=False)

    def _validate_if_due(self) -> bool:
        """Validate inside an epoch, and save, where it is time; return whether it was."""
        every, progress = self.config.validation.every_n_steps, self.progress
        if not every or progress.step % every or progress.validated_step == progress.step or self._is_throttled():
            return False
        self._validate_and_save(ends_epoch=False, counts=True)
        return True

    def _close_epoch(self, *, is_last: bool) -> None:
        """Validate and save; after a complete epoch adapt the learning rate and go on to the next one."""
        progress = self.progress
        if not progress.chunks:
            raise NoNumberError(
                f"epoch {progress.epoch + 1} has no batch whose loss is a number; lower training.lr (now "
                f"{self.lr():g}), then go on from the last good checkpoint with --resume"
            )
        is_complete = progress.batch >= self.feed.batches
        if progress.validated_step == progress.step and not is_complete:
            return
        if is_complete and self._is_throttled() and not (is_last or progress.epoch + 1 == self.config.max_epochs):
            progress.next_epoch()
            self.save()
            return
        self._validate_and_save(ends_epoch=is_complete, counts=is_complete)

    def _validate_and_save(self, *, ends_epoch: bool, counts: bool) -> None:
        """Validate, save and tell; `counts` says whether the schedule sees the result."""
        progress = self.progress
        lr, train_loss = self.lr(), progress.loss_sum / max(1, progress.chunks)
        with self.averaged():
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
            self.save()
            seconds = time.monotonic() - self._epoch_began
            facts = Epoch(epoch, progress.step, train_loss, found.loss, lr, seconds, is_best, found.score)
            self.tell("on_epoch", facts)

    def _first_mixtures(self, epoch: int) -> Iterator[Tensor]:
        """Yield the mixtures of an epoch's first batches."""
        for batch in range(min(self.config.batch_norm_batches, self.feed.batches)):
            keys = self.feed.share(epoch, batch) or self.feed.keys(epoch, batch)[:1]
            yield torch.stack([self.train_data.mixture(key) for key in keys])

    def _validate(self) -> Validated:
        total, before = len(self._valid_sampler), random_state(self.model.device)
        counts = [len(self._valid_sampler.share(0, batch)) for batch in range(total)]

        def tell(done: int) -> None:
            self.tell("on_validation", done, total)
            if done < total:
                self._stop_if_asked()

        try:
            measure_statistics(self.model, self._first_mixtures(self.progress.epoch), self.world)
            batches = zip(self._valid_loader, counts, strict=True)
            found = validate(self.model, batches, self.config.validation.metric, self.world, tell)
        except InterruptedTraining:
            set_random_state(before, self.model.device)  # It is done again, from its beginning.
            raise
        if not math.isfinite(found.loss):
            raise NoNumberError(
                f"the validation loss is {found.loss} after step {self.progress.step}; lower training.lr (now "
                f"{self.lr():g}), then go on from the last good checkpoint with --resume"
            )
        return found

    def save(self, *, is_waited_for: bool = True) -> None:
        """Save a checkpoint; keep the latest ones, the best one, what training began from, and nothing else.

        Args:
            is_waited_for: Whether to return when it is written, or as soon as copies of all tensors are made.
        """
        with self.averaged():
            parts = {"optimizer": self.passes.full(self.model.optimizer.state_dict()), "trainer": snapshot(self)}
            if self.world.is_main:
                self._writer.save(self.progress, *self.model.checkpoint(optim=False, **parts), waits=is_waited_for)
        self.world.barrier()

    def lr(self) -> float:
        """Return the learning rate of parameters that have none of their own."""
        return float(self.model.optimizer.param_groups[0]["lr"])

    def is_done(self) -> bool:
        """Return whether as many epochs or steps are done as are configured."""
        limit = self.config.max_steps
        return self.progress.epoch >= self.config.max_epochs or (limit is not None and self.progress.step >= limit)

    def _lacks_validation(self) -> bool:
        """Return whether training was stopped between its last step and the validation that follows."""
        return self.progress.chunks > 0 and self.progress.validated_step != self.progress.step

    def _stop_if_asked(self) -> None:
        """Raise where a process was told to stop."""
        if self.world.any(self._interrupted.is_set()):
            raise InterruptedTraining

    def _is_time_up(self) -> bool:
        limit = self.config.max_minutes
        return limit is not None and self.world.any(time.monotonic() - self._run_began >= 60 * limit)

    def _is_throttled(self) -> bool:
        pause, validated_at = self.config.validation.throttle_secs, self.progress.validated_at
        return pause > 0 and self.world.any(time.monotonic() - self._began - validated_at < pause)

    def tell(self, event: str, *facts: Any) -> None:
        """Call a method of every callback, in order."""
        for callback in self._callbacks:
            getattr(callback, event)(self, *facts)
