"""A training on the terminal: a live bar, a line an epoch."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click

from auralflow_core.cli.output import duration, progress_bar
from auralflow_core.trainer import Callback, Epoch, Step, Summary, Trainer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_REASONS = {
    "max_epochs": "reached max_epochs",
    "plateau": "validation no longer improved",
    "max_minutes": "reached max_minutes",
    "interrupted": "interrupted",
}


class TrainingProgress(Callback):
    """Tells what is about to be trained, how it goes, and what came out.

    On a terminal a bar shows the epoch, the mean loss, chunks a second and the time left; elsewhere there is a line
    an epoch.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._stack = ExitStack()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._began = 0.0
        self._first_step = 0

    def __enter__(self) -> TrainingProgress:
        self._bar = self._stack.enter_context(progress_bar(quiet=self._quiet))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def on_start(self, trainer: Trainer) -> None:
        """Say what is going to be done."""
        assert self._bar is not None
        model, config = trainer.model, trainer.config
        count = sum(parameter.numel() for parameter in model.network.parameters())
        self._say(
            f"Training {model.config.model.type} ({count:,} parameters, {model.device}) to separate "
            f"{', '.join(model.targets)}"
        )
        length = model.config.dataset.sample_length
        self._say(
            f"{len(trainer.train_data.songs)} songs to train with, {len(trainer.valid_data.songs)} to validate with; "
            f"{len(trainer.train_data)} chunks of {length:g} s in {trainer.steps_per_epoch} steps an epoch; "
            f"at most {config.max_epochs} epochs"
            + (f" or {config.max_minutes:g} minutes" if config.max_minutes else "")
        )
        if trainer.progress.step:
            self._say(f"Going on from step {trainer.progress.step}, epoch {trainer.progress.epoch + 1}")
        self._began, self._first_step = time.monotonic(), trainer.progress.step
        self._task = self._bar.add_task("epoch 1", total=1.0, facts="")

    def on_step(self, trainer: Trainer, step: Step) -> None:
        """Move the bar."""
        progress = trainer.progress
        chunks = (step.step - self._first_step) * trainer.config.batch_size
        rate = chunks / max(1e-9, time.monotonic() - self._began)
        self._update(
            trainer,
            f"loss {progress.loss_sum / progress.chunks:.5f}  {rate:.2f} chunks/s",
        )

    def on_validation(self, trainer: Trainer, done: int, total: int) -> None:
        """Show how far validation is."""
        self._update(trainer, f"validating {done}/{total}")

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Print the epoch's line."""
        mark = "  best so far" if epoch.is_best else ""
        self._say(
            f"epoch {epoch.epoch:3d}  step {epoch.step:5d}  train {epoch.train_loss:.5f}  "
            f"validation {epoch.valid_loss:.5f}  lr {epoch.lr:.1e}  {duration(epoch.seconds)}{mark}"
        )
        if not trainer.config.silent_checkpoint:
            self._say(f"           saved {_relative(trainer.store.path(epoch.step))}")

    def on_end(self, trainer: Trainer, summary: Summary) -> None:
        """Say what was done."""
        self._say(
            f"Done: {_REASONS[summary.reason]} after {summary.steps} steps in {duration(summary.seconds)}; best "
            f"validation loss {summary.best_loss:.5f} at step {summary.best_step}"
        )

    def _update(self, trainer: Trainer, facts: str) -> None:
        assert self._bar is not None and self._task is not None
        description = f"epoch {trainer.progress.epoch + 1}"
        self._bar.update(self._task, description=description, completed=self._share_done(trainer), facts=facts)

    def _share_done(self, trainer: Trainer) -> float:
        """Return how much of this run is done, by steps or by minutes, whichever ends first."""
        total = trainer.config.max_epochs * trainer.steps_per_epoch - self._first_step
        done = (trainer.progress.step - self._first_step) / max(1, total)
        if trainer.config.max_minutes is None:
            return done
        return max(done, (time.monotonic() - self._began) / (60 * trainer.config.max_minutes))

    def _say(self, text: str) -> None:
        if self._quiet:
            return
        assert self._bar is not None
        if self._bar.console.is_terminal:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            click.echo(text)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
