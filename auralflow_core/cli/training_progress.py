"""A training on the terminal: a live bar, a line an epoch."""

from __future__ import annotations

import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click

from auralflow_core.cli.output import duration, progress_bar
from auralflow_core.layout import ModelFolder
from auralflow_core.separate.plan import in_songs
from auralflow_core.trainer import Callback, Epoch, Step, Summary, Trainer
from auralflow_core.trainer.memory import GIB, estimate

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from auralflow_core.model import SeparationModel

_REASONS = {
    "max_epochs": "reached max_epochs",
    "max_steps": "reached max_steps",
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
        self._first_step = self._chunks = self._counted = 0

    def __enter__(self) -> TrainingProgress:
        self._bar = self._stack.enter_context(progress_bar(quiet=self._quiet))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def remark(self, line: str) -> None:
        """Say something about the songs."""
        if not self._quiet:
            click.echo(line)

    def on_start(self, trainer: Trainer) -> None:
        """Say what is going to be done."""
        assert self._bar is not None
        model, config = trainer.model, trainer.config
        self._say(f"Training {model.config.model.type} ({_parameters(model)}) to separate {', '.join(model.targets)}")
        precision = str(model.amp_dtype).removeprefix("torch.") if config.use_mixed_precision else "float32"
        batches = f"batches of {config.batch_size}"
        if config.backprop_every > 1:
            batches += f", {config.backprop_every} a step"
        how = ", ".join([f"criterion {config.criterion_name}", batches, *_switched_on(trainer)])
        self._say(f"on {model.device} in {precision} with {config.optimizer.name}, {how}")
        self._say_memory(trainer)
        length = model.config.dataset.sample_length
        self._say(
            f"{in_songs(len(trainer.train_data.songs))} to train with, "
            f"{len(trainer.valid_data.songs)} to validate with; "
            f"{_counted(len(trainer.train_data), 'chunk')} of {length:g} s in "
            f"{_counted(trainer.steps_per_epoch, 'step')} an epoch; at most {_counted(config.max_epochs, 'epoch')}"
            + (f", {_counted(config.max_steps, 'step')}" if config.max_steps else "")
            + (f" or {config.max_minutes:g} minutes" if config.max_minutes else "")
        )
        every = config.checkpointing.save_every_n_steps
        self._say(
            f"Checkpoints after each validation{f' and every {every} steps' if every else ''} in "
            f"{_relative(trainer.store.folder)}; the best and the latest {config.checkpointing.keep} are kept"
        )
        for line in trainer.transfer.lines() if trainer.transfer else ():
            self._say(line)
        self._say_where(trainer)
        self._began, self._first_step = time.monotonic(), trainer.progress.step
        self._counted = trainer.progress.chunks
        self._task = self._bar.add_task("epoch 1", total=1.0, facts="")

    def _say_memory(self, trainer: Trainer) -> None:
        """Say what a step is going to take, by a pass of one chunk that changes nothing."""
        # Several processes pass through the network together or not at all.
        if self._quiet or trainer.world.size > 1:
            return
        found = estimate(trainer.model, trainer.feed.batch_size)
        if found is not None:
            program = f"{found.program / GIB:.2f} for the program, " if found.program else ""
            self._say(
                f"A step takes about {found.total / GIB:.2f} GiB of memory: {program}{found.weights / GIB:.2f} for "
                f"weights, gradients and optimizer, {found.activations / GIB:.2f} for a batch's activations"
            )

    def _say_where(self, trainer: Trainer) -> None:
        """Say what training goes on from, if it does."""
        progress = trainer.progress
        if progress.step == progress.began_from:
            self._say(f"The checkpoint of step {progress.step} has weights only: a new training starts from them")
        elif progress.step:
            self._say(f"Going on from step {progress.step}, epoch {progress.epoch + 1}")
        if trainer.is_done():
            self._say("Nothing is left to train: raise --max_steps or --max_epochs to go on")

    def on_skip(self, trainer: Trainer, what: str) -> None:
        """Say which batch was left out."""
        self._say(f"           {what}")

    def on_step(self, trainer: Trainer, step: Step) -> None:
        """Move the bar."""
        progress = trainer.progress
        self._chunks += progress.chunks - self._counted if progress.chunks > self._counted else progress.chunks
        self._counted = progress.chunks
        rate = self._chunks / max(1e-9, time.monotonic() - self._began)
        self._update(
            trainer,
            f"loss {progress.loss_sum / progress.chunks:.5f}  {rate:.2f} chunks/s  {_waiting(trainer)}",
        )

    def on_validation(self, trainer: Trainer, done: int, total: int) -> None:
        """Show how far validation is."""
        self._update(trainer, f"validating {done}/{total}")

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Print the epoch's line."""
        mark = "  best so far" if epoch.is_best else ""
        score = "" if epoch.score is None else f"{_metric(trainer)} {epoch.score:.2f} dB  "
        self._say(
            f"epoch {epoch.epoch:3d}  step {epoch.step:5d}  train {epoch.train_loss:.5f}  "
            f"validation {epoch.valid_loss:.5f}  {score}lr {epoch.lr:.1e}  {duration(epoch.seconds)}{mark}"
        )
        if not trainer.config.silent_checkpoint:
            self._say(f"           saved {_relative(trainer.store.path(epoch.step))}")

    def on_end(self, trainer: Trainer, summary: Summary) -> None:
        """Say what was done."""
        score = "" if summary.best_score is None else f" and {_metric(trainer)} {summary.best_score:.2f} dB"
        best = f"best validation loss {summary.best_loss:.5f}{score} at step {summary.best_step}"
        self._say(
            f"Done: {_REASONS[summary.reason]} after {summary.steps} steps in {duration(summary.seconds)}; "
            f"{best if summary.best_step >= 0 else 'not validated yet'}"
        )
        skipped = f"; {summary.skipped} batches were skipped" if summary.skipped else ""
        self._say(
            f"Steps waited {duration(summary.data_seconds)} for data and computed {duration(summary.compute_seconds)}, "
            f"{_share_of_waiting(trainer):.0%} of the time waiting{skipped}"
        )
        if summary.song_scores:
            scores = ", ".join(f"{name} {value:.2f} dB" for name, value in summary.song_scores.items())
            self._say(f"Whole validation songs, medians: {scores}")
        self._say_next(trainer, summary)

    def _say_next(self, trainer: Trainer, summary: Summary) -> None:
        """Say where the best checkpoint lies, and what can be done with it."""
        model, paths = _relative(trainer.store.folder.parent), trainer.model.data_facts.get("path", "DATA")
        data = " ".join(map(shlex.quote, [paths] if isinstance(paths, str) else paths))
        folder = shlex.quote(str(model))
        if summary.best_step >= 0:
            self._say(f"Best checkpoint: {_relative(trainer.store.path(summary.best_step))}")
        self._say(f"Score it:     auralflow test {folder} {data}")
        self._say(f"Separate:     auralflow separate {folder} SONG")
        if trainer.model.config.visuals.tensorboard:
            runs = ModelFolder(trainer.store.folder.parent).runs
            self._say(f"See curves:   tensorboard --logdir {shlex.quote(str(_relative(runs)))}")

    def _update(self, trainer: Trainer, facts: str) -> None:
        assert self._bar is not None and self._task is not None
        description = f"epoch {trainer.progress.epoch + 1}"
        self._bar.update(self._task, description=description, completed=self._share_done(trainer), facts=facts)

    def _share_done(self, trainer: Trainer) -> float:
        """Return how much of this run is done, by steps or by minutes, whichever ends first."""
        total = trainer.total_steps() - self._first_step
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


def _parameters(model: SeparationModel) -> str:
    counts = [(each.numel(), each.requires_grad) for each in model.network.parameters()]
    trained, total = sum(count for count, is_trained in counts if is_trained), sum(count for count, _ in counts)
    return f"{total:,} parameters" if trained == total else f"{total:,} parameters, {trained:,} of them trained"


def _switched_on(trainer: Trainer) -> list[str]:
    """Name the settings of speed and memory that are on."""
    config = trainer.config
    names = {"compile": "compiled", "channels_last": "channels last", "tf32": "TF32"}
    names |= {"gradient_checkpointing": "gradient checkpointing"}
    return [name for setting, name in names.items() if getattr(config, setting)]


def _metric(trainer: Trainer) -> str:
    return {"si_sdr": "SI-SDR", "usdr": "uSDR"}[trainer.config.validation.metric]


def _waiting(trainer: Trainer) -> str:
    """Say whether steps wait for data or data for steps."""
    share = _share_of_waiting(trainer)
    return f"{share:.0%} waiting for data" if share > 0.5 else f"computing, {share:.0%} waiting for data"


def _share_of_waiting(trainer: Trainer) -> float:
    data, compute = trainer.progress.data_seconds, trainer.progress.compute_seconds
    return data / max(1e-9, data + compute)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
