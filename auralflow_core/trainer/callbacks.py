"""What the trainer tells those who listen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auralflow_core.trainer.loop import Trainer
    from auralflow_core.trainer.progress import Summary
    from auralflow_core.trainer.snippets import Snippet


@dataclass(frozen=True)
class Step:
    """One update of the parameters.

    Attributes:
        terms: The network's own loss terms.
        data_seconds: Time spent waiting for its batches.
        compute_seconds: Time spent on it.
        lr: The learning rate that it was done with, of the first group of parameters.
        sample_length: Length of its chunks in seconds.
        batch_size: Chunks in a batch.
        gradient_norm: The norm of the whole gradient before it was clipped, where somebody asked for it.
    """

    step: int
    epoch: int
    batch: int
    loss: float
    terms: Mapping[str, float] = field(default_factory=dict)
    data_seconds: float = 0.0
    compute_seconds: float = 0.0
    lr: float = 0.0
    sample_length: float = 0.0
    batch_size: int = 0
    gradient_norm: float | None = None


@dataclass(frozen=True)
class Epoch:
    """What was trained of an epoch, and the validation that followed; epochs count from 1.

    `score` is the metric in dB, where `validation.metric` is not the loss.
    """

    epoch: int
    step: int
    train_loss: float
    valid_loss: float
    lr: float
    seconds: float
    is_best: bool
    score: float | None = None


class Callback:
    """Base of everything that listens to a training; override what you need."""

    def on_start(self, trainer: Trainer) -> None:
        """Training begins, or goes on."""

    def on_step(self, trainer: Trainer, step: Step) -> None:
        """The parameters were updated."""

    def on_skip(self, trainer: Trainer, what: str) -> None:
        """Batches were left out, since their loss or gradient was no number; `what` names their chunks."""

    def on_validation(self, trainer: Trainer, done: int, total: int) -> None:
        """A number of the validation batches is done."""

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """An epoch ended, or a validation inside it, and its checkpoint is saved."""

    def on_snippets(self, trainer: Trainer, snippets: list[Snippet]) -> None:
        """Excerpts of validation songs were separated."""

    def on_scores(self, trainer: Trainer, scores: Mapping[str, float]) -> None:
        """Validation songs were scored: medians over songs by `metric/target`, NaN where none has a score."""

    def on_end(self, trainer: Trainer, summary: Summary) -> None:
        """Training ended, for whatever reason but an error."""
