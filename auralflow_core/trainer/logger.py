"""What all training loggers share: which numbers, sounds and pictures there are, and what they are called."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from auralflow_core.config import Config
from auralflow_core.trainer.callbacks import Callback, Epoch, Step

if TYPE_CHECKING:
    from auralflow_core.trainer.loop import Trainer
    from auralflow_core.trainer.progress import Summary
    from auralflow_core.trainer.snippets import Snippet
    from auralflow_core.transforms import STFT


class Logger(Callback, ABC):
    """Base of training loggers; a subclass says how to open a run, how to write into it, and how to close it.

    Curves of steps have a point every `visuals.save_summary_steps` steps.

    Args:
        config: The configuration.
        folder: The model folder.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self.folder = folder

    @abstractmethod
    def open(self, step: int) -> None:
        """Begin a run, or go on with it after a step; what lies later was not saved and will come again."""

    @abstractmethod
    def write_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        """Write numbers by their names."""

    @abstractmethod
    def write_snippet(self, snippet: Snippet, target: str, stft: STFT, step: int) -> None:
        """Write the estimate of a target of an excerpt: its audio, and the picture that `snippet_figure` draws."""

    @abstractmethod
    def close(self) -> None:
        """End the run."""

    def on_start(self, trainer: Trainer) -> None:
        """Open the run."""
        self.open(trainer.progress.step)

    def on_step(self, trainer: Trainer, step: Step) -> None:
        """Write the numbers of a step, if this is one of those that are shown."""
        if step.step % self.config.visuals.save_summary_steps == 0:
            self.write_numbers(step_numbers(step), step.step)

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Write the losses and the learning rate of an epoch."""
        numbers = {"loss/train": epoch.train_loss, "loss/validation": epoch.valid_loss, "lr": epoch.lr}
        if epoch.score is not None:
            numbers[f"score/{trainer.config.validation.metric}"] = epoch.score
        self.write_numbers(numbers, epoch.step)

    def on_scores(self, trainer: Trainer, scores: Mapping[str, float]) -> None:
        """Write the scores of validation songs."""
        numbers = {f"scores/{name}": value for name, value in scores.items() if math.isfinite(value)}
        self.write_numbers(numbers, trainer.progress.step)

    def on_snippets(self, trainer: Trainer, snippets: list[Snippet]) -> None:
        """Write audio and pictures."""
        for snippet in snippets:
            for target in snippet.estimates:
                self.write_snippet(snippet, target, trainer.model.stft, trainer.progress.step)

    def on_end(self, trainer: Trainer, summary: Summary) -> None:
        """Close the run."""
        self.close()


def step_numbers(step: Step) -> dict[str, float]:
    """Return what is shown of a step, by name."""
    numbers = {
        "loss/step": step.loss,
        "lr/step": step.lr,
        "seconds/data": step.data_seconds,
        "seconds/compute": step.compute_seconds,
        "sequence/seconds": step.sample_length,
        "sequence/batch_size": float(step.batch_size),
        **{f"terms/{name}": value for name, value in step.terms.items()},
    }
    return numbers if step.gradient_norm is None else {**numbers, "gradient/norm": step.gradient_norm}
